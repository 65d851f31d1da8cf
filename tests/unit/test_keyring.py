"""fal's key out of a file and out of Parameter Store, and what is said when it is not there."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fal_image.keyring import KeyUnavailable, with_fal_key
from fal_image.settings import Settings, load

KEY = "canary0id:canary0secret"
IN_AWS = {"AWS_REGION": "eu-central-1"}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "fal-key"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return written


def from_file(path: Path) -> Settings:
    return with_fal_key(load({"FAL_KEY_FILE": str(path)}), {})


def from_parameter(read: Callable[[str], str], **environ: str) -> Settings:
    given = IN_AWS | environ

    def reader(name: str, seen: Mapping[str, str]) -> str:
        assert seen == given
        return read(name)

    settings = load({"FAL_KEY_SSM_PARAM": "/prod/fal-key"})
    return with_fal_key(settings, given, read_parameter=reader)


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b" \n\n"])
def test_a_key_in_a_file_ends_before_the_newline(write: Write, ending: bytes):
    settings = from_file(write(KEY.encode() + ending))
    assert (settings.fal_key, settings.problems, settings.warnings) == (KEY, (), ())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_read_is_used_and_warned_of(write: Write, mode: int):
    settings = from_file(write(KEY.encode(), mode))
    assert settings.fal_key == KEY
    assert settings.problems == ()
    (warning,) = settings.warnings
    assert warning.startswith("FAL_KEY_FILE: ")


def test_a_key_that_comes_through_a_pipe_is_read():
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(KEY.encode())
    settings = from_file(Path(f"/dev/fd/{reading}"))
    os.close(reading)
    assert (settings.fal_key, settings.problems, settings.warnings) == (KEY, (), ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"canary-without-a-colon",
        b"canary:canary\ncanary:canary\n",
        b"canary: canary",
        b"FAL_KEY=\xffcanary:canary",
        b"canary:" + b"canary" * 1000,
    ],
)
def test_a_file_with_something_else_in_it_is_a_problem_that_does_not_repeat_it(
    write: Write, content: bytes
):
    settings = from_file(write(content))
    (problem,) = settings.problems
    assert problem.startswith("FAL_KEY_FILE: ")
    assert "canary" not in problem
    assert settings.fal_key is None


def test_a_file_that_is_not_there_is_a_problem_that_does_not_say_where(tmp_path: Path):
    (problem,) = from_file(tmp_path / "canary").problems
    assert problem == "FAL_KEY_FILE: the file cannot be read: No such file or directory"
    (problem,) = from_file(tmp_path).problems
    assert problem == "FAL_KEY_FILE: the file cannot be read: Is a directory"


def test_a_file_without_an_end_is_not_read_to_it():
    (problem,) = from_file(Path("/dev/zero")).problems
    assert problem == "FAL_KEY_FILE: the file is longer than any key"


def test_a_parameter_is_read_once_and_by_its_name():
    asked: list[str] = []

    def read(name: str) -> str:
        asked.append(name)
        return f"{KEY}\n"

    settings = from_parameter(read)
    assert (settings.fal_key, settings.problems) == (KEY, ())
    assert with_fal_key(settings, IN_AWS) == settings
    assert asked == ["/prod/fal-key"]


def test_a_parameter_with_something_else_in_it_is_a_problem_that_does_not_repeat_it():
    (problem,) = from_parameter(lambda name: "canary").problems
    assert problem.startswith("FAL_KEY_SSM_PARAM: ")
    assert "canary" not in problem


def test_what_aws_refuses_is_a_problem():
    def refused(name: str) -> str:
        raise ValueError("there is no such parameter")

    (problem,) = from_parameter(refused).problems
    assert problem == "FAL_KEY_SSM_PARAM: there is no such parameter"


def test_what_passes_is_no_problem_of_the_settings():
    def silent(name: str) -> str:
        raise KeyUnavailable("FAL_KEY_SSM_PARAM: Parameter Store does not answer")

    with pytest.raises(KeyUnavailable):
        from_parameter(silent)


@pytest.mark.parametrize(
    "environ",
    [{"AWS_REGION": ""}, {"AWS_REGION": "canary/"}, {"AWS_ENDPOINT_URL_SSM": "ftp://canary"}],
)
def test_without_a_region_or_with_a_wrong_endpoint_nothing_is_asked(environ: dict[str, str]):
    def unasked(name: str) -> str:
        raise AssertionError("asked")

    (problem,) = from_parameter(unasked, **environ).problems
    assert problem.startswith(f"{next(iter(environ))}: ")
    assert "canary" not in problem


def test_a_key_in_the_environment_needs_no_boto3():
    before = set(sys.modules)
    assert with_fal_key(load({"FAL_KEY": KEY}), {}).fal_key == KEY
    assert "fal_image.ssm" not in set(sys.modules) - before
