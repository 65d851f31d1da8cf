"""Parameters of AWS Systems Manager, decrypted.

Refuses to know what a parameter is for, and tells nothing of its value.
"""

from __future__ import annotations

from .aws import AwsError, AwsService, Protocol

PROTOCOL = Protocol("ssm", "AmazonSSM", "1.1")
READ_TIMEOUT_S = (
    2.0  # three silent attempts end within the 10 s of a start (AWS Lambda guide, "Init")
)

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
    service = AwsService(
        PROTOCOL, region=region, endpoint_url=endpoint_url, read_timeout_s=READ_TIMEOUT_S
    )
    try:
        answer = service.call("GetParameter", {"Name": name, "WithDecryption": True})
    except AwsError as error:
        if error.may_pass:
            said = f"Parameter Store answered {error.status} {error.code}"
            silent = "Parameter Store does not answer"
            raise ParameterStoreSilent(said if error.status else silent) from error
        if not error.status:
            raise ValueError(f"Parameter Store was not asked: {error}") from error
        said = _WHY.get(error.code, "Parameter Store answered {code}")
        raise ValueError(said.format(region=region, code=error.code)) from error
    return str(answer["Parameter"]["Value"])
