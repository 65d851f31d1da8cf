"""CloudBase: `tcb fn deploy` of a function of cloudbaserc.json, once nothing speaks against it.

Refuses to know who is logged in: that is the CLI's business, which asks for it, and says where.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fal_image.settings import FAL_KEY_NAMES, PREFIX
from fal_image.vendors import env_id

from . import cloudbase_file, cloudbase_schema, settings

CLI = "@cloudbase/cli@2.12.10"

_ROOT = Path(__file__).resolve().parent.parent.parent
_FORMS = {"cloudbase": "Event", "cloudbase-http": "HTTP"}
_OF_A_CLIENT = {f"{PREFIX}URL", f"{PREFIX}TOKEN"}

# With these the CLI would deploy something else than what was checked.
_OTHERWISE = {"all", "configfile", "configpath", "dir", "envid", "httpfn", "mode", "path", "ws"}


@dataclass(frozen=True)
class Plan:
    """A function that may be deployed. `variables` are what the CLI fills into the file."""

    function: str
    python: str
    variables: Mapping[str, str] = field(repr=False)


def main(target: str, arguments: Sequence[str]) -> int:
    """Deploy, or with --check only look. The exit code."""
    rest = [argument for argument in arguments if argument != "--check"]
    plan, problems = planned(target, _ROOT, os.environ, rest)
    if plan is None:
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    if "--check" in arguments:
        return 0
    program = _cli()
    if program is None:
        print("tcb needs Node 20 or newer with npm, from nodejs.org", file=sys.stderr)
        return 2
    package = [sys.executable, "-m", "scripts.packaging", target, "--python", plan.python]
    if subprocess.run(package, cwd=_ROOT).returncode:
        return 2
    command = [*program, "fn", "deploy", plan.function, "--force", "--yes", *rest]
    status, words = deployed(command, plan, _ROOT, os.environ)
    if status == 0 and not says_deployed(words, plan.function):
        print(f"{plan.function} is not deployed, or not wholly: see above", file=sys.stderr)
        return 1
    return status


def _cli() -> list[str] | None:
    installed, npx = shutil.which("tcb"), shutil.which("npx")
    if installed:
        return [installed]
    return [npx, "--yes", "--package", CLI, "tcb"] if npx else None


def planned(
    target: str, folder: Path, shell: Mapping[str, str], arguments: Sequence[str] = ()
) -> tuple[Plan | None, list[str]]:
    """What to deploy, or None and everything that speaks against it, a sentence each that begins
    with the setting or the field. Nothing is asked of anybody, and no secret is among the words."""
    path = folder / cloudbase_file.NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return None, [f"{path.name}: cannot be read: {error}"]
    given = cloudbase_file.variables(folder, shell)
    if not given.get("ENV_ID") and "{{" not in (named := _env_id(config)):
        given["ENV_ID"] = named  # as the CLI does
    found = list(_of_env_id(config, given))
    if found:  # every address that the id is part of would name it once more
        given["ENV_ID"] = "my-env"
    found += _of_arguments(arguments)
    found += cloudbase_file.unreadable(config, given)
    whole = cloudbase_file.filled(config, given)
    found += cloudbase_schema.faults(whole)
    functions = [_function(part, target) for part in (config, whole)]
    if functions[0] is None or functions[1] is None:
        found.append(f'{path.name}: needs one function with "dir": ".build/{target}"')
        return None, found
    asked, function = functions[0], functions[1]
    if function.get("type") != _FORMS[target]:
        found.append(f"type: must be {_FORMS[target]} for the function in .build/{target}")
    found += _of_function(asked, function, given)
    if found:
        return None, list(dict.fromkeys(found))
    names = cloudbase_file.names_in(config)
    filled_in = {name: given.get(name, "") for name in names}
    return Plan(function["name"], function["runtime"].removeprefix("Python"), filled_in), []


def _env_id(config: object) -> str:
    named = config.get("envId") if isinstance(config, dict) else None
    return named if isinstance(named, str) else ""


def _of_arguments(arguments: Sequence[str]) -> Iterator[str]:
    for argument in arguments:
        name = argument.partition("=")[0].lstrip("-").replace("-", "").lower()
        if argument.startswith("-e") or (argument.startswith("--") and name in _OTHERWISE):
            yield f"{argument}: would deploy what was not checked; say it in {cloudbase_file.NAME}"


def _of_env_id(config: object, given: Mapping[str, str]) -> Iterator[str]:
    named = given.get("ENV_ID", "")
    if not named:
        yield "ENV_ID: must be set: the id of the CloudBase environment, as its console shows it"
        return
    try:
        env_id(named, example="")
    except ValueError:
        yield "ENV_ID: must be an id such as my-env-3gabc: at most 40 of a-z, 0-9 and '-'"
    if cloudbase_file.filled(_env_id(config), given) != named:
        yield f"ENV_ID: is not the envId of {cloudbase_file.NAME}"


def _function(config: object, target: str) -> dict[str, Any] | None:
    """The only function that is deployed from the target's package."""
    functions = config.get("functions") if isinstance(config, dict) else None
    found = [
        function
        for function in (functions if isinstance(functions, list) else [])
        if isinstance(function, dict) and function.get("dir") == f".build/{target}"
    ]
    return found[0] if len(found) == 1 else None


