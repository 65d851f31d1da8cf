"""What the CloudBase CLI lets through in cloudbaserc.json, and the cloud would refuse or ignore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from scripts.deploying import cloudbase_schema
from scripts.deploying.cloudbase_schema import DOCUMENT, faults
from scripts.setup import TOOLS_FOLDER

from support.cloudbaserc import EVENT, HTTP, Config, config

Change = Callable[[Config], object]

AJV = """
const { default: Ajv } = require("ajv/dist/2020");
const [document, configs] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const fits = new Ajv({ strict: false }).compile(document);
console.log(JSON.stringify(configs.map((config) => fits(config))));
"""


def put(function: int, name: str, value: object) -> Change:
    return partial(_put, function, name, value)


def _put(function: int, name: str, value: object, changed: Config) -> None:
    changed["functions"][function][name] = value


def drop(function: int, name: str) -> Change:
    return lambda changed: changed["functions"][function].pop(name)


def a_timer(**changes: object) -> list[dict[str, object]]:
    return [{"name": "sweep", "type": "timer", "config": "0 * * * * * *", **changes}]


def a_cron(text: str) -> Change:
    return put(EVENT, "triggers", a_timer(config=text))


def a_variable(name: str, value: object = "x") -> Change:
    return lambda changed: changed["functions"][EVENT]["envVariables"].update({name: value})


AT = f"functions[{EVENT}]"
CRON = f"{AT}.triggers[0].config"

REFUSED: dict[str, tuple[Change, str]] = {
    "no time at all": (put(EVENT, "timeout", 0), f"{AT}.timeout"),
    "more time than there is": (put(EVENT, "timeout", 901), f"{AT}.timeout"),
    "milliseconds": (put(EVENT, "timeout", 99999), f"{AT}.timeout"),
    "a time that is text": (put(EVENT, "timeout", "300"), f"{AT}.timeout"),
    "a time that is half a second": (put(EVENT, "timeout", 1.5), f"{AT}.timeout"),
    "no time": (drop(EVENT, "timeout"), f"{AT}.timeout"),
    "too little memory": (put(EVENT, "memorySize", 32), f"{AT}.memorySize"),
    "memory between the steps": (put(EVENT, "memorySize", 192), f"{AT}.memorySize"),
    "round memory": (put(EVENT, "memorySize", 1000), f"{AT}.memorySize"),
    "too much memory": (put(EVENT, "memorySize", 3200), f"{AT}.memorySize"),
    "no memory": (drop(EVENT, "memorySize"), f"{AT}.memorySize"),
    "another language": (put(EVENT, "runtime", "Nodejs18.15"), f"{AT}.runtime"),
    "too old a Python": (put(EVENT, "runtime", "Python3.9"), f"{AT}.runtime"),
    "a Python written otherwise": (put(EVENT, "runtime", "python3.10"), f"{AT}.runtime"),
    "a Python that scf_bootstrap does not start": (
        put(HTTP, "runtime", "Python3.11"),
        f"functions[{HTTP}].runtime",
    ),
    "no runtime": (drop(EVENT, "runtime"), f"{AT}.runtime"),
    "SCF's usual handler": (put(EVENT, "handler", "index.main_handler"), f"{AT}.handler"),
    "a file for a handler": (put(EVENT, "handler", "index.py"), f"{AT}.handler"),
    "no handler": (drop(EVENT, "handler"), f"{AT}.handler"),
    "a name that is too long": (put(EVENT, "name", "f" * 61), f"{AT}.name"),
    "a name with a dot": (put(EVENT, "name", "fal.image"), f"{AT}.name"),
    "a name that begins with a digit": (put(EVENT, "name", "2fal"), f"{AT}.name"),
    "a path without its slash": (put(EVENT, "path", "fal-image-gen"), f"{AT}.path"),
    "a path of nothing": (put(EVENT, "path", "/"), f"{AT}.path"),
    "a folder that nobody packages": (put(EVENT, "dir", "functions/cloudbase"), f"{AT}.dir"),
    "a type that is none": (put(EVENT, "type", "Web"), f"{AT}.type"),
    "no type": (drop(EVENT, "type"), f"{AT}.type"),
    "a field that does nothing": (put(EVENT, "isHTTP", True), f"{AT}.isHTTP"),
    "a misspelt field": (put(EVENT, "timeOut", 300), f"{AT}.timeOut"),
    "a field of old files": (put(EVENT, "config", {"timeout": 300}), f"{AT}.config"),
    "several requests at a time in an event function": (
        put(EVENT, "instanceConcurrencyConfig", {"dynamicEnabled": "FALSE", "maxConcurrency": 2}),
        f"{AT}.instanceConcurrencyConfig",
    ),
    "more requests at a time than there may be": (
        put(HTTP, "instanceConcurrencyConfig", {"dynamicEnabled": "FALSE", "maxConcurrency": 101}),
        f"functions[{HTTP}].instanceConcurrencyConfig.maxConcurrency",
    ),
    "a number of requests that is not fixed": (
        put(HTTP, "instanceConcurrencyConfig", {"dynamicEnabled": "TRUE", "maxConcurrency": 1}),
        f"functions[{HTTP}].instanceConcurrencyConfig.dynamicEnabled",
    ),
    "a timer of an HTTP function": (
        put(HTTP, "triggers", a_timer()),
        f"functions[{HTTP}].triggers",
    ),
    "another trigger": (put(EVENT, "triggers", a_timer(type="cos")), f"{AT}.triggers[0].type"),
    "five fields, as cron has them": (a_cron("* * * * *"), CRON),
    "six fields": (a_cron("0 * * * * *"), CRON),
    "the sixtieth second": (a_cron("60 * * * * * *"), CRON),
    "the hour 24": (a_cron("0 0 24 * * * *"), CRON),
    "the day 0": (a_cron("0 0 0 0 * * *"), CRON),
    "the day 32": (a_cron("0 0 0 32 * * *"), CRON),
    "the month 13": (a_cron("0 0 0 1 13 * *"), CRON),
    "the weekday 7": (a_cron("0 0 0 * * 7 *"), CRON),
    "the year 20": (a_cron("0 0 0 * * * 20"), CRON),
    "a step of nothing": (a_cron("*/0 * * * * * *"), CRON),
    "two spaces": (a_cron("0  * * * * * *"), CRON),
    "words": (a_cron("every minute"), CRON),
    "a name of the cloud's own": (a_variable("SCF_KEY"), f"{AT}.envVariables.SCF_KEY"),
    "an older cloud's name": (a_variable("QCLOUD_KEY"), f"{AT}.envVariables.QCLOUD_KEY"),
    "the name of a key that it brings": (
        a_variable("TENCENTCLOUD_SECRETID"),
        f"{AT}.envVariables.TENCENTCLOUD_SECRETID",
    ),
    "a name with a dash": (a_variable("FAL-KEY"), f"{AT}.envVariables.FAL-KEY"),
    "a name that begins with '_'": (a_variable("_KEY"), f"{AT}.envVariables._KEY"),
    "a number for a variable": (a_variable("RETRIES", 3), f"{AT}.envVariables.RETRIES"),
    "no variables": (drop(EVENT, "envVariables"), f"{AT}.envVariables"),
    "variables as SCF's own API has them": (
        put(EVENT, "envVariables", [{"Key": "FAL_KEY", "Value": "x"}]),
        f"{AT}.envVariables",
    ),
    "a network without the internet": (
        put(EVENT, "publicNetConfig", {"publicNetStatus": "DISABLE"}),
        f"{AT}.publicNetConfig.publicNetStatus",
    ),
    "half a network": (put(EVENT, "vpc", {"vpcId": "vpc-1"}), f"{AT}.vpc.subnetId"),
    "no environment": (lambda changed: changed.pop("envId"), "envId"),
    "a region that the CLI does not know": (
        lambda changed: changed.update(region="us-east-1"),
        "region",
    ),
    "a part that this project lacks": (lambda changed: changed.update(hosting={}), "hosting"),
    "functions by name": (lambda changed: changed.update(functions={}), "functions"),
}

TAKEN: dict[str, Change] = {
    "the least time": put(EVENT, "timeout", 1),
    "the most time": put(EVENT, "timeout", 900),
    "the least memory": put(EVENT, "memorySize", 64),
    "the most memory": put(EVENT, "memorySize", 3072),
    "a newer Python": put(EVENT, "runtime", "Python3.11"),
    "the longest name": put(EVENT, "name", "f" * 60),
    "no route": drop(EVENT, "path"),
    "a longer route": put(EVENT, "path", "/v1/pictures"),
    "another minute": a_cron("30 */5 0-23/2 1,15 JAN-MAR MON-FRI 2026-2030"),
    "a private network": put(EVENT, "vpc", {"vpcId": "vpc-1", "subnetId": "subnet-1"}),
    "a network said to be public": put(EVENT, "publicNetConfig", {"publicNetStatus": "ENABLE"}),
    "a region": lambda changed: changed.update(region="ap-singapore"),
}


def test_the_projects_own_file_has_no_fault():
    assert faults(config()) == []


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_cloud_takes_is_taken(name: str):
    assert faults(config(TAKEN[name])) == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_cloud_refuses_is_named_by_its_place(name: str):
    change, place = REFUSED[name]
    (said,) = [fault for fault in faults(config(change)) if fault.startswith(f"{place}: ")]
    assert len(said) > len(place) + 5


def test_every_fault_of_a_file_is_told_at_once():
    def spoil(changed: Config) -> None:
        for change, _ in (REFUSED["milliseconds"], REFUSED["round memory"], REFUSED["six fields"]):
            change(changed)

    places = {fault.partition(":")[0] for fault in faults(config(spoil))}
    assert places == {f"{AT}.timeout", f"{AT}.memorySize", CRON}


@pytest.mark.parametrize("content", [None, [], "functions", 3, {}, {"functions": [None]}])
def test_a_file_that_holds_something_else_is_refused(content: Any):
    assert faults(content)


def test_a_value_is_never_among_the_words():
    change = a_variable("bad name", "canary0secret")
    assert "canary0secret" not in "".join(faults(config(change)))


def test_the_document_for_editors_is_of_today():
    made = cloudbase_schema.document()
    assert DOCUMENT.read_text(encoding="utf-8") == made, (
        "write it anew: .venv/bin/python -m scripts.deploying.cloudbase_schema"
    )


@pytest.mark.long
@pytest.mark.needs("deploy tools")
def test_an_editor_finds_the_same_faults_with_the_document():
    refused = [config(change) for change, _ in REFUSED.values()]
    taken = [config(change) for change in TAKEN.values()]
    said = subprocess.run(
        ["node", "-e", AJV],
        input=json.dumps([json.loads(cloudbase_schema.document()), [*refused, *taken, config()]]),
        cwd=TOOLS_FOLDER,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    fits = dict(zip([*REFUSED, *TAKEN, "as it is"], json.loads(said.stdout), strict=True))
    assert [name for name in REFUSED if fits[name]] == []
    assert [name for name in [*TAKEN, "as it is"] if not fits[name]] == []
