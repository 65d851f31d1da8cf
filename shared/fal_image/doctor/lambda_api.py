"""Lambda's API, as far as one function is asked about: each question, and what no answer means.

Reads only. Importing this module imports boto3. Refuses to know what a good answer is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

from ..vendors import aws_endpoint, aws_region

_UNKNOWN_KEYS = {
    "ExpiredTokenException",
    "IncompleteSignatureException",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}

Said = Mapping[str, Any]


class LambdaSilent(Exception):
    """A question got no answer; the message says why."""


class NotAllowed(LambdaSilent):
    """These credentials may not ask it; the message is the right they lack."""


class NotThere(LambdaSilent):
    """Lambda knows nothing of the kind, or nothing of the function."""


class KeysRefused(LambdaSilent):
    """AWS does not know the credentials, or no longer."""


class NoKeys(LambdaSilent):
    """There are no credentials, or none of use."""


@dataclass(frozen=True)
class LambdaApi:
    """Questions about one function; each raises LambdaSilent."""

    client: Any
    name: str

    @property
    def region(self) -> str:
        return str(self.client.meta.region_name)

    def configuration(self) -> Said:
        return self._asked("GetFunctionConfiguration", self.client.get_function_configuration)

    def reserved_concurrency(self) -> int | None:
        """How many may run at once, None without a limit of its own."""
        said = self._asked("GetFunctionConcurrency", self.client.get_function_concurrency)
        return said.get("ReservedConcurrentExecutions")

    def url(self) -> Said | None:
        """Its Function URL, None without one."""
        return self._if_there("GetFunctionUrlConfig", self.client.get_function_url_config)

    def statements(self) -> list[Said]:
        """Who may call it, by its own policy."""
        said = self._if_there("GetPolicy", self.client.get_policy)
        return list(json.loads(said["Policy"])["Statement"]) if said else []

    def readers(self, queue_arn: str) -> list[Said]:
        """What reads the queue, this function or others."""

        def asked(FunctionName: str) -> Said:
            found: Said = self.client.list_event_source_mappings(EventSourceArn=queue_arn)
            return found

        return list(self._asked("ListEventSourceMappings", asked)["EventSourceMappings"])

    def _if_there(self, action: str, ask: Callable[..., Said]) -> Said | None:
        try:
            return self._asked(action, ask)
        except NotThere:
            return None

    def _asked(self, action: str, ask: Callable[..., Said]) -> Said:
        try:
            return ask(FunctionName=self.name)
        except ClientError as error:
            raise _silence(str(error.response["Error"].get("Code")), action) from error
        except (ConnectionError, HTTPClientError) as error:
            raise LambdaSilent(f"no answer: {type(error).__name__}") from error
        except BotoCoreError as error:
            raise NoKeys(str(error)) from error


def _silence(code: str, action: str) -> LambdaSilent:
    if code == "ResourceNotFoundException":
        return NotThere(action)
    if code == "AccessDeniedException":
        return NotAllowed(f"lambda:{action}")
    return KeysRefused(code) if code in _UNKNOWN_KEYS else LambdaSilent(f"{action}: {code}")


def lambda_api(name: str, environ: Mapping[str, str], *, patience_s: float) -> LambdaApi:
    """Asks nobody yet; an answer may take `patience_s`. Raises ValueError for a region or an
    endpoint that is missing or wrong."""
    client = boto3.session.Session().client(
        "lambda",
        region_name=aws_region(environ, "function"),
        endpoint_url=aws_endpoint(environ, "LAMBDA"),
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=patience_s,
            read_timeout=patience_s,
        ),
    )
    return LambdaApi(client, name)
