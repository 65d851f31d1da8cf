"""What is installed from this project is one package, and it works far from here."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from fal_image import __version__
from fal_image.dev.emulator import Emulator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_only_the_package(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"fal_image", f"fal_image-{__version__}.dist-info"}
    assert "fal_image/py.typed" in names
    assert {"fal_image/fal/catalog.json", "fal_image/page/index.html"} <= set(names)


@pytest.mark.timeout(120)
def test_installed_elsewhere_the_command_makes_a_picture(wheel: Path, tmp_path: Path):
    """An empty environment, the wheel, and its requirements as they are installed here."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", show], encoding="utf-8").strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # The requirements come from this environment: nothing is fetched, and no path leads to us.
    (site / "requirements.pth").write_text(_without_us(tmp_path), encoding="utf-8")
    with Emulator() as fal:
        done = subprocess.run(
            [python, "-I", "-c", "from fal_image.cli import main; main()", "generate", "a cat"]
            + ["-o", "cat.png"],
            cwd=tmp_path,
            env=_clean() | {"FAL_KEY": "any:key", "FAL_IMAGE_EMULATOR_URL": fal.url},
            capture_output=True,
            encoding="utf-8",
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"
    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")


def _without_us(folder: Path) -> str:
    """A copy of this environment's packages by links, the project's own left out."""
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        is_ours = "fal_image" in entry.name or entry.suffix == ".pth"
        if not is_ours:
            (packages / entry.name).symlink_to(entry)
    return str(packages)


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
