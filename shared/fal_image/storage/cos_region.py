"""In which region a CloudBase environment's bucket is, asked of Tencent Cloud.

tencentcloud is imported by the one call that needs it. Refuses to know what is stored there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from ..tencent import Keys
from .base import StorageError

TCB_API = "https://tcb.tencentcloudapi.com"
TIMEOUT_S = 10
_DEFAULT_API_REGION = "ap-shanghai"
_ADVICE = "say ?region=… in FAL_IMAGE_STORAGE_URL"


def region_of(
    bucket: str, keys: Keys, variables: Mapping[str, str], *, api_url: str = TCB_API
) -> str:
    """The region of the bucket of the CloudBase environment that the function runs in.

    One call of DescribeEnvs, which changes nothing; its answer is true for as long as the bucket
    exists. `variables` are those of the running invocation. Raises StorageError that says how to
    do without: for a bucket of another environment or of none, and for keys that may not ask.
    """
    environment = variables.get("TCB_ENV") or variables.get("SCF_NAMESPACE")
    if not environment:
        raise StorageError(f"the region of cos://{bucket} is not known: {_ADVICE}")
    region = variables.get("TENCENTCLOUD_REGION") or _DEFAULT_API_REGION
    for place in _storages(environment, keys, region, api_url):
        if place.get("Bucket") == bucket and place.get("Region"):
            return str(place["Region"])
    raise StorageError(f"cos://{bucket} is no bucket of environment {environment}: {_ADVICE}")


def _storages(
    environment: str, keys: Keys, region: str, api_url: str
) -> list[dict[str, str | None]]:
    """What Tencent Cloud says of each bucket of an environment."""
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.exception import TencentCloudSDKException
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile
    from tencentcloud.tcb.v20180608 import models, tcb_client

    logging.getLogger("tencentcloud_sdk_common").propagate = False  # at DEBUG it logs the token
    api = urlsplit(api_url)
    http = HttpProfile(api.scheme, api.netloc, reqTimeout=TIMEOUT_S)
    request = models.DescribeEnvsRequest()
    request.EnvId = environment
    try:
        # Made by hand: the SDK's reader of variables knows neither SCF's names nor its token.
        credential = Credential(keys.secret_id, keys.secret_key, keys.session_token or None)
        profile = ClientProfile(httpProfile=http, language="en-US")
        found = tcb_client.TcbClient(credential, region, profile).DescribeEnvs(request)
    except TencentCloudSDKException as error:
        said = f"{error.get_code()}: {str(error.get_message())[:200]}"
        raise StorageError(f"DescribeEnvs of {environment}: {said}; {_ADVICE}") from None
    return [
        {"Bucket": place.Bucket, "Region": place.Region}
        for one in found.EnvList or []
        for place in one.Storages or []
    ]
