"""What one picture costs, counted: a regression shows here on every machine, however slow it is.

A number that a change moves on purpose is moved here with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fal_image.app import Seams
from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.wire import Fetched, Wire
from support import entrypoints, instances, storages
from support.counting import CountingDatabase
from support.instances import instance, kept

# What the pictures of these tests are asked for with.
CAT = {**instances.CAT, "output_format": "png"}

# Modules of ours that are loaded once an S3 function without a database has made a picture.
OWN_MODULES = 139

_ONE_PICTURE = """
import json, sys
class Context:
    aws_request_id = "counted"
    def get_remaining_time_in_millis(self):
        return 60_000
before = set(sys.modules)
import functions.aws.handler as entrypoint
answer = entrypoint.main(json.loads(sys.argv[1]), Context())
assert answer["statusCode"] == 200, answer
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_a_cold_start_loads_these_many_modules_of_ours_and_two_libraries(fal: Emulator, moto: str):
    loaded = loaded_by_a_picture(fal, storages.S3Rig(moto))
    ours = [name for name in loaded if name.partition(".")[0] == "fal_image"]
    assert len(ours) == OWN_MODULES
    tops = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert tops - {"fal_image", "functions", "typing_extensions"} == {"msgspec", "urllib3"}


def test_a_picture_takes_four_calls_of_fal_over_one_connection(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DATABASE_URL=None)
    with connections_to(fal.url) as made:
        assert one.generate(CAT).status == 200
    assert fal.calls == {"submit": 1, "stream": 1, "result": 1, "file": 1}
    assert made == [1]


@pytest.mark.parametrize("count", [1, 4])
def test_each_picture_is_put_once_with_its_manifest_and_signed_once(
    fal: Emulator, tmp_path: Path, count: int
):
    asked: Counter[str] = Counter()
    seams = Seams(storage=lambda opened: counted(opened, asked))
    one = instance(fal, tmp_path, seams=seams, FAL_IMAGE_DATABASE_URL=None)
    assert one.generate({**CAT, "num_images": count}).status == 200
    assert asked == {"put": 2 * count, "link": count}
    assert fal.calls["file"] == count


def test_each_byte_of_a_picture_is_written_once_and_sent_once(
    fal: Emulator, tmp_path: Path, moto: str
):
    moved: Counter[str] = Counter()
    rig = storages.S3Rig(moto)
    seams = Seams(wire=wire_that_counts(moved), storage=lambda opened: BytesCounted(opened, moved))
    settings = {**rig.environ, "FAL_IMAGE_STORAGE_URL": rig.url, "FAL_IMAGE_DATABASE_URL": None}
    one = instance(fal, tmp_path, seams=seams, **settings)
    image = one.generate(CAT).json["images"][0]
    assert moved["fetched"] == image["bytes"]
    assert moved["stored"] == image["bytes"]
    # What kind of picture it is and how large is read from its first bytes and its last.
    assert moved["looked at"] < 128


def test_a_job_that_is_waited_for_takes_four_writes_of_its_document(fal: Emulator, tmp_path: Path):
    one, asked = counting(fal, tmp_path)
    job = one.generate(CAT).json
    assert kept(tmp_path, job["jobId"]).version == 4
    assert asked == {"create": 1, "replace_if": 3}


def test_a_budget_adds_one_reservation_and_one_settlement(fal: Emulator, tmp_path: Path):
    one, asked = counting(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="1")
    assert one.generate(CAT).status == 200
    assert asked == {"create": 1, "replace_if": 3, "take": 1, "settle": 1}


def test_asking_after_a_job_that_is_over_reads_it_once(fal: Emulator, tmp_path: Path):
    one, asked = counting(fal, tmp_path)
    job = one.generate(CAT).json
    asked.clear()
    assert one.ask("GET", f"/jobs/{job['jobId']}").status == 200
    assert asked == {"get": 1}
    assert fal.calls == {"submit": 1, "stream": 1, "result": 1, "file": 1}


