"""Which storage FAL_IMAGE_STORAGE_URL means, and opening it.

`parse` reads the address and touches nothing; `open_storage` imports the chosen storage only, so
that no start pays for a vendor's library it does not use.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import unquote

from msgspec import Struct

from ..vendors import (
    COS_SDK,
    TENCENTS,
    aws_endpoint,
    aws_lacks,
    aws_region,
    cloudbase_lacks,
    env_id,
    region_in,
)
from ..wire import Wire
from .base import ObjectStorage, check_key

SETTING = "FAL_IMAGE_STORAGE_URL"
DEFAULT_PREFIX = "ai-images"
MAX_PREFIX_CHARS = 512  # leaves room for date, job and extension under the limit of a key

# AWS S3 guide, "General purpose bucket naming rules"
_BUCKET = re.compile(r"(?=.{3,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_IP_ADDRESS = re.compile(r"[0-9]+(\.[0-9]+){3}")

# Tencent COS docs, "Bucket overview": the account's number (APPID) ends the name, and the whole of
# it is one label of a host name.
_COS_BUCKET = re.compile(r"(?=.{3,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?-[0-9]{5,12}")


class S3Config(Struct, frozen=True):
    """A bucket; region and endpoint come from the environment when it is opened."""

    scheme: ClassVar[Literal["s3"]] = "s3"
    bucket: str
    prefix: str


class CosConfig(Struct, frozen=True):
    """A bucket with its account's number; without a region it must be a CloudBase environment's,
    which the first call then looks up."""

    scheme: ClassVar[Literal["cos"]] = "cos"
    bucket: str
    prefix: str
    region: str | None


class CloudbaseConfig(Struct, frozen=True):
    """A CloudBase environment's own bucket; without a region it is that of the function, else one
    in China."""

    scheme: ClassVar[Literal["cloudbase"]] = "cloudbase"
    env_id: str
    prefix: str
    region: str | None


class LocalConfig(Struct, frozen=True):
    """A directory of this machine, absolute; it is made with the first picture."""

    scheme: ClassVar[Literal["file"]] = "file"
    directory: Path
    prefix: str


StorageConfig = S3Config | CosConfig | CloudbaseConfig | LocalConfig


def parse(url: str) -> StorageConfig:
    """What a storage URL means. Raises ValueError that says what is wrong and what would be right;
    the message does not repeat the URL, which may hold a password by mistake."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise ValueError(
            "must be s3://bucket/prefix, cos://bucket/prefix, cloudbase://envId/prefix or "
            "file:///directory"
        )
    if scheme not in {"s3", "cos", "cloudbase", "file"}:
        raise ValueError("must start with s3://, cos://, cloudbase:// or file:///")
    if scheme == "cos":
        return _parse_cos(url)
    if scheme == "cloudbase":
        return _parse_cloudbase(url)
    if "?" in url or "#" in url:
        raise ValueError("must be s3://bucket/prefix or file:///directory, without '?' and '#'")
    return _parse_s3(url) if scheme == "s3" else _parse_file(url)


def _parse_s3(url: str) -> S3Config:
    bucket, slash, prefix = url.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket) or _IP_ADDRESS.fullmatch(bucket):
        raise ValueError(
            "the bucket after s3:// must be 3 to 63 of a-z, 0-9, '-' and '.', as S3 names buckets"
        )
    if bucket.endswith("--x-s3"):  # whose sessions of minutes sign, and no link outlives them
        raise ValueError("the bucket after s3:// must not be a directory bucket (--x-s3)")
    return S3Config(bucket, _prefix(prefix) if slash and prefix else DEFAULT_PREFIX)


def _parse_cos(url: str) -> CosConfig:
    address, question, query = url.removeprefix("cos://").partition("?")
    bucket, slash, prefix = address.partition("/")
    if not _COS_BUCKET.fullmatch(bucket):
        raise ValueError(
            "the bucket after cos:// must be a-z, 0-9 and '-' with the account's number at its "
            "end, as COS names buckets: cos://pictures-1250000000/ai-images"
        )
    region = region_in(query) if question else None
    return CosConfig(bucket, _prefix(prefix) if slash and prefix else DEFAULT_PREFIX, region)


