"""fal's key, read once at start from where the owner keeps it: a file, or AWS's Parameter Store.

No problem, warning or error tells anything of what was read. Refuses to know what the key is for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace

from .settings import Settings
from .spellings import fal_key
from .vendors import aws_endpoint, aws_lacks, aws_region

MAX_KEY_BYTES = 4096  # a file that is longer is something else

ReadParameter = Callable[[str, Mapping[str, str]], str]


class KeyUnavailable(Exception):
    """fal's key could not be fetched just now; nothing of the settings is known to be wrong."""


def with_fal_key(
    settings: Settings, environ: Mapping[str, str], *, read_parameter: ReadParameter | None = None
) -> Settings:
    """The settings with fal's key in them, wherever it is kept; a key that is there stays.

    What is wrong becomes a problem, what is only unwise a warning. Raises KeyUnavailable while AWS
    does not answer: an instance must not be lost to that for the rest of its life.
    """
    if settings.fal_key is not None:
        return settings
    if settings.fal_key_file is not None:
        return _from_file(settings, settings.fal_key_file)
    if settings.fal_key_ssm_param is not None:
        read = read_parameter or _from_parameter_store
        return _from_parameter(settings, settings.fal_key_ssm_param, environ, read)
    return settings


def _from_file(settings: Settings, path: str) -> Settings:
    name = "FAL_KEY_FILE"
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        return _adding(settings, f"{name}: the file cannot be read: {error.strerror}")
    if len(content) > MAX_KEY_BYTES:
        return _adding(settings, f"{name}: the file is longer than any key")
    settings = _holding(settings, name, content.decode("utf-8", "replace"))
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        advice = f"{name}: others on this machine may use the file; chmod 600 keeps them out"
        return replace(settings, warnings=(*settings.warnings, advice))
    return settings


def _from_parameter(
    settings: Settings, parameter: str, environ: Mapping[str, str], read: ReadParameter
) -> Settings:
    name = "FAL_KEY_SSM_PARAM"
    lacks = aws_lacks(environ, name, what="parameter", service="SSM")
    if lacks:
        return _adding(settings, *lacks)
    try:
        value = read(parameter, environ)
    except ValueError as error:
        return _adding(settings, f"{name}: {error}")
    return _holding(settings, name, value)


def _from_parameter_store(parameter: str, environ: Mapping[str, str]) -> str:
    from . import ssm

    try:
        return ssm.parameter(
            parameter,
            region=aws_region(environ, "parameter"),
            endpoint_url=aws_endpoint(environ, "SSM"),
        )
    except ssm.ParameterStoreSilent as error:
        raise KeyUnavailable(f"FAL_KEY_SSM_PARAM: {error}") from error


def _holding(settings: Settings, name: str, text: str) -> Settings:
    """The settings with what was read, if that is a key."""
    try:
        return replace(settings, fal_key=fal_key(text.strip()))
    except ValueError as error:
        return _adding(settings, f"{name}: what is kept there is {error}")


def _adding(settings: Settings, *problems: str) -> Settings:
    return replace(settings, problems=settings.problems + problems)
