"""The CloudBase CLI itself, with this project's file, against a cloud on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from scripts.deploying import cloudbase_file
from scripts.deploying.cloudbase import Plan, deployed, planned, says_deployed
from scripts.setup import TOOLS_FOLDER

from support.cloudbaserc import EVENT, Config, a_shell, config, written
from support.fake_tencent import FakeTencent, fake_tencent

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(60),
    pytest.mark.needs("deploy tools"),
]

TCB = TOOLS_FOLDER / "node_modules" / ".bin" / "tcb"
REDIRECTED = Path(__file__).with_name("redirected.cjs")
NAMES = {"cloudbase": "fal-image-gen", "cloudbase-http": "fal-image-gen-http"}

# Each is a line of a .env file; the variable of its name is passed on.
LINES = """\
PLAIN=some text
SPACED  =  some text
EMPTY=
SINGLE='quoted text'
DOUBLE="quoted text"
NUMBER=12
NULL=null
LIST=[]
OBJECT= {}
NEARLY={}x
HASH=text # and more
EQUALS=a=b==
UMLAUT=Bäume 树
BRACES={{env.PLAIN}}
#COMMENT=hidden
export EXPORTED=hidden
TWICE=one
TWICE=two
SHELL=of the file
"""


@pytest.fixture
def cloud() -> Iterator[FakeTencent]:
    with fake_tencent("pictures-3gabc") as fake:
        yield fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with this cloudbaserc.json and packages of a few files."""
    for target in NAMES:
        package = tmp_path / "project" / ".build" / target
        for name in (
            *("index.py", "scf_bootstrap", "fal_image/app.py", "fal_image/prices.json"),
            "fal_image/__pycache__/app.cpython-310.pyc",
        ):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text("x", encoding="utf-8")
        (package / "scf_bootstrap").chmod(0o755)
    return written(tmp_path / "project", config())


def a_plan(target: str, folder: Path, **changes: str | None) -> Plan:
    plan, found = planned(target, folder, a_shell(**changes))
    assert plan is not None, found
    return plan


def shell_of(cloud: FakeTencent, folder: Path, *, is_logged_in: bool = True) -> dict[str, str]:
    """What the CLI sees: a home of its own, and the network leads to the fake."""
    home = folder.parent / "home"
    keys = home / ".config" / ".cloudbase" / "auth.json"
    keys.parent.mkdir(parents=True, exist_ok=True)
    credential = {"secretId": "AKIDcanary", "secretKey": "canary"} if is_logged_in else {}
    keys.write_text(json.dumps({"credential": credential}), encoding="utf-8")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "NODE_OPTIONS": f"--require {json.dumps(str(REDIRECTED))}",
        "FAKE_CLOUD_PORT": str(cloud.port),
    }


def deploy(
    plan: Plan, cloud: FakeTencent, folder: Path, *, is_logged_in: bool = True
) -> tuple[int, str]:
    command = [str(TCB), "fn", "deploy", plan.function, "--force", "--yes"]
    return deployed(command, plan, folder, shell_of(cloud, folder, is_logged_in=is_logged_in))


def given_to(body: Mapping[str, Any]) -> dict[str, Any]:
    return {pair["Key"]: pair.get("Value") for pair in body["Environment"]["Variables"]}


def test_the_event_function_is_made_with_its_timer_and_its_route(cloud: FakeTencent, folder: Path):
    plan = a_plan("cloudbase", folder)
    status, words = deploy(plan, cloud, folder)
    assert status == 0
    assert says_deployed(words, plan.function)
    (made,) = cloud.asked("CreateFunction")
    expected = {
        "FunctionName": "fal-image-gen",
        "Type": "Event",
        "Handler": "index.main",
        "Runtime": "Python3.10",
        "Timeout": 300,
        "MemorySize": 512,
    }
    assert expected.items() <= made.items()
    asked = config()["functions"][EVENT]["envVariables"]
    assert given_to(made) == cloudbase_file.filled(asked, plan.variables)
    (timer,) = cloud.asked("BatchCreateTrigger")
    assert json.loads(timer["Triggers"]) == [
        {"TriggerName": "sweep", "Type": "timer", "TriggerDesc": "0 * * * * * *"}
    ]
    (route,) = cloud.asked("CreateCloudBaseGWAPI")
    assert (route["Path"], route["Name"]) == ("/fal-image-gen", "fal-image-gen")
    assert f"https://{cloud.env_id}.service.tcloudbase.com/fal-image-gen" in words


