"""The command as a program: piped, against the emulator."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fal_image import __version__
from fal_image.dev.emulator import Emulator
from fal_image.notices import signing_secret
from support.programs import heed_ctrl_c

COMMAND = [sys.executable, "-c", "from fal_image.cli import main; main()"]


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def environment(fal: Emulator | None = None, **more: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    settings = {"FAL_KEY": "id:secret", "FAL_IMAGE_EMULATOR_URL": fal.url} if fal else {}
    return base | settings | more


def run(*arguments: str, environ: dict[str, str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environ,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )


def test_the_version_is_the_packages():
    done = run("--version", environ=environment(), cwd=Path.cwd())
    assert done.stdout.strip() == f"fal-image {__version__}"


def test_the_secret_for_receivers_of_notices_is_printed_and_is_not_the_endpoints_own():
    secret = "0123456789abcdef0123456789abcdef"
    done = run("webhook-secret", environ=environment(FAL_IMAGE_SECRET=secret), cwd=Path.cwd())
    assert done.stdout.strip() == signing_secret(secret)
    assert secret not in done.stdout
    refused = run("webhook-secret", environ=environment(), cwd=Path.cwd())
    assert refused.returncode == 2
    assert "FAL_IMAGE_SECRET" in refused.stderr


def test_a_picture_is_made_and_written_where_asked(fal: Emulator, tmp_path: Path):
    done = run(
        "generate", "a calico cat", "-o", "cats/cat.png", "--size", "512x256", "--seed", "7",
        environ=environment(fal), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["paths"] == ["cats/cat.png"]
    assert answer["seed"] == 7
    with Image.open(tmp_path / "cats" / "cat.png") as image:
        assert (image.format, image.size) == ("PNG", (512, 256))


def test_without_a_storage_setting_pictures_are_kept_below_the_current_folder(
    fal: Emulator, tmp_path: Path
):
    done = run("generate", "a cat", environ=environment(fal), cwd=tmp_path)
    (image,) = json.loads(done.stdout)["images"]
    assert Path(image["tempFileURL"].removeprefix("file://")).is_file()
    assert (tmp_path / ".fal-image").is_dir()


def test_several_pictures_get_numbers(fal: Emulator, tmp_path: Path):
    run("generate", "a cat", "-n", "2", "-o", "cat.jpg", environ=environment(fal), cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.jpg")) == ["cat-0.jpg", "cat-1.jpg"]


def a_photo(folder: Path, name: str = "photo.png") -> Path:
    path = folder / name
    Image.linear_gradient("L").resize((512, 384)).save(path)
    return path


def at_fal(fal: Emulator, url: object) -> bytes:
    """The bytes of a file on fal's media host."""
    text = str(url)
    assert text.startswith("https://v3.fal.media/")
    with urllib.request.urlopen(f"{fal.url}/{text.removeprefix('https://')}") as answer:
        return bytes(answer.read())


