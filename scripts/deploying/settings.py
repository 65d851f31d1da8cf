"""What a function with an environment would refuse to start with, found before it is deployed.

Asks nobody: what lies in a parameter store, and whether fal takes the key, is for `fal-image
doctor` to find. Refuses to know which cloud's file the environment comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from fal_image.app import compose
from fal_image.settings import FAL_KEY_NAMES, Settings, load

# In the function's environment by the cloud's own doing; a bucket's region is never guessed.
LAMBDA = {"AWS_LAMBDA_FUNCTION_NAME": "fal-image", "AWS_REGION": "us-east-1"}
SCF = {"TENCENTCLOUD_RUNENV": "SCF"}

# All names and values (AWS Lambda guide, "Lambda quotas"; Tencent Cloud document 583/11637).
MAX_ENVIRONMENT_BYTES = 4096

# Of a library that is missing on this machine; the package brings what its cloud needs.
_ADVICE_FOR_HERE = "pip install"

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def problems(environ: Mapping[str, str], cloud: Mapping[str, str]) -> list[str]:
    """What is wrong with the environment that a function would get in this cloud, a sentence for
    each problem, which begins with the setting's name. Empty: it would start, and somebody may
    call it. Nothing is opened, and no secret is among the words."""
    settings = load({**cloud, **environ})
    found = list(settings.problems) + list(_without(settings, environ))
    if settings.fal_key_file is not None:
        found.append("FAL_KEY_FILE: a function has no such file; set FAL_KEY or FAL_KEY_SSM_PARAM")
    without_store = {name: text for name, text in environ.items() if name not in FAL_KEY_NAMES}
    composed = compose(load({**cloud, **without_store}), environ={**cloud, **environ})
    found += [said for said in composed.settings.problems if _ADVICE_FOR_HERE not in said]
    by_name: dict[str, str] = {}
    for said in found:  # a value that cannot be used is missing, too: its first fault is the one
        by_name.setdefault(said.partition(":")[0], said)
    return list(by_name.values())


def too_large(environment: Mapping[str, str], cloud: str) -> Iterator[str]:
    """That all settings together are more than either cloud takes, if they are."""
    size = sum(len((name + text).encode()) for name, text in environment.items())
    if size > MAX_ENVIRONMENT_BYTES:
        longest = max(environment, key=lambda name: len(environment[name]))
        yield (
            f"{longest}: is the longest of settings of {size} bytes, and {cloud} takes "
            f"{MAX_ENVIRONMENT_BYTES} in all"
        )


def _without(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """What a function could start without, and nobody could use."""
    if not any(environ.get(name, "").strip() for name in FAL_KEY_NAMES):
        yield "FAL_KEY: must be set: a key of fal's from fal.ai/dashboard/keys, shown there once"
    refused = {problem.partition(":")[0] for problem in settings.problems}
    names = {"FAL_IMAGE_API_KEYS", "FAL_IMAGE_ALLOW_ANONYMOUS", "FAL_IMAGE_TRUST"}
    may_call = settings.api_keys or settings.allow_anonymous or settings.trust
    if not may_call and not names & refused:
        yield (
            "FAL_IMAGE_API_KEYS: must say who may call; `fal-image keys new web` makes a key and "
            "shows what to set"
        )
    if settings.emulator_url is not None and not _is_loopback(environ.get("AWS_ENDPOINT_URL", "")):
        yield "FAL_IMAGE_EMULATOR_URL: is for this machine; a deployed function reaches no emulator"


def _is_loopback(url: str) -> bool:
    return urlsplit(url).hostname in _LOOPBACK