def _of_function(
    asked: Mapping[str, object], function: Mapping[str, object], given: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong with the environment that the function would get."""
    variables = function.get("envVariables")
    environment = {
        name: text if isinstance(text, str) else given.get(name, "")
        for name, text in (variables if isinstance(variables, dict) else {}).items()
    }
    found = settings.problems(environment, settings.SCF)
    yield from found
    said = {problem.partition(":")[0] for problem in found} | {"ENV_ID"}
    for name in sorted(cloudbase_file.names_in(asked) - said):
        if not given.get(name, "").strip():
            yield f"{name}: must be set, or its line taken out of {cloudbase_file.NAME}"
    yield from _not_passed_on(environment, given)
    is_kept_in_cloudbase = any(text.startswith("cloudbase://") for text in environment.values())
    if function.get("type") == "HTTP" and is_kept_in_cloudbase and not _has_keys(environment):
        yield (
            "CLOUDBASE_APIKEY: must be in envVariables of an HTTP function, where the keys that "
            "CloudBase itself gives may be out of date"
        )
    yield from settings.too_large(environment, "CloudBase")


def _has_keys(environment: Mapping[str, str]) -> bool:
    """Without an API key the blank line in the file is what is complained about."""
    own = environment.keys() & {"TCB_SECRET_ID", "TCB_SECRET_KEY"}
    return "CLOUDBASE_APIKEY" in environment or len(own) == 2


def _not_passed_on(environment: Mapping[str, str], given: Mapping[str, str]) -> Iterator[str]:
    """Settings of the shell that would be lost on the way without a word."""
    for name in sorted(given.keys() - _OF_A_CLIENT):
        is_ours = name in FAL_KEY_NAMES or name.startswith(PREFIX)
        if not is_ours or not given[name].strip():
            continue
        if name not in environment:
            yield (
                f'{name}: is set here and would not be deployed: add "{name}": '
                f'"{{{{env.{name}}}}}" to envVariables in {cloudbase_file.NAME}, or unset it'
            )
        elif environment[name] != given[name]:
            yield (
                f"{name}: is set here, but {cloudbase_file.NAME} gives the function another value: "
                "write yours there, or unset it"
            )


def deployed(
    command: Sequence[str], plan: Plan, folder: Path, shell: Mapping[str, str]
) -> tuple[int, str]:
    """The CLI's exit code and its words, which it also says on our output. Again is safe: the
    function is made, or brought to what the file says."""
    words = bytearray()
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**shell, **plan.variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as program:
        assert program.stdout is not None
        while chunk := os.read(program.stdout.fileno(), 65536):
            words += chunk
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    return program.returncode, words.decode(errors="replace")


def says_deployed(words: str, function: str) -> bool:
    """Whether the CLI's words are those of a success: a tick before the function's name and no
    cross. It ends with 0 after most failures too, and its sentences are in the user's language."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", words).splitlines()]
    if any(line.startswith(("✖", "×")) for line in lines):
        return False
    return any(line.startswith(("✔", "√")) and f"[{function}]" in line for line in lines)
