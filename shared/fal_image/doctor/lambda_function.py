"""Whether a Lambda function is well: its state, runtime, limits, and who may call it.

Importing this module imports boto3. Refuses to know what the function does, and what of it runs
elsewhere: a schedule of EventBridge Scheduler is not seen from here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from urllib.parse import urlsplit

from .case import Case
from .deployed import Deployed, judged
from .findings import Finding, failed, ok, skipped, warning
from .lambda_api import (
    KeysRefused,
    LambdaApi,
    LambdaSilent,
    NoKeys,
    NotAllowed,
    NotThere,
    Said,
    lambda_api,
)

RUNTIME = "python3.13"  # that of serverless.yml
OLDEST_MINOR = 10

# From then on it gets no security patches (AWS Lambda guide, "Lambda runtimes").
DEPRECATED_ON = {
    10: date(2026, 10, 31),
    11: date(2027, 6, 30),
    12: date(2028, 10, 31),
    13: date(2029, 6, 30),
    14: date(2029, 6, 30),
}

# What a stranger needs to call through a Function URL, each with the condition that it may carry
# (AWS Lambda guide, "Control access to Lambda function URLs").
URL_RIGHTS = {
    "lambda:InvokeFunctionUrl": ("lambda:FunctionUrlAuthType", "NONE"),
    "lambda:InvokeFunction": ("lambda:InvokedViaFunctionUrl", "true"),
}
_URL_OPTIONS = {
    "lambda:InvokeFunctionUrl": "--function-url-auth-type NONE",
    "lambda:InvokeFunction": "--invoked-via-function-url",
}


@dataclass(frozen=True)
class LambdaFixes:
    name: str

    def timeout(self, timeout_s: int) -> str:
        return self._setting(f"timeout: {timeout_s}", f"--timeout {timeout_s}")

    def memory(self, memory_mb: int) -> str:
        return self._setting(f"memorySize: {memory_mb}", f"--memory-size {memory_mb}")

    def variables(self) -> str:
        return "Put what is missing into .env and run `scripts/deploy aws`."

    def url(self, action: str) -> str:
        word = action.removeprefix("lambda:")
        return (
            f"Run `scripts/deploy aws`, or `aws lambda add-permission --function-name {self.name} "
            f"--statement-id {word} --action {action} --principal '*' {_URL_OPTIONS[action]}`."
        )

    def _setting(self, setting: str, option: str) -> str:
        return (
            f"Set {setting} in serverless.yml and run `scripts/deploy aws`, or "
            f"`aws lambda update-function-configuration --function-name {self.name} {option}`."
        )


def examine(case: Case, name: str) -> Iterator[Finding]:
    """The findings on the function, or one that says why AWS was not heard."""
    try:
        api = lambda_api(name, case.environ, patience_s=case.patience_s)
    except ValueError as error:
        text = str(error)
        yield skipped("function", f"Lambda was not asked: {text}", f"Set {text.partition(':')[0]}.")
        return
    try:
        said = api.configuration()
    except LambdaSilent as error:
        yield _unheard(error, api)
        return
    yield from _on_itself(said, api, case)
    yield from _on_callers(said, api)


def _unheard(error: LambdaSilent, api: LambdaApi) -> Finding:
    check = "function"
    if isinstance(error, NotThere):
        return failed(
            check,
            f"there is no function {api.name} in {api.region}",
            "Name it as `osls info` shows it, `fal-image doctor --function NAME`, and set "
            "AWS_REGION to its region.",
        )
    if isinstance(error, KeysRefused):
        fix = "Log in again, or mend them with `aws configure`."
        return failed(check, f"AWS does not take these credentials: {error}", fix)
    if isinstance(error, NotAllowed):
        said = f"these credentials may not ask about {api.name}"
        return skipped(check, said, f"Allow them {error}.")
    fix = "Give boto3 credentials: `aws configure`, or AWS_PROFILE."
    said = f"Lambda was not heard about {api.name}: {error}"
    return skipped(check, said, fix if isinstance(error, NoKeys) else None)


def _on_itself(said: Said, api: LambdaApi, case: Case) -> Iterator[Finding]:
    environment = said.get("Environment") or {}
    function = Deployed(
        name=api.name,
        timeout_s=int(said["Timeout"]),
        memory_mb=int(said["MemorySize"]),
        fixes=LambdaFixes(api.name),
        variables=None if "Error" in environment else environment.get("Variables", {}),
    )
    yield _state(said, api.name)
    if "Runtime" in said:  # an image brings its own
        yield _runtime(str(said["Runtime"]), api.name, case.seams.now().date())
    yield from judged(function, case.settings, case.environ)
    if "Error" in environment:
        yield failed(
            "function.environment",
            f"Lambda cannot read {api.name}'s variables: {environment['Error'].get('ErrorCode')}",
            "Give its role, and yourself, kms:Decrypt on the key that they are encrypted with.",
        )
    yield _network(said, api.name)


def _state(said: Said, name: str) -> Finding:
    check, state = "function.state", str(said.get("State", "Active"))
    fix = "Mend what Lambda names and run `scripts/deploy aws`."
    if state not in {"Active", "Inactive", "Pending"}:
        return failed(check, f"{name} is in state {state}: {said.get('StateReason')}", fix)
    if said.get("LastUpdateStatus") == "Failed":
        because = said.get("LastUpdateStatusReason")
        return failed(
            check, f"the last update of {name} failed, the one before runs: {because}", fix
        )
    if state == "Inactive":
        wake = "Call GET /health until it answers."
        return warning(check, f"{name} sleeps: Lambda refuses calls while it wakes", wake)
    if state == "Pending" or said.get("LastUpdateStatus") == "InProgress":
        return warning(check, f"{name} is being changed", "Run the doctor again in a minute.")
    return ok(check, f"{name} is active")


def _runtime(runtime: str, name: str, today: date) -> Finding:
    check, minor = "function.runtime", re.fullmatch(r"python3\.(\d+)", runtime)
    said = f"{name} runs on {runtime}"
    fix = f"Set runtime: {RUNTIME} in serverless.yml and run `scripts/deploy aws`."
    if not minor or int(minor[1]) < OLDEST_MINOR:
        return failed(check, f"{said}, and the package needs Python 3.{OLDEST_MINOR}", fix)
    deprecated_on = DEPRECATED_ON.get(int(minor[1]))
    if deprecated_on is not None and deprecated_on <= today:
        return warning(check, f"{said}, which AWS patches no more since {deprecated_on}", fix)
    return ok(check, said)


def _network(said: Said, name: str) -> Finding:
    check = "function.network"
    if not (said.get("VpcConfig") or {}).get("SubnetIds"):
        return ok(check, f"{name} may reach the public network")
    return warning(
        check,
        f"{name} is in a VPC: without a NAT gateway there, fal is not reached",
        "Take vpc out of serverless.yml, or route its private subnets through a NAT gateway.",
    )


def _on_callers(said: Said, api: LambdaApi) -> Iterator[Finding]:
    """What else has to be asked; what may not be asked is told of and passed over."""
    variables = (said.get("Environment") or {}).get("Variables") or {}
    has_database = bool(variables.get("FAL_IMAGE_DATABASE_URL"))
    checks: dict[str, Callable[[LambdaApi], Finding]] = {
        "concurrency": _concurrency,
        "url": partial(_url, has_database=has_database),
    }
    if has_database:
        checks["sweep"] = _sweep
    if queue := variables.get("FAL_IMAGE_QUEUE_URL"):
        checks["queue"] = partial(_queue, arn=_queue_arn(queue, str(said["FunctionArn"])))
    for word, check in checks.items():
        try:
            yield check(api)
        except NotAllowed as error:
            yield skipped(f"function.{word}", f"these credentials lack {error}", f"Allow {error}.")
        except LambdaSilent as error:
            yield skipped(f"function.{word}", f"Lambda was not heard: {error}")


def _concurrency(api: LambdaApi) -> Finding:
    check, number = "function.concurrency", api.reserved_concurrency()
    if number == 0:
        return failed(
            check,
            f"{api.name} is switched off: none may run, its reserved concurrency is 0",
            f"Run `aws lambda delete-function-concurrency --function-name {api.name}`.",
        )
    return ok(check, f"{api.name}: {number or 'as many as the account has'} at once")


def _url(api: LambdaApi, has_database: bool) -> Finding:
    check, url = "function.url", api.url()
    if url is None:
        return skipped(check, f"{api.name} has no Function URL: it is called in another way")
    if url["AuthType"] != "NONE":
        if not has_database:
            return ok(check, f"{api.name}'s URL is for those who sign with AWS keys")
        return warning(
            check,
            f"{api.name}'s URL is for those who sign with AWS keys: fal's webhooks are refused",
            "Set url: true in serverless.yml and run `scripts/deploy aws`.",
        )
    statements = api.statements()
    lacking = [right for right in URL_RIGHTS if not any(_opens(one, right) for one in statements)]
    if lacking:
        return failed(
            check,
            f"{api.name}'s URL answers 403 to everybody: its policy lacks {' and '.join(lacking)}",
            LambdaFixes(api.name).url(lacking[0]),
        )
    return ok(check, f"{api.name}'s URL is open, with both permissions")


def _opens(statement: Said, right: str) -> bool:
    """Whether it lets everybody use the right through a URL. One with conditions of other kinds is
    for somebody only."""
    condition_name, wanted = URL_RIGHTS[right]
    if statement.get("Principal") not in ("*", {"AWS": "*"}) or not _allows(statement, right):
        return False
    conditions = [
        (operator in {"StringEquals", "Bool"}, name, str(value).lower())
        for operator, pairs in (statement.get("Condition") or {}).items()
        for name, value in pairs.items()
    ]
    return all(found == (True, condition_name, wanted.lower()) for found in conditions)


def _allows(statement: Said, right: str) -> bool:
    actions = statement.get("Action")
    listed = actions if isinstance(actions, list) else [actions]
    return statement.get("Effect") == "Allow" and not {right, "lambda:*"}.isdisjoint(listed)


def _sweep(api: LambdaApi) -> Finding:
    check = "function.sweep"
    for statement in api.statements():
        principal = statement.get("Principal")
        service = principal.get("Service") if isinstance(principal, Mapping) else None
        if service == "events.amazonaws.com" and _allows(statement, "lambda:InvokeFunction"):
            return ok(check, f"EventBridge may call {api.name}")
    return warning(
        check,
        f"no EventBridge rule may call {api.name}, so jobs that were left behind may stay behind",
        "Add the schedule of serverless.yml, rate(1 minute), and run `scripts/deploy aws`.",
    )


def _queue_arn(url: str, function_arn: str) -> str:
    """A queue that Lambda reads is in the function's region (AWS Lambda guide, "Amazon SQS")."""
    _, partition, _, region, *_ = function_arn.split(":")
    account, name = urlsplit(url).path.strip("/").split("/")[-2:]
    return f"arn:{partition}:sqs:{region}:{account}:{name}"


def _queue(api: LambdaApi, arn: str) -> Finding:
    check, readers = "function.queue", api.readers(arn)
    queue = arn.rpartition(":")[2]
    if not readers:
        return failed(
            check,
            f"no function reads the queue {queue} of FAL_IMAGE_QUEUE_URL",
            "Add the sqs event of serverless.yml and run `scripts/deploy aws`.",
        )
    off = [one for one in readers if str(one.get("State")) in {"Disabled", "Disabling"}]
    if len(off) == len(readers):
        uuid = off[0].get("UUID")
        fix = f"Run `aws lambda update-event-source-mapping --uuid {uuid} --enabled`."
        return failed(check, f"whoever reads the queue {queue} is switched off", fix)
    return ok(check, f"the queue {queue} is read")
