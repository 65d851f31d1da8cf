"""scripts/deploy cloudbase: what is wrong is found before anything is made, and named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts.deploying.cloudbase import Plan, planned, says_deployed

from support.cloudbaserc import EVENT, HTTP, Config, a_shell, config, written
from support.entrypoints import FAL_KEY, ROOT

Change = Callable[[Config], object]
TARGETS = ["cloudbase", "cloudbase-http"]

FOREIGN = ("FAL_", "ENV_ID", "CLOUDBASE_")


def plan_of(target: str, folder: Path, *arguments: str, **changes: str | None) -> Plan:
    plan, found = planned(target, folder, a_shell(**changes), arguments)
    assert found == []
    assert plan is not None
    return plan


def problems(target: str, folder: Path, *arguments: str, **changes: str | None) -> list[str]:
    """What speaks against a deploy; none of the shell's values is among the words."""
    shell = a_shell(**changes)
    plan, found = planned(target, folder, shell, arguments)
    assert (plan is None) == bool(found)
    for problem in found:
        for value in shell.values():
            assert len(value) < 8 or value not in problem
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with this project's own file."""
    return written(tmp_path, config())


def changed(folder: Path, change: Change) -> Path:
    return written(folder, config(change))


def in_variables(function: int, **variables: str) -> Change:
    return lambda config: config["functions"][function]["envVariables"].update(variables)


@pytest.mark.parametrize(
    ("target", "name"), [("cloudbase", "fal-image-gen"), ("cloudbase-http", "fal-image-gen-http")]
)
def test_the_projects_own_file_deploys_with_nothing_but_its_secrets_set(
    folder: Path, target: str, name: str
):
    plan = plan_of(target, folder)
    assert (plan.function, plan.python) == (name, "3.10")
    assert dict(plan.variables) == a_shell()


def test_the_event_function_needs_no_key_of_cloudbase(folder: Path):
    assert problems("cloudbase", folder, CLOUDBASE_APIKEY=None) == []


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", sorted(a_shell().keys() - {"CLOUDBASE_APIKEY"}))
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_setting_that_is_missing_is_named(
    folder: Path, target: str, name: str, value: str | None
):
    assert name in {said.split(":")[0] for said in problems(target, folder, **{name: value})}


@pytest.mark.parametrize("value", [None, "", "  "])
def test_the_http_function_is_not_deployed_without_a_key_of_cloudbase(
    folder: Path, value: str | None
):
    (said,) = problems("cloudbase-http", folder, CLOUDBASE_APIKEY=value)
    assert said.startswith("CLOUDBASE_APIKEY: must be set")


def test_nor_when_the_file_does_not_pass_it_on(folder: Path):
    def drop(config: Config) -> None:
        del config["functions"][HTTP]["envVariables"]["CLOUDBASE_APIKEY"]

    (said,) = problems("cloudbase-http", changed(folder, drop))
    assert said.startswith("CLOUDBASE_APIKEY: must be in envVariables")


def test_the_owners_own_keys_do_instead(folder: Path):
    def own(config: Config) -> None:
        variables = config["functions"][HTTP]["envVariables"]
        del variables["CLOUDBASE_APIKEY"]
        variables |= {name: f"{{{{env.{name}}}}}" for name in ("TCB_SECRET_ID", "TCB_SECRET_KEY")}

    keys = {"TCB_SECRET_ID": "canary0id", "TCB_SECRET_KEY": "canary0key"}
    assert problems("cloudbase-http", changed(folder, own), **keys) == []


def test_a_missing_environment_is_one_problem_though_four_settings_are_made_from_it(
    folder: Path,
):
    (said,) = problems("cloudbase", folder, ENV_ID=None)
    assert said.startswith("ENV_ID: must be set")


@pytest.mark.parametrize("value", ["My-Env", "my_env", "-env", "e" * 41, "https://x.com"])
def test_an_environment_that_cannot_be_one_is_refused(folder: Path, value: str):
    (said,) = problems("cloudbase", folder, ENV_ID=value)
    assert said.startswith("ENV_ID: must be an id such as")