def _parse_cloudbase(url: str) -> CloudbaseConfig:
    address, question, query = url.removeprefix("cloudbase://").partition("?")
    text, slash, prefix = address.partition("/")
    name = env_id(text, example="cloudbase://my-env-3gabc/ai-images")
    region = region_in(query) if question else None
    return CloudbaseConfig(name, _prefix(prefix) if slash and prefix else DEFAULT_PREFIX, region)


def _prefix(text: str) -> str:
    prefix = text.removesuffix("/")
    try:
        check_key(prefix)
    except ValueError:
        prefix = ""
    if not prefix or len(prefix) > MAX_PREFIX_CHARS:
        raise ValueError(
            "the prefix after the bucket must be parts of letters, digits, '-', '_' and '.' with "
            f"one '/' between them, at most {MAX_PREFIX_CHARS} characters; no part may begin "
            "with '.' (so no '..'), and there is no leading '/': for example ai-images"
        )
    return prefix


def _parse_file(url: str) -> LocalConfig:
    path = unquote(url.removeprefix("file://"))
    if not url.startswith("file:///"):
        raise ValueError("needs three slashes and an absolute path: file:///home/me/pictures")
    if "\0" in path or not path.strip("/"):
        raise ValueError("must name a directory: file:///home/me/pictures")
    return LocalConfig(Path(path), DEFAULT_PREFIX)


def missing(config: StorageConfig, environ: Mapping[str, str]) -> list[str]:
    """What the environment lacks for this storage, one sentence each, without opening it."""
    if isinstance(config, LocalConfig):
        return []
    if isinstance(config, CosConfig):
        return _cos_lacks(config, environ)
    if isinstance(config, CloudbaseConfig):
        return cloudbase_lacks(environ, SETTING)
    return aws_lacks(environ, SETTING, what="bucket", service="S3")


def _cos_lacks(config: CosConfig, environ: Mapping[str, str]) -> list[str]:
    needed = ["qcloud_cos"] if config.region else ["qcloud_cos", "tencentcloud"]
    if not all(map(importlib.util.find_spec, needed)):
        return [f"{SETTING}: cos:// needs Tencent's libraries: pip install {COS_SDK} {TENCENTS}"]
    if not (config.region or environ.get("TCB_ENV") or environ.get("SCF_NAMESPACE")):
        return [f"{SETTING}: must say the bucket's region here, for example ?region=ap-shanghai"]
    return []


def open_storage(
    config: StorageConfig,
    *,
    secrets: Sequence[str],
    public_url: str | None,
    environ: Mapping[str, str],
    now: Callable[[], datetime],
    credentials: Callable[[], Mapping[str, str]] | None = None,
    wire: Wire | None = None,
) -> ObjectStorage:
    """The storage behind a config; no call to it is made yet. Safe to share between threads.

    `secrets` and `public_url` sign and address links of a directory; S3 signs with the
    credentials of the process. `credentials` gives the variables of the invocation that is
    running, Tencent's short-lived keys among them; without it they are those of `environ`.
    CloudBase is called over `wire`, without it over one of its own. Raises ValueError for what
    `missing` reports, ImportError without the vendor's library.
    """
    if isinstance(config, LocalConfig):
        from .local import LocalStorage

        return LocalStorage(
            config.directory,
            prefix=config.prefix,
            secrets=secrets,
            public_url=public_url,
            now=now,
        )
    if isinstance(config, CosConfig):
        from .cos import CosStorage

        return CosStorage(
            config.bucket,
            prefix=config.prefix,
            region=config.region,
            credentials=credentials or (lambda: environ),
            now=now,
        )
    if isinstance(config, CloudbaseConfig):
        from .cloudbase import CloudbaseStorage

        return CloudbaseStorage(
            config.env_id,
            prefix=config.prefix,
            region=config.region or environ.get("TENCENTCLOUD_REGION") or None,
            wire=wire or Wire(),
            credentials=credentials or (lambda: environ),
            now=now,
        )
    from .s3 import S3Storage

    return S3Storage(
        config.bucket,
        prefix=config.prefix,
        region=aws_region(environ, "bucket"),
        endpoint_url=aws_endpoint(environ, "S3"),
        now=now,
        environ=environ,
    )