def test_a_proxied_status_is_one_read_and_one_call(fal: Emulator, tmp_path: Path):
    one, asked = counting(fal, tmp_path)
    target = "https://queue.fal.run/fal-ai/flux/schnell"
    taken = one.ask("POST", "/api/fal/proxy", CAT, x_fal_target_url=target).json
    status = f"https://queue.fal.run/fal-ai/flux/requests/{taken['request_id']}/status"
    asked.clear()
    before = fal.calls
    assert one.ask("GET", "/api/fal/proxy", x_fal_target_url=status).status == 200
    assert asked == {"get": 1}
    assert fal.calls - before == {"status": 1}


def counting(
    fal: Emulator, directory: Path, **bent: str
) -> tuple[instances.Instance, Counter[str]]:
    """An instance with a database, and what is asked of it."""
    counted: list[CountingDatabase] = []

    def around(opened: Any) -> Any:
        counted.append(CountingDatabase(opened))
        return counted[0]

    one = instance(fal, directory, seams=Seams(database=around), **bent)
    one.ask("GET", "/jobs/00000000000000000000000000")  # which opens it
    counted[0].calls.clear()
    return one, counted[0].calls


def counted(opened: Any, asked: Counter[str]) -> Any:
    class Counted:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            method: Callable[..., Any] = getattr(opened, name)

            def call(*arguments: Any, **named: Any) -> Any:
                if name not in ("file_id", "key"):
                    asked[name] += 1
                return method(*arguments, **named)

            return call

    return Counted()


class CountedFile:
    """A file that counts the bytes which go through it."""

    def __init__(self, file: BinaryIO, moved: Counter[str], *, read: str, written: str) -> None:
        self._file, self._moved = file, moved
        self._read, self._written = read, written

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._moved[self._read] += len(piece)
        return piece

    def write(self, piece: bytes) -> int:
        self._moved[self._written] += len(piece)
        return self._file.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def wire_that_counts(moved: Counter[str]) -> type[Wire]:
    class CountingWire(Wire):
        def fetch(self, url: str, into: BinaryIO, **limits: Any) -> Fetched:
            file: Any = CountedFile(into, moved, read="looked at", written="fetched")
            return super().fetch(url, file, **limits)

    return CountingWire


class BytesCounted:
    """A storage that counts what is read of the pictures it is given; manifests are none."""

    def __init__(self, inner: Any, moved: Counter[str]) -> None:
        self._inner, self._moved = inner, moved

    def put(self, key: str, file: BinaryIO, *, content_type: str, **facts: Any) -> Any:
        if content_type.startswith("image/"):
            counted: Any = CountedFile(file, self._moved, read="stored", written="-")
            file = counted
        return self._inner.put(key, file, content_type=content_type, **facts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def connections_to(url: str) -> Iterator[list[int]]:
    """How many connections this process opens to a server meanwhile."""
    port, opened, lock = int(url.rpartition(":")[2]), [0], threading.Lock()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and watching and arguments[1][1:2] == (port,):
            with lock:
                opened[0] += 1

    watching = True
    sys.addaudithook(watch)
    try:
        yield opened
    finally:
        watching = False


def loaded_by_a_picture(fal: Emulator, bucket: storages.S3Rig) -> list[str]:
    names_no_proxy = {name: value for name, value in bucket.environ.items() if name != "NO_PROXY"}
    settings: Mapping[str, str] = {
        **names_no_proxy,
        "FAL_KEY": entrypoints.FAL_KEY,
        "FAL_IMAGE_EMULATOR_URL": fal.url,
        "FAL_IMAGE_STORAGE_URL": bucket.url,
        "FAL_IMAGE_API_KEYS": f"web={entrypoints.KEY_SHA256}",
        "FAL_IMAGE_LOG_LEVEL": "ERROR",
        "PYTHONPATH": f"{entrypoints.ROOT}:{entrypoints.ROOT / 'shared'}",
    }
    event = platforms.function_url_event(entrypoints.request(body=CAT), at=entrypoints.NOON)
    done = subprocess.run(
        [sys.executable, "-c", _ONE_PICTURE, json.dumps(event)],
        env=settings,
        capture_output=True,
        encoding="utf-8",
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return names