def test_the_environment_may_stand_in_the_file(folder: Path):
    folder = changed(folder, lambda config: config.update(envId="pictures-3gabc"))
    plan = plan_of("cloudbase", folder, ENV_ID=None)
    assert plan.variables["ENV_ID"] == "pictures-3gabc"


def test_but_not_another_than_the_shells(folder: Path):
    another = changed(folder, lambda config: config.update(envId="another-3gabc"))
    (said,) = problems("cloudbase", another)
    assert said == "ENV_ID: is not the envId of cloudbaserc.json"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAL_KEY", "a key with spaces"),
        ("FAL_IMAGE_SECRET", "short"),
        ("FAL_IMAGE_API_KEYS", "web=not-a-hash"),
        ("FAL_IMAGE_API_KEYS", "null"),
        ("FAL_IMAGE_API_KEYS", "[]"),
        ("FAL_IMAGE_SECRET", 'canary0"signing0secret0of0this0test'),
        ("FAL_IMAGE_SECRET", "canary0\\signing0secret0of0this0test"),
        ("FAL_IMAGE_SECRET", "canary0\nsigning0secret0of0this0test"),
    ],
)
def test_a_setting_that_cannot_be_used_or_passed_on_is_named(
    folder: Path, target: str, name: str, value: str
):
    assert name in {said.split(":")[0] for said in problems(target, folder, **{name: value})}


def test_a_setting_that_would_be_lost_is_named_with_the_line_to_add(folder: Path):
    (said,) = problems("cloudbase", folder, FAL_IMAGE_TRUST="wechat")
    assert said.startswith("FAL_IMAGE_TRUST: ")
    line = '"FAL_IMAGE_TRUST": "{{env.FAL_IMAGE_TRUST}}"'
    assert line in said
    add = in_variables(EVENT, **json.loads(f"{{{line}}}"))
    assert problems("cloudbase", changed(folder, add), FAL_IMAGE_TRUST="wechat") == []


@pytest.mark.parametrize("name", ["FAL_KEY_ID", "FAL_KEY_FILE", "FAL_KEY_SSM_PARAM"])
def test_a_key_of_fal_given_otherwise_is_not_lost_either(folder: Path, name: str):
    found = problems("cloudbase", folder, FAL_KEY=None, **{name: "canary0value"})
    assert {"FAL_KEY", name} <= {said.split(":")[0] for said in found}


def test_a_setting_that_the_file_overrules_is_named(folder: Path):
    (said,) = problems("cloudbase", folder, FAL_IMAGE_STORAGE_URL="s3://elsewhere")
    assert said.startswith("FAL_IMAGE_STORAGE_URL: is set here, but cloudbaserc.json")
    same = "cloudbase://pictures-3gabc/ai-images"
    assert problems("cloudbase", folder, FAL_IMAGE_STORAGE_URL=same) == []


def test_where_a_client_finds_the_function_is_no_setting_of_the_function(folder: Path):
    client = {"FAL_IMAGE_URL": "https://pictures.example.com", "FAL_IMAGE_TOKEN": "canary0token"}
    assert problems("cloudbase", folder, **client) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FAL_IMAGE_MODEL", "flux"),
        ("FAL_IMAGE_LINK_TTL_S", "86400"),
        ("FAL_IMAGE_STORAGE_URL", "file:///tmp/pictures"),
        ("FAL_IMAGE_DATABASE_URL", "sqlite:////tmp/jobs.db"),
        ("FAL_IMAGE_EMULATOR_URL", "http://127.0.0.1:4100"),
    ],
)
def test_a_setting_that_is_wrong_in_the_file_is_named(folder: Path, name: str, value: str):
    found = problems("cloudbase", changed(folder, in_variables(EVENT, **{name: value})))
    assert [said.split(":")[0] for said in found] == [name]


def test_only_env_variables_are_filled_in(folder: Path):
    change = in_variables(EVENT, FAL_IMAGE_MODELS="{{tcb.envId}}")
    place = "functions[0].envVariables.FAL_IMAGE_MODELS"
    assert place in {said.split(":")[0] for said in problems("cloudbase", changed(folder, change))}


