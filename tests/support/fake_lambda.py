"""The questions of Lambda's API that tell of a function, as its reference documents the answers.

It verifies the signature of each (version 4, in the header) and its session token, and refuses what
`denied` names. It invokes nothing, changes nothing, and knows no versions and aliases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from . import sigv4
from .fake_cos import Answer, Ask, serving
from .storages import AWS_ENVIRON, wall_clock

FUNCTION_ARN = "arn:aws:lambda:eu-central-1:123456789012:function:fal-image-api"

_FUNCTION = r"/functions/(?P<name>[^/]+)"
_ACTIONS = {
    "GetFunctionConfiguration": rf"/2015-03-31{_FUNCTION}/configuration",
    "GetPolicy": rf"/2015-03-31{_FUNCTION}/policy",
    "GetFunctionConcurrency": rf"/2019-09-30{_FUNCTION}/concurrency",
    "GetFunctionUrlConfig": rf"/2021-10-31{_FUNCTION}/url",
    "ListEventSourceMappings": r"/2015-03-31/event-source-mappings/?",
}


class Refused(Exception):
    """A status and the code of an error."""


@dataclass
class FakeLambda:
    """One function, and what it has besides its configuration."""

    configuration: Mapping[str, Any]
    url: Mapping[str, Any] | None = None
    statements: Sequence[Mapping[str, Any]] = ()
    reserved: int | None = None
    mappings: Sequence[Mapping[str, Any]] = ()
    denied: frozenset[str] = frozenset()
    clock: Callable[[], datetime] = wall_clock
    asked: list[Ask] = field(default_factory=list)

    def serving(self) -> AbstractContextManager[str]:
        """The API's address."""
        return serving(self.answer)

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        try:
            status, said = 200, self._found(ask)
        except Refused as refused:
            status, code = refused.args
            said = {"Type": "User", "Message": "as the reference says"}
            return status, {"x-amzn-errortype": code}, json.dumps(said).encode()
        return status, {"content-type": "application/json"}, json.dumps(said).encode()

    def _found(self, ask: Ask) -> Mapping[str, Any]:
        self._verify(ask)
        action, name = _named(ask)
        if action in self.denied:
            raise Refused(403, "AccessDeniedException")
        if action == "ListEventSourceMappings":
            asked = ask.query["EventSourceArn"]
            held = [one for one in self.mappings if one["EventSourceArn"] == asked]
            return {"EventSourceMappings": held}
        return self._told(action, name)

    def _told(self, action: str, name: str) -> Mapping[str, Any]:
        said: Mapping[str, Any] | None = self.configuration
        if action == "GetFunctionUrlConfig":
            said = self.url
        elif action == "GetPolicy":
            policy = {"Version": "2012-10-17", "Id": "default", "Statement": list(self.statements)}
            said = {"Policy": json.dumps(policy)} if self.statements else None
        elif action == "GetFunctionConcurrency":
            said = {} if self.reserved is None else {"ReservedConcurrentExecutions": self.reserved}
        if said is None or name != self.configuration["FunctionName"]:
            raise Refused(404, "ResourceNotFoundException")
        return said

    def _verify(self, ask: Ask) -> None:
        key = f" Credential={AWS_ENVIRON['AWS_ACCESS_KEY_ID']}/"
        if key not in ask.headers.get("authorization", ""):
            raise Refused(403, "UnrecognizedClientException")
        if ask.headers.get("x-amz-security-token") != AWS_ENVIRON["AWS_SESSION_TOKEN"]:
            raise Refused(403, "UnrecognizedClientException")
        code = sigv4.call_refusal(
            ask.method,
            ask.target,
            ask.headers,
            ask.body,
            service="lambda",
            secret=AWS_ENVIRON["AWS_SECRET_ACCESS_KEY"],
            now=self.clock(),
        )
        if code:
            raise Refused(403, code)


def _named(ask: Ask) -> tuple[str, str]:
    """What is asked, and about which function. Raises Refused."""
    for action, pattern in _ACTIONS.items():
        if ask.method == "GET" and (found := re.fullmatch(pattern, urlsplit(ask.target).path)):
            return action, unquote(found.groupdict().get("name", ""))
    raise Refused(404, "UnknownOperationException")


def lambda_function(**changes: object) -> dict[str, object]:
    """What GetFunctionConfiguration says of a function that is well, with the changes."""
    said: dict[str, object] = {
        "FunctionName": "fal-image-api",
        "FunctionArn": FUNCTION_ARN,
        "Runtime": "python3.13",
        "Handler": "functions/aws/handler.main",
        "Timeout": 120,
        "MemorySize": 1024,
        "Environment": {"Variables": {}},
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
        "Architectures": ["arm64"],
    }
    return said | changes


def allowing(action: str, principal: object = "*", **condition: object) -> dict[str, object]:
    """A statement of a function's policy, as add-permission writes it."""
    said: dict[str, object] = {
        "Sid": action,
        "Effect": "Allow",
        "Principal": principal,
        "Action": action,
        "Resource": FUNCTION_ARN,
    }
    return said | ({"Condition": condition} if condition else {})


OPEN_URL = [
    allowing("lambda:InvokeFunctionUrl", StringEquals={"lambda:FunctionUrlAuthType": "NONE"}),
    allowing("lambda:InvokeFunction", Bool={"lambda:InvokedViaFunctionUrl": "true"}),
]
SCHEDULE = allowing(
    "lambda:InvokeFunction",
    {"Service": "events.amazonaws.com"},
    ArnLike={"AWS:SourceArn": "arn:aws:events:eu-central-1:123456789012:rule/sweep"},
)
