"""cloudbaserc.json as the CloudBase CLI reads it, with `{{env.NAME}}` filled in from .env files and
the shell.

The CLI puts values into the text of the file as they are, an unset one as nothing, and makes an
object of a text that reads as JSON for one; both are done here too, because what is checked must
be what it deploys. Refuses to know what any field means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

NAME = "cloudbaserc.json"
ENV_FILES = (".env", ".env.local")  # the later one wins, and the shell over both

_TEMPLATE = re.compile(r"\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_LINE = re.compile(r"\s*([\w.-]+)\s*=\s*(.*)")
_BREAKS_JSON = re.compile(r'["\\\x00-\x1f]')


def variables(folder: Path, shell: Mapping[str, str]) -> dict[str, str]:
    """What `{{env.NAME}}` may name: the shell's variables over those of the folder's .env files."""
    found: dict[str, str] = {}
    for name in ENV_FILES:
        path = folder / name
        if path.is_file():
            found |= _assigned(path.read_text(encoding="utf-8-sig", errors="replace"))
    return {**found, **shell}


def _assigned(text: str) -> dict[str, str]:
    """The assignments of a .env file; the CLI passes over every line that is none, `export` too."""
    lines = [_LINE.fullmatch(line) for line in re.split(r"[\n\r]", text)]
    return {line[1]: _unquoted(line[2].strip()) for line in lines if line}


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace("\\n", "\n") if text[0] == '"' else text[1:-1]
    return text


def names_in(part: object) -> set[str]:
    """The variables that a part of the file asks for."""
    return {name for _, text in _texts(part, "") for name in _TEMPLATE.findall(text)}


def unreadable(config: object, given: Mapping[str, str]) -> Iterator[str]:
    """What the CLI could not fill in as it is meant, a sentence each. No value is among them."""
    for name in sorted(names_in(config)):
        if _BREAKS_JSON.search(given.get(name, "")):
            yield (
                f"{name}: holds a quote, a backslash or a line break, and the CloudBase CLI cannot "
                f"put that into {NAME}"
            )
        elif not isinstance(_parsed(given.get(name, "")), str):
            yield f"{name}: reads as JSON, and the CloudBase CLI would make an object of it"
    for at, text in _texts(config, ""):
        if "{{" in _TEMPLATE.sub("", text):
            yield f"{at}: holds '{{{{', and only {{{{env.NAME}}}} is filled in"


def filled(part: object, given: Mapping[str, str]) -> object:
    """A part of the file as the CLI deploys it."""
    if isinstance(part, dict):
        return {name: filled(value, given) for name, value in part.items()}
    if isinstance(part, list):
        return [filled(value, given) for value in part]
    if isinstance(part, str):
        return _parsed(_TEMPLATE.sub(lambda found: given.get(found[1], ""), part))
    return part


def _parsed(text: str) -> object:
    """The text, or the object, list or null that it is the JSON of."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (dict, list)) else text


def _texts(part: object, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _texts(value, f"{at}.{name}" if at else str(name))
    elif isinstance(part, list):
        for place, value in enumerate(part):
            yield from _texts(value, f"{at}[{place}]")
    elif isinstance(part, str):
        yield at, part