def test_four_kilobytes_of_settings_are_the_most(folder: Path):
    def large(size: int) -> Change:
        return in_variables(EVENT, NOTE="x" * size)

    assert problems("cloudbase", changed(folder, large(2800))) == []
    (said,) = problems("cloudbase", changed(folder, large(4096)))
    assert said.startswith("NOTE: is the longest of settings of ")


def test_every_problem_is_told_at_once(folder: Path):
    def slow(config: Config) -> None:
        config["functions"][EVENT]["timeout"] = 3600

    wrong = {"FAL_KEY": None, "FAL_IMAGE_SECRET": "short", "FAL_IMAGE_TRUST": "wechat"}
    found = problems("cloudbase", changed(folder, slow), **wrong)
    assert {said.split(":")[0] for said in found} == {"functions[0].timeout", *wrong}


def test_the_target_is_found_by_its_folder_whatever_its_name(folder: Path):
    def rename(config: Config) -> None:
        config["functions"][EVENT]["name"] = "pictures"
        config["functions"].reverse()

    assert plan_of("cloudbase", changed(folder, rename)).function == "pictures"


WITHOUT_THE_FUNCTION: dict[str, Change] = {
    "it is not there": lambda config: config["functions"].pop(EVENT),
    "it is there twice": lambda config: config["functions"].append(config["functions"][EVENT]),
    "functions by name": lambda config: config.update(functions={}),
    "no functions": lambda config: config.pop("functions"),
}


@pytest.mark.parametrize("name", WITHOUT_THE_FUNCTION)
def test_a_file_without_the_one_function_of_the_target_is_refused(folder: Path, name: str):
    change = WITHOUT_THE_FUNCTION[name]
    found = problems("cloudbase", changed(folder, change))
    assert found[-1] == 'cloudbaserc.json: needs one function with "dir": ".build/cloudbase"'


def test_a_function_of_the_other_kind_is_refused(folder: Path):
    def swap(config: Config) -> None:
        event, http = config["functions"]
        event["dir"], http["dir"] = http["dir"], event["dir"]

    (said,) = problems("cloudbase-http", changed(folder, swap))
    assert said.startswith("type: must be HTTP ")


@pytest.mark.parametrize("text", ["", "{", '{"envId": }', "[]", "null", '"x"'])
def test_a_file_that_cannot_be_read_is_refused(folder: Path, text: str):
    plan, found = planned("cloudbase", written(folder, text), a_shell())
    assert plan is None
    assert found


def test_a_file_that_is_not_there_is_refused(tmp_path: Path):
    plan, found = planned("cloudbase", tmp_path, a_shell())
    assert plan is None
    assert found[0].startswith("cloudbaserc.json: cannot be read")


@pytest.mark.parametrize(
    "arguments",
    [["-e", "another"], ["-eanother"], ["--envId", "another"], ["--env-id=another"]]
    + [["--config-file", "x.json"], ["--mode", "test"], ["--dir", "x"], ["--path=/x"], ["--all"]]
    + [["--httpFn"], ["--ws"]],
)
def test_an_argument_that_would_deploy_something_else_is_refused(
    folder: Path, arguments: list[str]
):
    (said,) = problems("cloudbase", folder, *arguments)
    assert said.startswith(f"{arguments[0]}: ")


def test_other_arguments_are_the_clis_own_business(folder: Path):
    assert problems("cloudbase", folder, "--verbose", "--deployMode", "cos") == []


def test_settings_may_stand_in_an_env_file_and_the_shell_goes_before_it(folder: Path):
    shell = a_shell(FAL_IMAGE_SECRET="canary0the0shells0own0secret0text")
    lines = [f"{name}={value}" for name, value in a_shell().items()]
    (folder / ".env").write_text("\n".join(lines), encoding="utf-8")
    only = {"FAL_IMAGE_SECRET": shell["FAL_IMAGE_SECRET"]}
    plan, found = planned("cloudbase", folder, only)
    assert found == []
    assert plan is not None
    assert dict(plan.variables) == shell


