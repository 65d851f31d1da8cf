"""Which deployed function is examined, and which cloud is asked about it.

A cloud's SDK is imported in the branch that asks it. Changes nothing, calls no function, and
refuses to know what a good answer is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import suppress

from .. import database, storage
from ..settings import Settings
from ..vendors import TENCENTS
from .case import Case, Part
from .findings import Finding, skipped

CLOUDBASE_NAMES = ("fal-image-gen", "fal-image-gen-http")  # those of cloudbaserc.json

DEFAULT_REGION = "ap-shanghai"  # of the CloudBase CLI

Config = storage.StorageConfig | database.DatabaseConfig


def findings(case: Case) -> Iterator[Finding]:
    """What the cloud of these settings says of the function, a finding a check."""
    configs = _configs(case.settings)
    schemes = {config.scheme for config in configs}
    place = _environment_of(case, configs)
    if place is not None:
        yield from _of_cloudbase(case, *place)
    elif "AWS_LAMBDA_FUNCTION_NAME" in case.environ or {"s3", "dynamodb"} & schemes:
        yield from _of_aws(case)
    else:
        yield skipped("function", "these settings belong to no cloud that runs a function")


PART = Part("function", findings)


def _of_cloudbase(case: Case, env_id: str, region: str) -> Iterator[Finding]:
    if importlib.util.find_spec("tencentcloud") is None:
        yield skipped(
            "function",
            "Tencent's library is not installed",
            f"Run pip install {TENCENTS}.",
        )
        return
    from .scf_function import examine

    named = case.function
    yield from examine(
        case, env_id, region, (named,) if named else CLOUDBASE_NAMES, must_exist=bool(named)
    )


def _of_aws(case: Case) -> Iterator[Finding]:
    name = case.function or case.environ.get("AWS_LAMBDA_FUNCTION_NAME", "").strip()
    if not name:
        yield skipped(
            "function",
            "which Lambda function is meant is not known",
            "Run `fal-image doctor --function NAME` with the name that `osls info` shows.",
        )
        return
    if importlib.util.find_spec("boto3") is None:
        yield skipped("function", "boto3 is not installed", "Run pip install boto3.")
        return
    from .lambda_function import examine

    yield from examine(case, name)


def _configs(settings: Settings) -> list[Config]:
    """What the addresses of storage and database mean; one that is wrong is another part's."""
    found: list[Config] = []
    with suppress(ValueError):
        found.append(storage.parse(settings.storage_url or ""))
    with suppress(ValueError):
        found.append(database.parse(settings.database_url or ""))
    return found


def _environment_of(case: Case, configs: Iterable[Config]) -> tuple[str, str] | None:
    """The CloudBase environment that these settings are about, and its region."""
    region = case.environ.get("TENCENTCLOUD_REGION") or DEFAULT_REGION
    for config in configs:
        if isinstance(config, storage.CloudbaseConfig | database.CloudbaseConfig):
            return config.env_id, config.region or region
    env_id = case.environ.get("TCB_ENV") or case.environ.get("SCF_NAMESPACE")
    return (env_id, region) if env_id else None
