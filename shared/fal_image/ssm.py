"""Parameters of AWS Systems Manager, decrypted.

Importing this module imports boto3. Refuses to know what a parameter is for, and tells nothing of
its value.
"""

from __future__ import annotations

from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
)

# Both attempts fit into the 10 s that Lambda gives a start (AWS Lambda guide, "Init phase").
ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 2, 2, 3

_WHY = {
    "ParameterNotFound": "there is no such parameter in {region}",
    "AccessDeniedException": "the function's role lacks ssm:GetParameter on the parameter, or "
    "kms:Decrypt on its key",
}


class ParameterStoreSilent(Exception):
    """Parameter Store gave no answer, or none of use: asking again may help."""


def parameter(name: str, *, region: str, endpoint_url: str | None) -> str:
    """The value of a parameter, one call. Raises ValueError with what the owner must mend, and
    ParameterStoreSilent for what passes."""
    client: Any = boto3.session.Session().client(
        "ssm",
        region_name=region,
        endpoint_url=endpoint_url,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
        ),
    )
    try:
        return str(client.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"])
    except ClientError as error:
        code = str(error.response["Error"].get("Code"))
        status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        if status >= 500 or code in {"ThrottlingException", "TooManyUpdates"}:
            raise ParameterStoreSilent(f"Parameter Store answered {status} {code}") from error
        said = _WHY.get(code, "Parameter Store answered {code}")
        raise ValueError(said.format(region=region, code=code)) from error
    except (ConnectionError, HTTPClientError) as error:
        raise ParameterStoreSilent("Parameter Store does not answer") from error
    except BotoCoreError as error:
        raise ValueError(f"Parameter Store was not asked: {type(error).__name__}") from error
