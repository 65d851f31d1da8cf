"""AWS: `osls deploy` of serverless.yml, and the check that its plugin asks for before anything is
made.

Whoever runs `osls deploy` by hand is checked too, because the plugin calls back here. Refuses to
know credentials and what stands in the stack.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import settings

OSLS = "osls@4.3.1"

MADE = "named-by-cloudformation"
QUEUE_MADE = f"https://sqs.us-east-1.amazonaws.com/123456789012/{MADE}"

PARAMETERS = {
    "alarmTopicArn": r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+",
    "architecture": "arm64|x86_64",
    "bucket": "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "maximumConcurrency": "[2-9]|[1-9][0-9]{1,2}|1000",
    "runtime": r"python3\.1[0-9]",
    "table": "[A-Za-z0-9_.-]{3,255}",
}

_ROOT = Path(__file__).resolve().parent.parent.parent


def main(arguments: Sequence[str]) -> int:
    """Deploy, or with --check only look; `--settings` is the plugin's question. The exit code."""
    if list(arguments) == ["--settings"]:
        return _tell(json.load(sys.stdin))
    program = _osls()
    if program is None:
        print("osls needs Node 20 or newer with npm, from nodejs.org", file=sys.stderr)
        return 2
    only_check = "--check" in arguments
    rest = [argument for argument in arguments if argument != "--check"]
    command = [*program, "check" if only_check else "deploy", *rest]
    status = subprocess.run(command, cwd=_ROOT).returncode
    return 2 if only_check and status else status


def _osls() -> list[str] | None:
    installed, npx = shutil.which("osls"), shutil.which("npx")
    if installed:
        return [installed]
    return [npx, "--yes", OSLS] if npx else None


def _tell(asked: Mapping[str, Any]) -> int:
    found = list(problems(asked["environment"], asked["parameters"], os.environ))
    for problem in found:
        print(problem, file=sys.stderr)
    return 2 if found else 0


def problems(
    environment: Mapping[str, object], parameters: Sequence[str], shell: Mapping[str, str]
) -> Iterator[str]:
    """What is wrong with a function's environment, as serverless.yml has it, and with parameters
    like `bucket=NAME`, a sentence for each; no secret is among the words.

    `shell` tells whether the cloud is one on this machine: there the emulator may be fal.
    """
    yield from _of_parameters(parameters)
    texts = {name: _text(name, value) for name, value in environment.items()}
    endpoint = {"AWS_ENDPOINT_URL": shell.get("AWS_ENDPOINT_URL", "")}
    yield from settings.problems({**texts, **endpoint}, settings.LAMBDA)
    # CloudFormation cuts them at the comma and nowhere else, and S3 compares letter by letter.
    origins = texts.get("FAL_IMAGE_CORS_ORIGINS", "")
    if re.search(r"\s", origins) or (origins and not all(origins.split(","))):
        yield (
            "FAL_IMAGE_CORS_ORIGINS: must be written without spaces and with commas only between "
            "origins, as the bucket reads it too"
        )
    yield from settings.too_large(texts, "Lambda")


def _of_parameters(parameters: Sequence[str]) -> Iterator[str]:
    """osls passes over a parameter that nothing in serverless.yml asks for."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name not in PARAMETERS:
            yield f"--param {name}: there is no such parameter; serverless.yml begins with them"
        elif not re.fullmatch(PARAMETERS[name], value):
            yield f"--param {name}: {value!r} cannot be one"


def _text(name: str, value: object) -> str:
    """What a variable will hold: itself, or `Fn::Sub` with the names that CloudFormation will make
    up stood in for."""
    if isinstance(value, str):
        return value
    if not (isinstance(value, dict) and "Fn::Sub" in value):
        return QUEUE_MADE if name == "FAL_IMAGE_QUEUE_URL" else MADE
    pattern, names = value["Fn::Sub"]
    for key, given in names.items():
        pattern = pattern.replace(f"${{{key}}}", given if isinstance(given, str) else MADE)
    return str(pattern)
