"""Whether a deployed function's time, memory and variables do for what it has to do.

Judges what a cloud said of it. Refuses to know which cloud that is and how it was asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..settings import FAL_KEY_NAMES, PREFIX, Settings, load
from .findings import Finding, failed, ok, warning

# CloudBase recipe for fal, "Common errors": 60 s for schnell, 120 to 300 s for pro and kontext;
# 256 MB are too few for large pictures, 512 or 1024 MB are not.
MIN_TIMEOUT_S = 60
SLOW_TIMEOUT_S = 120
MAX_TIMEOUT_S = 900  # of both clouds (AWS Lambda guide, "Lambda quotas"; Tencent SCF docs)
MIN_MEMORY_MB = 256
GOOD_MEMORY_MB = 512

# Of a cold start and of storing and answering: with the default wait the sum is MIN_TIMEOUT_S.
BESIDE_THE_WAIT_S = 5

_SLOW_WORDS = {"pro", "kontext"}
_ONLY_HERE = {f"{PREFIX}{name}" for name in ("URL", "TOKEN", "EMULATOR_URL", "PUBLIC_URL")}


class Fixes(Protocol):
    """How this function is changed: a sentence with the setting and the command."""

    def timeout(self, timeout_s: int) -> str: ...

    def memory(self, memory_mb: int) -> str: ...

    def variables(self) -> str: ...


@dataclass(frozen=True)
class Deployed:
    """What a cloud says of a function. `variables` are its environment, secrets among them: None
    if the cloud does not tell them."""

    name: str
    timeout_s: int
    memory_mb: int
    fixes: Fixes
    variables: Mapping[str, str] | None = field(repr=False)

    @property
    def has_database(self) -> bool:
        """Whether there is something to sweep."""
        return bool((self.variables or {}).get("FAL_IMAGE_DATABASE_URL", "").strip())


def judged(function: Deployed, here: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """One finding each on the time-out, the memory and the variables. What the function was told
    decides how long it may take; where its variables are not known, the settings of `here` do."""
    told = here if function.variables is None else load(function.variables)
    yield _timeout(function, told)
    yield _memory(function)
    if function.variables is not None:
        yield _environment(function, function.variables, told, environ)


def is_slow(model: str) -> bool:
    """Whether a picture of the model takes minutes rather than seconds."""
    return not _SLOW_WORDS.isdisjoint(re.split(r"[/-]", model))


def _timeout(function: Deployed, told: Settings) -> Finding:
    check, has_s = "function.timeout", function.timeout_s
    model, slow = told.default_model, is_slow(told.default_model)
    for_model_s = SLOW_TIMEOUT_S if slow else MIN_TIMEOUT_S
    for_wait_s = min(told.max_wait_s + BESIDE_THE_WAIT_S, MAX_TIMEOUT_S)
    said = f"{function.name} is ended after {has_s} s"
    fix = function.fixes.timeout(max(for_model_s, for_wait_s))
    if has_s < MIN_TIMEOUT_S:
        return failed(check, f"{said}, before fal has returned: a picture can take longer", fix)
    if has_s < for_wait_s:
        return warning(
            check,
            f"{said}, so it cannot wait the {told.max_wait_s} s of FAL_IMAGE_MAX_WAIT_S",
            f"{fix} Or lower FAL_IMAGE_MAX_WAIT_S to {has_s - BESIDE_THE_WAIT_S}.",
        )
    if has_s < for_model_s:
        return warning(check, f"{said}, and {model} can take {SLOW_TIMEOUT_S} s or more", fix)
    return ok(check, f"{said}, enough for {model} and a wait of {told.max_wait_s} s")


def _memory(function: Deployed) -> Finding:
    check, has_mb = "function.memory", function.memory_mb
    said, fix = f"{function.name} has {has_mb} MB", function.fixes.memory(GOOD_MEMORY_MB)
    if has_mb < MIN_MEMORY_MB:
        return failed(check, f"{said}: it runs out of memory with its first picture", fix)
    if has_mb < GOOD_MEMORY_MB:
        return warning(check, f"{said}: it can run out of memory with pictures of 2K and more", fix)
    return ok(check, said)


def _environment(
    function: Deployed, variables: Mapping[str, str], told: Settings, environ: Mapping[str, str]
) -> Finding:
    """Of the values nothing is said; of the names those that are missing or wrong."""
    check, fix = "function.environment", function.fixes.variables()
    wrong = [*_missing(variables), *told.problems]
    if wrong:
        return failed(check, f"{function.name} would refuse to work: {'; '.join(wrong)}", fix)
    own = {name for name, text in variables.items() if name.startswith(PREFIX) and text.strip()}
    here = {name for name, text in environ.items() if name.startswith(PREFIX) and text.strip()}
    if absent := sorted(here - own - _ONLY_HERE):
        return warning(
            check,
            f"{function.name} was deployed without what is set here: {', '.join(absent)}",
            fix,
        )
    return ok(check, f"{function.name} has fal's key and {len(own)} settings")


def _missing(variables: Mapping[str, str]) -> Iterator[str]:
    def has(name: str) -> bool:
        return bool(variables.get(name, "").strip())

    if not any(map(has, FAL_KEY_NAMES)):
        yield "FAL_KEY is not set"
    if not has("FAL_IMAGE_STORAGE_URL"):
        yield "FAL_IMAGE_STORAGE_URL is not set"
    if has("FAL_IMAGE_DATABASE_URL") and not has("FAL_IMAGE_SECRET"):
        yield "FAL_IMAGE_SECRET is not set, and with a database it must be"