@pytest.mark.parametrize(
    ("words", "is_success"),
    [
        ("✔ [fal-image-gen] Cloud function deployed successfully!", True),
        ("- Loading data...\n\x1b[32m✔\x1b[39m [fal-image-gen] 云函数部署成功！\nℹ see", True),
        ("√ [fal-image-gen] Cloud function deployed successfully!", True),
        ("✖ [fal-image-gen] 函数部署失败\n✖   错误信息: No valid identity information", False),
        ("✔ Authorization login successful!\nhttps://x.service.tcloudbase.com/f", False),
        ("✔ [fal-image-gen] 云函数代码已更新！\n✖ [fal-image-gen] 函数部署失败", False),
        ("✔ [fal-image-gen-http] Cloud function deployed successfully!", False),
        ("", False),
    ],
)
def test_success_is_a_tick_before_the_functions_name_and_no_cross(words: str, is_success: bool):
    assert says_deployed(words, "fal-image-gen") is is_success


def run(
    folder: Path, *arguments: str, path: str | None = None, **changes: str | None
) -> subprocess.CompletedProcess[str]:
    """scripts/deploy in a copy of what it reads: a developer's .env is not."""
    shutil.copytree(ROOT / "scripts" / "deploying", folder / "scripts" / "deploying")
    mine = {name: text for name, text in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        [sys.executable, "-m", "scripts.deploying", *arguments],
        cwd=folder,
        env={**mine, "PATH": path or mine["PATH"], **a_shell(**changes)},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("target", TARGETS)
def test_check_tells_every_problem_on_a_line_of_stderr_and_makes_nothing(folder: Path, target: str):
    done = run(folder, target, "--check", FAL_KEY="", FAL_IMAGE_SECRET="short")
    assert (done.returncode, done.stdout) == (2, "")
    names = {line.split(":")[0] for line in done.stderr.splitlines()}
    assert names == {"FAL_IMAGE_SECRET", "FAL_KEY"}
    assert not (folder / ".build").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_check_of_what_can_be_deployed_is_silent(folder: Path, target: str):
    done = run(folder, target, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def stood_in(folder: Path, *, package: str = "", tcb: str = "") -> str:
    """A PATH with a `tcb` of these lines, in a project that packages by these."""
    packaging = folder / "scripts" / "packaging"
    packaging.mkdir(parents=True)
    (packaging / "__main__.py").write_text(f"import sys\n{package}\n", encoding="utf-8")
    programs = folder / "programs"
    programs.mkdir()
    (programs / "tcb").write_text(f"#!/bin/sh\n{tcb}\n", encoding="utf-8")
    (programs / "tcb").chmod(0o755)
    return f"{programs}:/usr/bin:/bin"


def test_the_package_is_for_the_python_of_the_file_and_the_cli_is_asked_no_questions(folder: Path):
    def newer(config: Config) -> None:
        config["functions"][EVENT]["runtime"] = "Python3.11"

    path = stood_in(
        changed(folder, newer),
        package="print('packaged', *sys.argv[1:], flush=True)",
        tcb='echo "$@ $FAL_KEY"; echo "✔ [fal-image-gen] deployed"',
    )
    done = run(folder, "cloudbase", "--verbose", path=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "packaged cloudbase --python 3.11",
        f"fn deploy fal-image-gen --force --yes --verbose {FAL_KEY}",
        "✔ [fal-image-gen] deployed",
    ]


def test_without_a_package_nothing_is_deployed(folder: Path):
    path = stood_in(folder, package="sys.exit(1)", tcb="echo deployed")
    done = run(folder, "cloudbase", path=path)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_failure_of_the_cli_that_ends_with_0_is_a_failure_here(folder: Path):
    path = stood_in(folder, tcb='echo "✖ [fal-image-gen] 函数部署失败"')
    done = run(folder, "cloudbase", path=path)
    assert done.returncode == 1
    assert done.stderr == "fal-image-gen is not deployed, or not wholly: see above\n"


def test_a_failure_of_the_cli_is_told_as_it_ended(folder: Path):
    done = run(folder, "cloudbase", path=stood_in(folder, tcb="exit 7"))
    assert done.returncode == 7


def test_without_the_cli_and_npm_nothing_is_made(folder: Path):
    stood_in(folder, package="print('packaged')")
    done = run(folder, "cloudbase", path=str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tcb needs Node 20 or newer with npm, from nodejs.org\n"