def test_the_http_function_is_made_with_its_route_and_its_program(cloud: FakeTencent, folder: Path):
    plan = a_plan("cloudbase-http", folder)
    status, words = deploy(plan, cloud, folder)
    assert status == 0
    assert says_deployed(words, plan.function)
    (made,) = cloud.asked("CreateFunction")
    expected = {"FunctionName": "fal-image-gen-http", "Type": "HTTP", "Runtime": "Python3.10"}
    assert expected.items() <= made.items()
    assert made["InstanceConcurrencyConfig"] == {"DynamicEnabled": "FALSE", "MaxConcurrency": 10}
    assert given_to(made)["CLOUDBASE_APIKEY"] == plan.variables["CLOUDBASE_APIKEY"]
    assert cloud.asked("BatchCreateTrigger") == []
    assert [route["Path"] for route in cloud.asked("CreateCloudBaseGWAPI")] == [
        "/fal-image-gen-http"
    ]
    assert cloud.package["scf_bootstrap"] == 0o755


def test_bytecode_is_uploaded_and_what_the_file_says_to_leave_out_is_not(
    cloud: FakeTencent, folder: Path
):
    package = folder / ".build" / "cloudbase"
    before = {path.relative_to(package).as_posix() for path in package.rglob("*.*")}
    for name in (".env", ".env.local"):
        (package / name).write_text("x", encoding="utf-8")
    deploy(a_plan("cloudbase", folder), cloud, folder)
    assert cloud.package.keys() == before | {"scf_bootstrap"}
    assert "fal_image/__pycache__/app.cpython-310.pyc" in cloud.package


def test_a_second_deploy_brings_new_code_and_the_settings_of_today(
    cloud: FakeTencent, folder: Path
):
    deploy(a_plan("cloudbase", folder), cloud, folder)
    plan = a_plan("cloudbase", folder, FAL_KEY="canary0new:canary0new")
    status, words = deploy(plan, cloud, folder)
    assert status == 0
    assert says_deployed(words, plan.function)
    assert len(cloud.asked("UpdateFunctionCode")) == 1
    (update,) = cloud.asked("UpdateFunctionConfiguration")
    assert given_to(update)["FAL_KEY"] == "canary0new:canary0new"
    assert len(given_to(update)) == 7


@pytest.mark.parametrize("action", ["CreateFunction", "BatchCreateTrigger", "CreateCloudBaseGWAPI"])
def test_a_step_that_the_cloud_refuses_is_no_success_though_the_cli_ends_with_0(
    cloud: FakeTencent, folder: Path, action: str
):
    cloud.refuses = action
    plan = a_plan("cloudbase", folder)
    status, words = deploy(plan, cloud, folder)
    assert status == 0
    assert not says_deployed(words, plan.function)
    assert "UnauthorizedOperation" in words


def test_whoever_is_not_logged_in_is_told_so_and_nothing_is_made(cloud: FakeTencent, folder: Path):
    plan = a_plan("cloudbase", folder)
    _, words = deploy(plan, cloud, folder, is_logged_in=False)
    assert not says_deployed(words, plan.function)
    assert "login" in words
    assert cloud.calls == []


def without_env_id() -> str:
    return json.dumps(config(lambda changed: changed.pop("envId")))


@pytest.mark.parametrize(
    ("text", "secret"),
    [("{", "fine"), (without_env_id(), "fine"), (json.dumps(config()), 'with a "quote"')],
    ids=["malformed", "no environment", "a quote in a secret"],
)
def test_what_the_cli_itself_cannot_read_is_refused_here_first(
    cloud: FakeTencent, folder: Path, text: str, secret: str
):
    plan = a_plan("cloudbase", folder)
    written(folder, text)
    refused, found = planned("cloudbase", folder, a_shell(FAL_IMAGE_SECRET=secret))
    assert refused is None
    assert found
    broken = Plan(plan.function, plan.python, {**plan.variables, "FAL_IMAGE_SECRET": secret})
    status, words = deploy(broken, cloud, folder)
    assert status != 0
    assert not says_deployed(words, plan.function)
    assert cloud.calls == []


def test_variables_are_filled_in_as_the_cli_does_it(cloud: FakeTencent, folder: Path):
    names = {line.partition("=")[0].split()[-1].lstrip("#") for line in LINES.splitlines()}
    asked = {name: f"{{{{env.{name}}}}}" for name in sorted(names | {"NOWHERE"})}
    asked |= {"WITHIN": "of {{env.PLAIN}}, {{ env.EQUALS }} and {{env.NOWHERE}}."}

    def ask(changed: Config) -> None:
        changed["functions"][EVENT]["envVariables"] = asked

    written(folder, config(ask))
    (folder / ".env").write_text(LINES, encoding="utf-8")
    (folder / ".env.local").write_text("LOCAL=later\nPLAIN=later text\n", encoding="utf-8")
    shell = {"SHELL": "of the shell", "ENV_ID": cloud.env_id}
    deploy(Plan("fal-image-gen", "3.10", shell), cloud, folder)
    (made,) = cloud.asked("CreateFunction")
    given = cloudbase_file.variables(folder, shell)
    assert given_to(made) == cloudbase_file.filled(asked, given)
    assert given_to(made)["WITHIN"] == "of later text, a=b== and ."
