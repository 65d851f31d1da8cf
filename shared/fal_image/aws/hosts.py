"""Where AWS's services are, with FIPS and dual-stack as every AWS SDK reads them (AWS SDKs
reference guide, "Dual-stack and FIPS endpoints").

Refuses to know of endpoints that somebody configures.
"""

from __future__ import annotations

from collections.abc import Mapping

# Where a region's hosts are: by IPv4 only, and by IPv6 too (botocore's partitions.json).
_SUFFIX = ["amazonaws.com", "api.aws"]
_SUFFIXES = (
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
)


def service_host(service: str, region: str, environ: Mapping[str, str]) -> str:
    """The host of a service that is not S3."""
    suffix, dual_suffix = _suffixes(region)
    if _is_on("AWS_USE_DUALSTACK_ENDPOINT", environ):
        suffix = dual_suffix
    elif region.startswith("us-gov-") and service != "dynamodb":
        return f"{service}.{region}.{suffix}"  # which is FIPS by itself
    is_fips = _is_on("AWS_USE_FIPS_ENDPOINT", environ)
    return f"{service}{'-fips' if is_fips else ''}.{region}.{suffix}"


def s3_host(region: str, environ: Mapping[str, str]) -> str:
    """The host of S3, below which each bucket has its own."""
    fips = "-fips" if _is_on("AWS_USE_FIPS_ENDPOINT", environ) else ""
    dual = "dualstack." if _is_on("AWS_USE_DUALSTACK_ENDPOINT", environ) else ""
    return f"s3{fips}.{dual}{region}.{_suffixes(region)[0]}"


def _suffixes(region: str) -> list[str]:
    return next((suffixes for start, *suffixes in _SUFFIXES if region.startswith(start)), _SUFFIX)


def _is_on(name: str, environ: Mapping[str, str]) -> bool:
    return environ.get(name, "").lower() == "true"
