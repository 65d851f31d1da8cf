"""`fal-image keys` and `fal-image config`: what an owner does before and besides serving.

A key is shown once and kept nowhere. Of secrets kept elsewhere only so much is shown as tells
one from another. Refuses to know how the command is composed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from .. import app
from ..access import ANONYMOUS
from ..endpoint import TOKEN, URL, deployed
from ..jobs import base32
from ..keyring import KeyUnavailable, with_fal_key
from ..logs import redact
from ..settings import FAL_KEY_NAMES, TABLE, Settings, load
from .output import EXIT_USAGE, AsJson, Output, usage

KEY_PREFIX = "fi_"
KEY_BYTES = 20  # 160 bits: no number of guesses finds one

# A colon is left to the names of platforms' users and tickets' holders: no key may be one of them.
_CALLER = re.compile(r"[A-Za-z0-9_.@/-]{1,64}")
_PLATFORMS_OWN = frozenset({ANONYMOUS, "iam"})

SHOWN_START, SHOWN_END = 4, 2
MIN_SHOWN_CHARS = 20  # of a shorter secret, six characters would be too much
_USERINFO = re.compile(r"(//)[^/?#@\s,]*@")

keys = typer.Typer(help="API keys of your callers.", no_args_is_help=True)


def new_key(
    name: Annotated[str, typer.Argument(help="The caller: who asks, and whose pictures they are.")],
    as_json: AsJson = False,
) -> None:
    """Make a key for a caller, and what the endpoint must know of it.

    The key is shown this once. The endpoint gets its SHA-256 only, as one more pair in
    FAL_IMAGE_API_KEYS; a caller may have several keys, so that one replaces another without haste.
    """
    out = Output(as_json)
    with out.ending():
        if not _CALLER.fullmatch(name) or name in _PLATFORMS_OWN:
            raise usage(
                "NAME: must be 1 to 64 letters, digits and _ . @ / -, and not "
                f"{' or '.join(sorted(_PLATFORMS_OWN))}"
            )
        key, pair = made_key(name, secrets.token_bytes)
        lines = (
            f"key, for {name}; it is not shown again:\n  {key}",
            f"append to FAL_IMAGE_API_KEYS, after a comma if there are others:\n  {pair}",
        )
        out.show({"caller": name, "key": key, "apiKeys": pair}, lines)


def made_key(caller: str, randomness: Callable[[int], bytes]) -> tuple[str, str]:
    """A new key, and its pair for FAL_IMAGE_API_KEYS."""
    key = KEY_PREFIX + base32(randomness(KEY_BYTES))
    return key, f"{caller}={hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True)
class Line:
    """A setting in force. `value` is None where there is none, not even a default."""

    name: str
    value: str | None
    default: bool


def config(as_json: AsJson = False) -> None:
    """Print the settings in force, secrets masked, and what is wrong with them.

    Ends with 2 if anything is wrong. It reads fal's key where it is kept, and asks fal nothing.
    """
    out = Output(as_json)
    settings = _checked(os.environ)
    lines = list(in_force(os.environ, settings))
    said = [*settings.secrets, settings.fal_key or "", *(settings.fal_key or "").split(":")]
    problems, warnings = (
        [_cleaned(text, said) for text in texts] for texts in (settings.problems, settings.warnings)
    )
    shown = {line.name: {"value": line.value, "default": line.default} for line in lines}
    told = [_told(line) for line in lines]
    told += [typer.style(f"warning: {text}", fg="yellow") for text in warnings]
    told += [typer.style(f"problem: {text}", fg="red") for text in problems]
    with out.ending():
        out.show({"settings": shown, "warnings": warnings, "problems": problems}, told)
    if problems:
        raise typer.Exit(EXIT_USAGE)


def _checked(environ: Mapping[str, str]) -> Settings:
    """The settings, with everything that is wrong with them in their problems."""
    settings = load(environ)
    try:
        settings = with_fal_key(settings, environ)
    except KeyUnavailable as error:
        problems = (*settings.problems, str(error))
        settings = replace(settings, problems=problems, fal_key_ssm_param=None)
    settings = app.compose(settings, environ=environ).settings
    return replace(settings, problems=tuple(_that_count(settings, environ)))


def _that_count(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """The problems of the settings and of the endpoint to ask, which needs no storage here."""
    try:
        asks_elsewhere = deployed(environ) is not None
    except ValueError as error:
        asks_elsewhere = True
        yield str(error)
    for problem in settings.problems:
        is_missing = settings.storage_url is None and problem.startswith("FAL_IMAGE_STORAGE_URL:")
        if not (asks_elsewhere and is_missing):
            yield problem


def in_force(environ: Mapping[str, str], settings: Settings) -> Iterator[Line]:
    """Every setting as the environment spells it; one with a problem is not in force."""
    refused = {problem.partition(":")[0] for problem in settings.problems}
    rows = [(name, "") for name in (*FAL_KEY_NAMES, URL, TOKEN)]
    rows += [(row.name, row.default) for row in TABLE]
    for name, default in rows:
        text = environ.get(name, "").strip()
        if not text:
            yield Line(name, default or None, True)
        elif name in refused:
            yield Line(name, "(cannot be used)", False)
        else:
            yield Line(name, _shown(name, text, settings), False)


def _shown(name: str, text: str, settings: Settings) -> str:
    """The value of a setting, as far as anybody may see it."""
    if name in {"FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET", TOKEN}:
        return masked(text)
    if name == "FAL_IMAGE_SECRET":
        return ",".join(masked(secret) for secret in settings.secrets)
    if name == "FAL_IMAGE_API_KEYS":
        return ",".join(dict.fromkeys(caller for caller, _ in settings.api_keys))
    return _cleaned(text, ())


def masked(secret: str) -> str:
    """Enough of a long secret to tell it from another one, nothing of a short one."""
    if len(secret) < MIN_SHOWN_CHARS:
        return "***"
    return f"{secret[:SHOWN_START]}…{secret[-SHOWN_END:]}"


def _cleaned(text: str, known: Sequence[str]) -> str:
    """The text without users of URLs, without known secrets and what looks like one."""
    for secret in known:
        if len(secret) > SHOWN_START + SHOWN_END:
            text = text.replace(secret, "***")
    return redact(_USERINFO.sub(r"\1***@", text))


def _told(line: Line) -> str:
    if line.value is None:
        return f"{line.name} (unset)"
    return f"{line.name}={line.value}{' (default)' if line.default else ''}"
