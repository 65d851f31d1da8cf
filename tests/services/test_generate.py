"""The main job without an entrypoint: deadlines, progress and what an error says of the money."""

import base64
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from fal_image.app import Seams, compose
from fal_image.assets import Assets, CopyError
from fal_image.dev.emulator import Emulator
from fal_image.doors import Door
from fal_image.errors import DeadlineExceeded, FetchImageFailed, UploadFailed
from fal_image.generate import Generator, Listener, Turn, ignore
from fal_image.inputs import Order
from fal_image.jobs import Job, Source
from fal_image.settings import Settings
from fal_image.storage.base import Link, StorageError, StoredObject
from support import clocks, pictures
from support.values import replace

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
MODEL = "fal-ai/flux/schnell"
OTHER_JOB = Job("0" * 26, MODEL, NOON, NOON)


def services(
    fal: Emulator, directory: Path, now: Callable[[], datetime] = lambda: NOON
) -> Generator:
    settings = Settings(fal_key="id:secret", emulator_url=fal.url, storage_url=directory.as_uri())
    seams = Seams(now=now, randomness=lambda count: b"\x07" * count)
    return compose(settings, environ={}, seams=seams).generator


def with_storage(generator: Generator, opener: Callable[[], Any]) -> Generator:
    assets: Assets = replace(generator.steps.assets, door=Door(opener))
    return replace(generator, steps=replace(generator.steps, assets=assets))


def order(**arguments: object) -> Order:
    return Order(MODEL, {"prompt": "a cat", "seed": 1} | arguments)


def make(generator: Generator, left_s: float = 20.0, **arguments: object) -> Job:
    return generator.generate(order(**arguments), turn(generator, left_s))


def turn(generator: Generator, left_s: float = 20.0, listener: Listener = ignore) -> Turn:
    ends_at = generator.clock() + left_s
    return Turn("test", answer_by=ends_at, ends_at=ends_at + 2, listener=listener)


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


