"""Wheels without tools: makes the tiny packages of the set-up tests and installs the tiny project.

It is copied into that project as its build backend, so it uses the standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def write_wheel(
    folder: Path, name: str, files: dict[str, str], version: str = "1", tag: str = "py3-none-any"
) -> Path:
    """Write a version of the package `name` (an identifier) into `folder`, holding `files`."""
    about = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path), text)  # undated, so the hash is always the same
        record = [f"{path},{_record_hash(text)}" for path, text in contents.items()]
        archive.writestr(
            zipfile.ZipInfo(f"{about}/RECORD"), "\n".join([*record, f"{about}/RECORD,,\n"])
        )
    return wheel


def _record_hash(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')},{len(text.encode())}"


def build_editable(
    wheel_directory: str, config_settings: object = None, metadata_directory: object = None
) -> str:
    """The hook that `pip install -e` calls, in the project's folder (PEP 660)."""
    files = {
        "tiny_fal_image.pth": f"{Path('shared').resolve()}\n",
        "fal_image-1.dist-info/entry_points.txt": "[console_scripts]\nfal-image = fal_image:main\n",
    }
    return write_wheel(Path(wheel_directory), "fal_image", files).name
