"""What `--help` and docs/cli.md show is run as it stands there."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.main import get_command

from cli.conftest import Terminal
from fal_image.cli.help import A_JOB, ENVIRONMENT, EXAMPLES
from fal_image.cli.output import EXIT_CODES
from fal_image.cli.program import cli
from fal_image.endpoint import TOKEN, URL
from fal_image.fal import catalog
from fal_image.settings import FAL_KEY_NAMES, TABLE

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
STAYING = {"serve", "emulator", "mcp"}  # tests of their own start them
SECRET = "0123456789abcdef0123456789abcdef"

MAIN = "from fal_image.cli import main; main()"


def help_of(type_in: Terminal, *command: str) -> str:
    done = type_in(*command, "--help")
    assert done.code == 0
    return done.out


def examples(text: str) -> Iterator[str]:
    """The command lines below "Examples:"."""
    for line in text.partition("Examples:")[2].splitlines():
        if "fal-image" in line:
            yield line.strip()


def doc_commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run_line(type_in: Terminal, line: str) -> int:
    """A command line as a shell would carry it out; what stands before a pipe, a shell does."""
    before, pipe, command = line.rpartition(" | ")
    stdin = subprocess.check_output(["sh", "-c", before], cwd=type_in.folder) if pipe else b""
    words = shlex.split(command)
    assert words[0] == "fal-image"
    done = type_in(*words[1:], stdin=stdin)
    assert done.code == 0, (line, done.err)
    return done.code


@pytest.fixture
def desk(type_in: Terminal) -> tuple[Terminal, str]:
    """A directory in which the examples work, and the id of a job that is done."""
    type_in = type_in.knowing(
        FAL_IMAGE_SECRET=SECRET, FAL_IMAGE_STORAGE_URL=(type_in.folder / "bucket").as_uri()
    )
    Image.linear_gradient("L").resize((64, 48)).save(type_in.folder / "cat.png")
    rows = '{"prompt": "a cat"}\n{"prompt": "a dog"}\n'
    (type_in.folder / "prompts.jsonl").write_text(rows, encoding="utf-8")
    job_id = type_in("generate", "a cat", "--async").json["jobId"]
    return type_in, job_id


@pytest.mark.parametrize("command", sorted(set(EXAMPLES) - STAYING))
def test_every_example_of_a_command_works(desk: tuple[Terminal, str], command: str):
    type_in, job_id = desk
    if command in ("file", "regenerate"):
        assert type_in("job", job_id, "--wait").code == 0
    for line in EXAMPLES[command]:
        if "--cancel" in line:  # of one that is not over
            line = line.replace(A_JOB, type_in("generate", "a dog", "--async").json["jobId"])
        run_line(type_in, line.replace(A_JOB, job_id))


@pytest.mark.parametrize(
    "line", [line for command in sorted(STAYING) for line in EXAMPLES[command]]
)
def test_the_examples_of_programs_that_stay_are_what_they_take(line: str):
    words = shlex.split(line)
    command = get_command(cli)
    assert line in EXAMPLES[words[1]]
    command.commands[words[1]].make_context(words[1], words[2:])  # type: ignore[attr-defined]


def test_every_command_shows_examples(type_in: Terminal):
    commands = get_command(cli).commands  # type: ignore[attr-defined]
    assert set(commands) - {"keys"} | {"new"} == set(EXAMPLES)
    for name in set(commands) - {"keys"}:
        assert list(examples(help_of(type_in, name))) == list(EXAMPLES[name])


def test_what_the_documentation_shows_works(desk: tuple[Terminal, str]):
    type_in, job_id = desk
    commands = doc_commands()
    assert len(commands) > 15
    for line in commands:
        run_line(type_in, line.replace(A_JOB, job_id))


def test_the_first_steps_are_the_emulators(type_in: Terminal):
    text = help_of(type_in)
    for line in ("fal-image emulator &", "export FAL_KEY=any:key", 'generate "a calico cat"'):
        assert line in text
    assert "http://127.0.0.1:9001" in text


def test_exit_codes_stand_in_the_help_and_in_the_documentation(type_in: Terminal):
    text = help_of(type_in)
    for code, meaning in EXIT_CODES.items():
        assert re.search(rf"^ +{code} +{re.escape(meaning)}", text, re.MULTILINE)
        assert f"| {code} | {meaning} |" in DOC


def test_the_environment_of_the_help_exists():
    known = {*FAL_KEY_NAMES, *(row.name for row in TABLE), URL, TOKEN}
    assert set(ENVIRONMENT) <= known


def test_config_shows_the_environment_of_the_help(type_in: Terminal):
    assert set(ENVIRONMENT) <= set(json.loads(type_in("config").out)["settings"])


def test_called_alone_it_shows_its_help(type_in: Terminal):
    assert type_in().out == help_of(type_in)


def completed(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env={
            "PATH": "/usr/bin:/bin",
            "_FAL_IMAGE_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    return done.stdout.split()


def test_models_sizes_and_commands_are_completed():
    offered = completed("fal-image", "generate", "--model", "fal-ai/flux-pro/")
    known = [name for name in catalog.models() if name.startswith("fal-ai/flux-pro/")]
    assert offered == known
    assert completed("fal-image", "generate", "--size", "land") == [
        "landscape_4_3",
        "landscape_16_9",
    ]
    assert completed("fal-image", "reg") == ["regenerate"]


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['fal-image', '--help']\n"
        f"try:\n    {MAIN}\nexcept SystemExit: pass\n"
        "print(sorted({'PIL', 'boto3', 'mcp', 'qcloud_cos'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=20
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
