"""serverless.yml run by the real osls in a directory of its own, and the template that comes out.

Only the package is not real: a stand-in for scripts/package writes down what it was asked for. No
variable of this shell gets there but PATH. Refuses to know what a template should hold.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .tiny_project import ROOT

TOOLS = ROOT / "tests" / "deploy" / "tools"
OSLS = TOOLS / "node_modules" / ".bin" / "osls"
CFN_LINT = TOOLS / ".venv" / "bin" / "cfn-lint"

FAL_KEY = "11111111-2222-3333-4444-555555555555:canary-of-the-key-of-fal"
SECRET = "canary-of-the-secret-with-32-characters"
GIVEN: Mapping[str, str] = {
    "FAL_KEY": FAL_KEY,
    "FAL_IMAGE_SECRET": SECRET,
    "FAL_IMAGE_API_KEYS": f"web={'a' * 64}",
}

_PACKAGE = """#!/bin/sh
echo "$@" >asked
mkdir -p .build && printf 'PK\\005\\006%018d' 0 | tr 0 '\\000' >.build/aws.zip
"""
_DEPLOY = f"""#!/bin/sh
exec {ROOT}/scripts/deploy "$@"
"""


@dataclass(frozen=True)
class Ran:
    status: int
    said: str  # on both outputs
    asked: str | None  # of scripts/package
    template: dict[str, Any] | None  # that osls would give to CloudFormation


def run(directory: Path, *arguments: str, **environ: str) -> Ran:
    """Run osls in a new project in the directory; `dotenv`, if given, is its file `.env`."""
    folder = directory / "project"
    (folder / "scripts" / "deploying").mkdir(parents=True)
    for name in ("serverless.yml", "scripts/deploying/plugin.cjs"):
        shutil.copyfile(ROOT / name, folder / name)
    for name, text in (("package", _PACKAGE), ("deploy", _DEPLOY)):
        program = folder / "scripts" / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    (folder / ".env").write_text(environ.pop("dotenv", ""), encoding="utf-8")
    done = subprocess.run(
        [str(OSLS), *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(directory), **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    asked = folder / "asked"
    template = folder / ".serverless" / "cloudformation-template-update-stack.json"
    return Ran(
        done.returncode,
        done.stdout + done.stderr,
        asked.read_text(encoding="utf-8").strip() if asked.exists() else None,
        json.loads(template.read_text(encoding="utf-8")) if template.exists() else None,
    )


def settled(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template as CloudFormation acts on it: our conditions are constants, so what they leave
    out is gone, and with it a linter's doubts about the other case."""
    holds = {name: _holds(one) for name, one in template["Conditions"].items()}
    resources = {
        name: {key: part for key, part in one.items() if key != "Condition"}
        for name, one in template["Resources"].items()
        if holds.get(one.get("Condition", ""), True)
    }
    rest = {key: part for key, part in template.items() if key != "Conditions"}
    return dict(_chosen({**rest, "Resources": resources}, holds))


def _holds(condition: Mapping[str, Any]) -> bool:
    if "Fn::Not" in condition:
        return not _holds(condition["Fn::Not"][0])
    one, other = condition["Fn::Equals"]
    return bool(one == other)


_NO_VALUE = {"Ref": "AWS::NoValue"}


def _chosen(part: Any, holds: Mapping[str, bool]) -> Any:
    if isinstance(part, list):
        return [_chosen(one, holds) for one in part if one != _NO_VALUE]
    if not isinstance(part, dict):
        return part
    if "Fn::If" in part:
        name, then, otherwise = part["Fn::If"]
        return _chosen(then if holds[name] else otherwise, holds)
    chosen = {key: _chosen(one, holds) for key, one in part.items()}
    return {key: one for key, one in chosen.items() if one != _NO_VALUE}


def linted(template: Mapping[str, Any], directory: Path) -> str:
    """What cfn-lint says against a template, warnings too; nothing is passed over."""
    file = directory / "template.json"
    file.write_text(json.dumps(template), encoding="utf-8")
    # It opens files in whatever encoding there is, and says so where Python was told to warn.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [CFN_LINT, file], env=environ, capture_output=True, encoding="utf-8", timeout=60
    )
    return done.stdout + done.stderr


def statements(template: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """What the function may do: the actions and the resource of each statement, as text."""
    (policy,) = template["Resources"]["IamRoleLambdaExecution"]["Properties"]["Policies"]
    for one in policy["PolicyDocument"]["Statement"]:
        assert one["Effect"] == "Allow"
        resources = one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]]
        for resource in resources:
            yield one["Action"], text(resource)


def text(value: Any) -> str:
    """A value with the names of resources where CloudFormation puts what it makes up."""
    if isinstance(value, str):
        return value
    if "Fn::Sub" in value:
        pattern, names = (
            (value["Fn::Sub"], {}) if isinstance(value["Fn::Sub"], str) else value["Fn::Sub"]
        )
        return re.sub(r"\$\{(\w+)}", lambda found: text(names[found[1]]), pattern)
    if "Fn::GetAtt" in value:
        return ".".join(value["Fn::GetAtt"])
    return f"<{value['Ref']}>"
