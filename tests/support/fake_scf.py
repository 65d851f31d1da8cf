"""The one call of SCF that tells of a function, GetFunction, as its API documents it.

It verifies requests as the other services of Tencent Cloud's API 3.0 do, and looks at the
parameters: which there are, which must be there, the namespace, the function, and that its code is
not asked for without need. A function is in one region. It knows no versions, no layers, and no
permissions but whether the account has the one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from .fake_cos import Account, Answer, Ask, serving
from .fake_tcb import Refused, told, verify

PARAMETERS = {"CodeSecret", "FunctionName", "Namespace", "Qualifier", "ResourceId", "ShowCode"}


@dataclass
class FakeScf:
    """`functions` holds what is answered of each, by namespace and name."""

    functions: Mapping[tuple[str, str], Mapping[str, object]]
    region: str = "ap-shanghai"
    may_ask: bool = True
    account: Account = field(default_factory=Account)
    clock: Callable[[], float] = time.time
    asked: list[Ask] = field(default_factory=list)

    def serving(self) -> AbstractContextManager[str]:
        """The API's address."""
        return serving(self.answer)

    def answer(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        return told(lambda: self._found(ask))

    def _found(self, ask: Ask) -> Mapping[str, object]:
        verify(ask, self.account, self.clock(), service="scf", version="2018-04-16")
        if ask.headers.get("x-tc-action") != "GetFunction":
            raise Refused("InvalidAction")
        if not self.may_ask:
            raise Refused("UnauthorizedOperation.CAM")
        given = json.loads(ask.body)
        if not PARAMETERS.issuperset(given):
            raise Refused("UnknownParameter")
        if not ("FunctionName" in given) ^ ("ResourceId" in given):
            raise Refused("MissingParameter")
        if given.get("ShowCode") not in (None, "TRUE", "FALSE"):
            raise Refused("InvalidParameterValue")
        namespace, name = given.get("Namespace", "default"), given.get("FunctionName")
        is_here = ask.headers["x-tc-region"] == self.region
        if not is_here or namespace not in {known for known, _ in self.functions}:
            raise Refused("ResourceNotFound.Namespace")
        if (namespace, name) not in self.functions:
            raise Refused("ResourceNotFound.Function")
        return self.functions[namespace, name]


def scf_function(**changes: object) -> dict[str, object]:
    """What GetFunction says of an event function that is well, with the changes."""
    said: dict[str, object] = {
        "FunctionName": "fal-image-gen",
        "Namespace": "my-env",
        "Type": "Event",
        "Runtime": "Python3.10",
        "Handler": "index.main",
        "Status": "Active",
        "StatusDesc": "",
        "StatusReasons": [],
        "AvailableStatus": "Available",
        "Timeout": 300,
        "MemorySize": 512,
        "Environment": {"Variables": []},
        "VpcConfig": {"VpcId": "", "SubnetId": ""},
        "PublicNetConfig": {
            "PublicNetStatus": "ENABLE",
            "EipConfig": {"EipStatus": "DISABLE", "EipAddress": []},
        },
        "Triggers": [
            {
                "Type": "timer",
                "TriggerName": "sweep",
                "TriggerDesc": '{"cron":"0 * * * * * *"}',
                "Enable": 1,
                "AvailableStatus": "Available",
                "CustomArgument": "",
            }
        ],
    }
    return said | changes


def variables(values: Mapping[str, str]) -> dict[str, object]:
    """An environment as SCF lists it."""
    return {"Variables": [{"Key": name, "Value": value} for name, value in values.items()]}
