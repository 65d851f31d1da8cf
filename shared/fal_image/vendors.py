"""What storages and databases of one vendor say alike: names of environments, regions, endpoints.

Reads addresses and variables, opens nothing.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping

# Two parts of Tencent's SDK, which is hundreds of MB whole.
COS_SDK = "cos-python-sdk-v5"
TENCENTS = "tencentcloud-sdk-python-common tencentcloud-sdk-python-tcb"

REGION = re.compile(r"[a-z0-9-]{2,32}")
_ENDPOINT = re.compile(r"https?://[^/?#@\s]+(/[^?#@\s]*)?")

# The first label of its gateway's host name (CloudBase Node SDK, the pattern of ids).
_ENV_ID = re.compile(r"(?=.{1,40}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def env_id(text: str, *, example: str) -> str:
    """The id of a CloudBase environment itself. Raises ValueError that shows the example."""
    if not _ENV_ID.fullmatch(text):
        raise ValueError(
            "after cloudbase:// stands the environment's id, at most 40 of a-z, 0-9 and '-': "
            f"{example}"
        )
    return text


def region_in(query: str) -> str:
    """The region that an address names after its "?". Raises ValueError."""
    name, _, region = query.partition("=")
    if name != "region" or not REGION.fullmatch(region):
        raise ValueError("after '?' stands the region and nothing else: ?region=ap-shanghai")
    return region


def aws_region(environ: Mapping[str, str], what: str) -> str:
    """Where `what` is. Lambda sets AWS_REGION by itself; it is never guessed, for a bucket or table
    is in one region only. Raises ValueError."""
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    if not REGION.fullmatch(region):
        raise ValueError(f"AWS_REGION: must be the {what}'s region, for example eu-central-1")
    return region


def aws_endpoint(environ: Mapping[str, str], service: str) -> str | None:
    """Another server that speaks the service's protocol; it may carry a path. The service's own
    variable goes first, as in every AWS SDK (AWS SDKs reference guide, "Service-specific
    endpoints"). Raises ValueError."""
    own = f"AWS_ENDPOINT_URL_{service}"
    name = own if environ.get(own) else "AWS_ENDPOINT_URL"
    text = environ.get(name, "")
    if not text:
        return None
    if not _ENDPOINT.fullmatch(text):
        raise ValueError(f"{name}: must be http(s)://host/path without user, query and fragment")
    return text.rstrip("/")


def aws_lacks(environ: Mapping[str, str], setting: str, *, what: str, service: str) -> list[str]:
    """What the environment lacks for a bucket, table or queue of AWS, one sentence each."""
    has_keys = environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY")
    if not has_keys and importlib.util.find_spec("botocore") is None:
        return [
            f"{setting}: needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or boto3, which finds "
            "credentials elsewhere: pip install boto3"
        ]
    try:
        aws_region(environ, what)
        aws_endpoint(environ, service)
    except ValueError as error:
        return [str(error)]
    return []


def cloudbase_lacks(environ: Mapping[str, str], setting: str) -> list[str]:
    """An API key needs no library; keys are exchanged for a token with Tencent's."""
    if environ.get("CLOUDBASE_APIKEY") or importlib.util.find_spec("tencentcloud"):
        return []
    return [
        f"{setting}: cloudbase:// needs CLOUDBASE_APIKEY, or Tencent's library: "
        f"pip install {TENCENTS}"
    ]