class BrokenStorage:
    """A storage that takes pictures, or not, and cannot sign."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.keys: list[str] = []

    def put(self, key: str, file: BinaryIO, **facts: Any) -> StoredObject:
        if not self.takes:
            raise StorageError("canary: arn:aws:s3:::bucket")
        self.keys.append(key)
        size = len(file.read())
        return StoredObject(
            key, f"x://{key}", size, facts["sha256"], facts["content_type"], created=True
        )

    def open(self, key: str, start: int = 0) -> AbstractContextManager[Iterator[bytes]]:
        raise NotImplementedError

    def link(self, key: str, ttl_s: int) -> Link:
        raise StorageError("cannot sign")

    def file_id(self, key: str) -> str:
        return f"x://{key}"

    def key(self, file_id: str) -> str:
        return file_id.removeprefix("x://")


def test_keys_come_from_the_day_and_the_job_alone(fal: Emulator, tmp_path: Path):
    job = make(services(fal, tmp_path), num_images=2)
    keys = [image.file_id for image in job.images]
    assert keys == [f"file:///ai-images/2026-11-21/{job.job_id}-{n}.jpg" for n in (0, 1)]


def test_progress_is_told_while_it_happens(tmp_path: Path):
    heard: list[str] = []
    with Emulator(queue_s=0.05, run_s=0.1) as fal:
        generator = services(fal, tmp_path)
        listening = turn(generator, listener=lambda name, facts: heard.append(name))
        generator.generate(order(), listening)
    assert heard[0] == "queued"
    assert "progress" in heard
    assert heard[-1] == "image"


def test_stages_add_up(tmp_path: Path):
    with Emulator(queue_s=0.3, run_s=0.1) as fal:
        timings = make(services(fal, tmp_path, clocks.utc_now)).timings_ms
    assert timings["queue"] >= 100  # it counts from fal's answer to the submit on
    assert timings["inference"] >= 90
    assert timings["total"] >= timings["queue"] + timings["inference"]


def test_with_too_little_time_nothing_is_sent(fal: Emulator, tmp_path: Path):
    with pytest.raises(DeadlineExceeded) as failed:
        make(services(fal, tmp_path), left_s=0.5)
    assert failed.value.retryable
    assert fal.calls.total() == 0


def test_past_the_deadline_fal_is_cancelled_and_the_error_names_the_request(tmp_path: Path):
    with Emulator(run_s=30) as fal:
        with pytest.raises(DeadlineExceeded) as failed:
            make(services(fal, tmp_path), left_s=1.2)
        (job,) = fal.ledger
        assert job.is_cancelled
    assert failed.value.extensions == {"falRequestId": job.request_id}
    assert not failed.value.retryable


def test_a_job_that_fal_finished_at_the_last_moment_gives_its_sources(
    fal: Emulator, tmp_path: Path
):
    fal.fault("slow", on="result", seconds=1.5)
    with pytest.raises(DeadlineExceeded) as failed:
        make(services(fal, tmp_path), left_s=1.2)
    assert str(failed.value.extensions["sourceUrls"]).startswith("['https://v3.fal.media/")


def test_copying_is_cut_at_the_deadline_too(fal: Emulator, tmp_path: Path):
    fal.fault("slow", on="file", seconds=3)
    with pytest.raises(DeadlineExceeded) as failed:
        make(services(fal, tmp_path), left_s=1.2)
    assert failed.value.extensions["sourceUrls"]


def test_a_storage_that_refuses_leaves_the_sources_to_the_caller(fal: Emulator, tmp_path: Path):
    generator = with_storage(services(fal, tmp_path), lambda: BrokenStorage(takes=False))
    with pytest.raises(UploadFailed) as failed:
        make(generator)
    assert failed.value.extensions["sourceUrls"]
    assert "canary" not in failed.value.detail


def test_a_storage_that_cannot_be_opened_is_told_at_the_put(fal: Emulator, tmp_path: Path):
    def opener() -> None:
        raise ImportError("No module named 'boto3'")

    with pytest.raises(UploadFailed) as failed:
        make(with_storage(services(fal, tmp_path), opener))
    assert failed.value.extensions["sourceUrls"]


def test_a_storage_that_failed_to_open_is_opened_again():
    storage = BrokenStorage(takes=True)
    outcomes = iter([StorageError("not yet"), storage])

    def opener() -> Any:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    door: Any = Door(opener)
    assert isinstance(door.start().exception(), StorageError)
    assert door.get() is storage
    assert door.get() is storage


def test_a_picture_stored_but_not_signed_is_no_error(fal: Emulator, tmp_path: Path):
    storage = BrokenStorage(takes=True)
    job = make(with_storage(services(fal, tmp_path), lambda: storage))
    assert job.images[0].url is None
    assert [warning.code for warning in job.warnings] == ["link_failed"]


def test_the_storage_is_opened_while_fal_works(fal: Emulator, tmp_path: Path):
    submits_seen: list[int] = []
    storage = BrokenStorage(takes=True)

    def opener() -> BrokenStorage:
        submits_seen.append(fal.calls["submit"])
        return storage

    make(with_storage(services(fal, tmp_path), opener))
    assert len(submits_seen) == 1


def test_a_model_without_prompts_needs_none(fal: Emulator, tmp_path: Path):
    generator = services(fal, tmp_path)
    picture = f"data:image/png;base64,{base64.b64encode(pictures.png()).decode()}"
    redux = Order("fal-ai/flux/schnell/redux", {"image_url": picture})
    assert generator.generate(redux, turn(generator)).prompt is None


def test_an_interrupted_wait_asks_fal_to_cancel(tmp_path: Path):
    def interrupt(name: str, facts: dict[str, object]) -> None:
        raise KeyboardInterrupt

    with Emulator(queue_s=10) as fal:
        generator = services(fal, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            generator.generate(order(), turn(generator, listener=interrupt))
        (job,) = fal.ledger
        assert job.is_cancelled


def test_pictures_sent_inline_are_kept_like_others(fal: Emulator, tmp_path: Path):
    generator = services(fal, tmp_path)
    (image,) = make(generator).images
    storage = generator.steps.assets.door.get()
    with storage.open(storage.key(image.file_id)) as chunks:
        content = b"".join(chunks)
    inline = Source(0, "data:image/jpeg;base64," + base64.b64encode(content).decode(), None)
    ends_at = generator.clock() + 5
    (kept,) = generator.steps.assets.keep(OTHER_JOB, [inline], ends_at=ends_at)
    assert kept.image.sha256 == image.sha256


@pytest.mark.parametrize(
    "uri", ["data:image/png,plain", "data:image/png;base64,%%%", "data:;base64,", "data:"]
)
def test_a_broken_data_uri_is_no_picture(fal: Emulator, tmp_path: Path, uri: str):
    generator = services(fal, tmp_path)
    source = Source(0, uri, None)
    with pytest.raises(CopyError) as failed:
        generator.steps.assets.keep(OTHER_JOB, [source], ends_at=generator.clock() + 5)
    assert isinstance(failed.value.error, FetchImageFailed)
    assert not failed.value.may_pass
