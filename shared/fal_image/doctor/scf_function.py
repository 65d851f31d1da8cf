"""What Tencent Cloud says of a CloudBase function: its state, runtime, limits, way out and timer.

One call a function, GetFunction of SCF, where the functions of a CloudBase environment are those
of a namespace with its id. Importing this module imports no SDK; asking does. Refuses to know of
routes and domains, and of what the function does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..tencent import Keys, keys_of
from .case import Case
from .deployed import Deployed, judged
from .findings import Finding, failed, ok, skipped, warning

API_HOST = "scf.tencentcloudapi.com"
API_VERSION = "2018-04-16"

# Python3.6 to 3.9 exist there, and what the package is made of does not run on them.
RUNTIMES = {"Python3.10", "Python3.11"}
_URLS = ("FAL_IMAGE_STORAGE_URL", "FAL_IMAGE_DATABASE_URL")


class NotAsked(Exception):
    """The question got no answer. `code` is Tencent Cloud's own word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True)
class ScfFixes:
    """`tcb fn config update` would do for a setting too, but sends the variables along, empty where
    the shell has none: the deploy command looks at them first."""

    name: str
    env_id: str
    is_http: bool

    @property
    def deploy(self) -> str:
        return f"`scripts/deploy cloudbase{'-http' if self.is_http else ''}`"

    def timeout(self, timeout_s: int) -> str:
        return self._setting(f'"timeout": {timeout_s}', "Timeout")

    def memory(self, memory_mb: int) -> str:
        return self._setting(f'"memorySize": {memory_mb}', "Memory")

    def network(self) -> str:
        status = '"publicNetConfig": {"publicNetStatus": "ENABLE"}'
        mend = self._setting(status, "Network, Public Access").removesuffix(".")
        return f"{mend}; or give it a VPC with a NAT gateway."

    def variables(self) -> str:
        return (
            'Name what is missing in "envVariables" of cloudbaserc.json, put its value into .env '
            f"and run {self.deploy}, or add it in the {self._console}, Environment Variables."
        )

    def timer(self) -> str:
        return (
            f"Give {self.name} its trigger of type timer in cloudbaserc.json and run "
            f"`tcb fn trigger create {self.name} -e {self.env_id}`."
        )

    @property
    def _console(self) -> str:
        return f"Console, Cloud Functions, {self.name}, Function Config"

    def _setting(self, setting: str, field: str) -> str:
        return (
            f"Set {setting} for {self.name} in cloudbaserc.json and run {self.deploy}, or set it "
            f"in the {self._console}, {field}."
        )


def examine(
    case: Case, env_id: str, region: str, names: Iterable[str], *, must_exist: bool
) -> Iterator[Finding]:
    """The findings on each of the functions that is there; without one, a finding that says so,
    which is a failure if the functions `must_exist`."""
    keys = keys_of(case.environ)
    if keys is None:
        yield skipped(
            "function",
            f"no keys to ask Tencent Cloud about {env_id} with: CLOUDBASE_APIKEY does not do",
            "Set TCB_SECRET_ID and TCB_SECRET_KEY to a key pair that may call scf:GetFunction.",
        )
        return
    names, is_there = list(names), False
    for name in names:
        try:
            said = _get_function(case, keys, env_id, region, name)
        except NotAsked as error:
            if _is_absent(error):
                continue
            yield _not_asked(error, env_id, region)
            return
        is_there = True
        yield from _examined(said, name, env_id, case)
    if not is_there:
        say = failed if must_exist else skipped
        yield say(
            "function",
            f"environment {env_id} has no function {' or '.join(names)} in {region}",
            "Run `scripts/deploy cloudbase`, or name it: `fal-image doctor --function NAME`.",
        )


def _get_function(case: Case, keys: Keys, env_id: str, region: str, name: str) -> Mapping[str, Any]:
    """What GetFunction answers, without the code. Raises NotAsked."""
    from tencentcloud.common.common_client import CommonClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.exception import TencentCloudSDKException
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    # At DEBUG it logs the function's variables.
    logging.getLogger("tencentcloud_sdk_common").propagate = False
    api = urlsplit(case.seams.detours.get(API_HOST, f"https://{API_HOST}"))
    http = HttpProfile(api.scheme, api.netloc, reqTimeout=case.patience_s)
    asked = {"FunctionName": name, "Namespace": env_id, "ShowCode": "FALSE"}
    try:
        # Made by hand: the SDK's reader of variables knows neither SCF's names nor its token.
        credential = Credential(keys.secret_id, keys.secret_key, keys.session_token or None)
        profile = ClientProfile(httpProfile=http, language="en-US")
        client = CommonClient("scf", API_VERSION, credential, region, profile)
        answer: Mapping[str, Any] = client.call_json("GetFunction", asked)["Response"]
    except TencentCloudSDKException as error:
        raise NotAsked(str(error.get_code()), str(error.get_message())[:200]) from None
    return answer


def _is_absent(error: NotAsked) -> bool:
    return error.code in {"ResourceNotFound.Function", "ResourceNotFound.FunctionName"}