def test_a_picture_is_handed_to_fal_and_edited(fal: Emulator, tmp_path: Path):
    photo = a_photo(tmp_path)
    done = run(
        "generate", "at night", "--image", "photo.png", "--model", "fal-ai/flux/dev/image-to-image",
        environ=environment(fal), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"
    (job,) = fal.ledger
    assert isinstance(job.input, dict)
    assert at_fal(fal, job.input["image_url"]) == photo.read_bytes()


@pytest.mark.parametrize("model", ["fal-ai/flux-2/edit", "fal-ai/flux-pro/kontext/multi"])
def test_several_pictures_go_to_a_model_that_takes_several(
    fal: Emulator, tmp_path: Path, model: str
):
    photos = [a_photo(tmp_path, name) for name in ("one.png", "two.jpg")]
    done = run(
        "generate", "both", "--image", "one.png", "--image", "two.jpg", "--model", model,
        environ=environment(fal), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (job,) = fal.ledger
    assert isinstance(job.input, dict)
    assert [at_fal(fal, url) for url in job.input["image_urls"]] == [
        photo.read_bytes() for photo in photos
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image", "missing.png", "--model", "fal-ai/flux/dev/image-to-image"], "missing.png"),
        (["--image", "photo.png"], "fal-ai/flux/dev/image-to-image"),
        (["--image", "photo.png", "--image", "photo.png", "--model", "fal-ai/flux-pro/kontext"],
         "one picture"),
        (["--image", "notes.txt", "--model", "fal-ai/flux-pro/kontext"], "notes.txt"),
        (["--image", "photo.png", "--model", "fal-ai/other/edit"], "model_not_allowed"),
        (["--image", "photo.png", "--model", "fal-ai/flux-pro/kontext", "-n", "9"], "num_images"),
    ],
)  # fmt: skip
def test_a_wrong_picture_exits_with_2_and_leaves_this_machine_alone(
    fal: Emulator, tmp_path: Path, arguments: list[str], words: str
):
    a_photo(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    done = run("generate", "a cat", *arguments, environ=environment(fal), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert fal.calls.total() == 0


def test_a_picture_that_fal_does_not_take_exits_with_1(fal: Emulator, tmp_path: Path):
    a_photo(tmp_path)
    fal.fault("500", on="upload", times=9)
    done = run(
        "generate", "a cat", "--image", "photo.png", "--model", "fal-ai/flux-pro/kontext",
        environ=environment(fal), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert fal.ledger == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", " "], "missing_prompt"),
        (["generate", "a cat", "--model", "schnell"], "invalid_input"),
        (["generate", "a cat", "--model", "fal-ai/other"], "model_not_allowed"),
        (["generate", "a cat", "--size", "huge"], "invalid_input"),
        (["generate", "a cat", "-o", "cat.gif"], "must end so"),
        (["generate", "a cat", "-n", "9"], "invalid_input"),
        (["generate"], "prompt"),
        (["paint"], "paint"),
    ],
)
def test_wrong_usage_exits_with_2_and_spends_nothing(
    fal: Emulator, tmp_path: Path, arguments: list[str], words: str
):
    done = run(*arguments, environ=environment(fal), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""
    assert fal.ledger == []


def test_wrong_settings_exit_with_2_and_are_named(tmp_path: Path):
    environ = environment(FAL_IMAGE_STORAGE="x", FAL_KEY="id:secret")
    done = run("generate", "a cat", environ=environ, cwd=tmp_path)
    assert done.returncode == 2
    assert "FAL_IMAGE_STORAGE" in done.stderr


def test_a_failure_without_a_bill_exits_with_1(fal: Emulator, tmp_path: Path):
    fal.fault("503", on="submit")
    done = run("generate", "a cat", environ=environment(fal), cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "fal_failed"


def test_a_failure_that_may_be_billed_exits_with_3(fal: Emulator, tmp_path: Path):
    fal.fault("lost", on="submit")
    done = run("generate", "a cat", environ=environment(fal), cwd=tmp_path)
    assert done.returncode == 3
    assert json.loads(done.stderr.splitlines()[-1])["error"] == "submit_unknown"


class Program:
    """A command that serves until it is told to stop."""

    def __init__(self, *arguments: str, environ: dict[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environ,
            cwd=cwd,
            preexec_fn=heed_ctrl_c,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        found = re.search(r"http://[0-9.]+:[0-9]+", line)
        assert found, line
        self.url = found[0]

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=10)


def test_serve_serves_and_stays_closed(fal: Emulator, tmp_path: Path):
    environ = environment(fal, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(), FAL_IMAGE_SECRET="s" * 32)
    with Program("serve", "--port", "0", environ=environ, cwd=tmp_path) as server:
        assert server.get("/health")[0] == 200
        assert server.get("/models")[0] == 401


def test_serve_refuses_a_port_that_is_taken(fal: Emulator, tmp_path: Path):
    environ = environment(fal, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(), FAL_IMAGE_SECRET="s" * 32)
    port = fal.url.rpartition(":")[2]
    done = run("serve", "--port", port, environ=environ, cwd=tmp_path)
    assert done.returncode == 2
    assert "--port" in done.stderr


def test_serve_refuses_wrong_settings(tmp_path: Path):
    done = run("serve", "--port", "0", environ=environment(FAL_IMAGE_X="1"), cwd=tmp_path)
    assert done.returncode == 2
    assert "FAL_IMAGE_X" in done.stderr
    assert "FAL_IMAGE_STORAGE_URL" in done.stderr


def test_the_emulator_is_a_program_too(tmp_path: Path):
    with Program("emulator", "--port", "0", environ=environment(), cwd=tmp_path) as emulator:
        status, page = emulator.get("/")
        assert status == 200
        assert b"not imitate" in page
