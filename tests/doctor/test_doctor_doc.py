"""docs/doctor.md shows what the command prints, and names every check there is."""

import re
from pathlib import Path

from fal_image import __version__, app, server
from fal_image.cli.output import EXIT_FAILED, EXIT_USAGE
from fal_image.dev.emulator import Emulator
from fal_image.doctor.examination import PARTS
from fal_image.settings import load
from support.examined import environment, found, program

PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")
ORIGIN = "https://shop.example.com"


def test_the_example_is_what_the_command_prints(fal: Emulator, tmp_path: Path):
    (example,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    listener = server.bind("127.0.0.1", 0)
    url = server.url_of(listener)
    environ = environment(
        fal,
        FAL_IMAGE_STORAGE_URL=tmp_path.as_uri(),
        FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path / 'jobs.db'}",
        FAL_IMAGE_PUBLIC_URL=url,
        FAL_IMAGE_API_KEYS=f"web={'c0ffee' * 10}c0de",
        FAL_IMAGE_CORS_ORIGINS=ORIGIN,
        FAL_IMAGE_DEFAULT_MODEL="fal-ai/flux-schnell",
    )
    services = app.compose(load(environ), environ=environ)
    with server.running(app.front(services), listener):
        said = program(environ=environ, cwd=tmp_path).stdout
    said = said.replace(url.removeprefix("http://"), "127.0.0.1:9000")
    said = re.sub(r"live for 35\d\d s", "live for 3600 s", said)
    assert said == example.replace("it runs 0.1.0", f"it runs {__version__}")


def test_every_part_is_in_the_table(fal: Emulator, tmp_path: Path):
    checks = found(environment(fal, FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())).by_check
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = re.findall(r"`([a-z0-9_.A-Z…]+)`", " ".join(rows))
    roots = {name.partition(".")[0] for name in named}
    assert {part.name.partition(".")[0] for part in PARTS} <= roots
    assert {check.partition(".")[0] for check in checks} <= roots


def test_the_exit_codes_are_those_of_the_command():
    codes = re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE)
    assert codes == ["0", str(EXIT_FAILED), str(EXIT_USAGE)]