def _not_asked(error: NotAsked, env_id: str, region: str) -> Finding:
    check = "function"
    if error.code.startswith("AuthFailure"):
        return failed(
            check,
            f"Tencent Cloud does not take the key pair: {error.code}",
            "Set TCB_SECRET_ID and TCB_SECRET_KEY to a pair from the Console, Access Management, "
            "API Keys, and set this machine's clock by NTP.",
        )
    if error.code.startswith("UnauthorizedOperation"):
        return skipped(
            check,
            f"the key pair may not ask about functions of {env_id}: {error.code}",
            "Allow it scf:GetFunction in the Console, Access Management.",
        )
    if error.code == "ResourceNotFound.Namespace":
        return failed(
            check,
            f"there is no environment {env_id} in {region}",
            "Set TENCENTCLOUD_REGION, or ?region=… in FAL_IMAGE_STORAGE_URL, to its region.",
        )
    return skipped(check, f"Tencent Cloud was not heard about {env_id}: {error}")


def _examined(said: Mapping[str, Any], name: str, env_id: str, case: Case) -> Iterator[Finding]:
    fixes = ScfFixes(name, env_id, is_http=said.get("Type") == "HTTP")
    listed = (said.get("Environment") or {}).get("Variables") or []
    function = Deployed(
        name=name,
        timeout_s=int(said["Timeout"]),
        memory_mb=int(said["MemorySize"]),
        fixes=fixes,
        variables={pair["Key"]: str(pair.get("Value") or "") for pair in listed},
    )
    yield _state(said, fixes)
    yield _runtime(said, fixes)
    yield from judged(function, case.settings, case.environ)
    if fixes.is_http and _needs_keys(function):
        yield _keys(function, fixes)
    yield _network(said, fixes)
    if function.has_database:
        yield _sweep(said, fixes)


def _state(said: Mapping[str, Any], fixes: ScfFixes) -> Finding:
    """SCF API docs, "Function and layer status"."""
    check, name, state = "function.state", fixes.name, str(said.get("Status"))
    if said.get("AvailableStatus") == "InsufficientBalance":
        return failed(check, f"{name} is stopped: the account owes money", "Top up the account.")
    if state == "Active":
        return ok(check, f"{name} is active")
    if not state.endswith("Failed"):
        return warning(check, f"{name} is not ready: {state}", "Run the doctor again in a minute.")
    reasons = [str(one.get("ErrorMessage")) for one in said.get("StatusReasons") or []]
    because = "; ".join(reasons) or str(said.get("StatusDesc") or "no reason is given")
    fix = f"Mend what is named and run {fixes.deploy}."
    return failed(check, f"{name} is in state {state}: {because[:300]}", fix)


def _runtime(said: Mapping[str, Any], fixes: ScfFixes) -> Finding:
    check, name, runtime = "function.runtime", fixes.name, said.get("Runtime")
    if runtime in RUNTIMES or not str(runtime).startswith(("Python", "Nodejs")):
        return ok(check, f"{name} runs on {runtime}")
    return failed(
        check,
        f"{name} was created for {runtime}, and a function keeps its runtime for life",
        f"Delete it with `tcb fn delete {name}` and run {fixes.deploy}, which makes one for "
        "Python3.10.",
    )


def _needs_keys(function: Deployed) -> bool:
    urls = [(function.variables or {}).get(name, "") for name in _URLS]
    return any(url.startswith(("cloudbase:", "cos:")) for url in urls)


def _keys(function: Deployed, fixes: ScfFixes) -> Finding:
    """The keys that SCF gives an HTTP function may die while its process lives (CloudBase skills,
    "HTTP function credentials")."""
    check, variables = "function.keys", function.variables or {}
    if variables.get("CLOUDBASE_APIKEY") or keys_of(variables):
        return ok(check, f"{fixes.name} has keys of its own for storage and database")
    return warning(
        check,
        f"{fixes.name} has only the keys that SCF gives it, and those of an HTTP function may be "
        "dead",
        f"Set CLOUDBASE_APIKEY, a server API key of the environment. {fixes.variables()}",
    )


def _network(said: Mapping[str, Any], fixes: ScfFixes) -> Finding:
    check, name = "function.network", fixes.name
    status = (said.get("PublicNetConfig") or {}).get("PublicNetStatus")
    is_in_vpc = bool((said.get("VpcConfig") or {}).get("VpcId"))
    if status == "DISABLE" and not is_in_vpc:
        return failed(
            check,
            f"{name} has no way out to the public network: fal's hosts cannot even be looked up "
            "(EAI_AGAIN)",
            fixes.network(),
        )
    if is_in_vpc:
        return warning(
            check,
            f"{name} is in a VPC: without a NAT gateway there, fal's hosts cannot be looked up "
            "(EAI_AGAIN)",
            'Take "vpc" out of cloudbaserc.json, or give the VPC a NAT gateway.',
        )
    if status == "ENABLE":
        return ok(check, f"{name} may reach the public network")
    return skipped(check, f"SCF does not say whether {name} may reach the public network")


def _sweep(said: Mapping[str, Any], fixes: ScfFixes) -> Finding:
    check, name = "function.sweep", fixes.name
    if fixes.is_http:
        return skipped(check, f"{name} is an HTTP function: an event function must sweep for it")
    timers = [one for one in said.get("Triggers") or [] if one.get("Type") == "timer"]
    if any(_is_on(timer) for timer in timers):
        return ok(check, f"{name} has a timer that sweeps")
    what = "its timer is switched off" if timers else "no timer calls it"
    return warning(
        check, f"{name}: {what}, so jobs that were left behind stay behind", fixes.timer()
    )


def _is_on(trigger: Mapping[str, Any]) -> bool:
    """Answers hold 1 and 0, and requests say OPEN and CLOSE (SCF API docs, "Trigger")."""
    return str(trigger.get("Enable", 1)) not in {"0", "CLOSE"}
