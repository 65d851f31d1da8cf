"""The services of this process, for the commands: an environment's settings, and pictures that are
made for their owner.

What the environment does not name is kept below ./.fal-image. Refuses to know command lines and
what is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .. import app
from ..dev.home import at_home
from ..errors import Internal, NotFound
from ..generate import Listener, Overheard, Turn, Wish
from ..inputs import Order, parse_order
from ..jobs import ID, Job
from ..keyring import KeyUnavailable
from ..routes import KEPT_BACK_S, Routes
from ..settings import load
from ..storage.base import StorageError
from .output import EXIT_FAILED, Say, Stopped, goes_on, interrupted, misconfigured, usage

DATA_DIR = ".fal-image"
TURN_S = 110.0  # a job that the database keeps is waited for in turns, each with a lease of its own


def own_storage() -> dict[str, str]:
    """The environment, with a place for pictures in the current directory if it names none."""
    return {"FAL_IMAGE_STORAGE_URL": (home() / "pictures").as_uri(), **os.environ}


def own_home() -> dict[str, str]:
    """The environment, with a place in the current directory for what it does not name. Raises
    Stopped where nothing can be written there."""
    try:
        return at_home(os.environ, home())
    except OSError as error:
        raise usage(f"{error.filename or home()}: {error.strerror}") from None


def home() -> Path:
    return Path.cwd() / DATA_DIR


def database_file() -> Path:
    return home() / "fal-image.db"


def services(environ: Mapping[str, str]) -> Routes:
    """The services for an environment. Raises Stopped for settings that cannot be used."""
    try:
        found = app.compose(load(environ), environ=environ)
    except KeyUnavailable as error:
        raise Stopped(str(error), EXIT_FAILED, code="key_unavailable") from None
    if found.settings.problems:
        raise misconfigured(found.settings.problems)
    return found


class Here(Struct, frozen=True):
    """The services in this process, which act for their owner."""

    services: Routes

    def model_of(self, given: str | None) -> str:
        return self.order({} if given is None else {"model": given}).model

    def check(self, body: Mapping[str, object]) -> None:
        self.services.generator.checked(self.order(body))

    def estimate(self, body: Mapping[str, object]) -> dict[str, Any]:
        ends_at = time.monotonic() + self.services.settings.max_wait_s
        return self.services.estimates.of(self.order(body), ends_at=ends_at).to_json()

    def request(self, body: Mapping[str, object]) -> dict[str, object]:
        order = self.services.generator.orders.completed(self.order(body))
        url = f"https://queue.fal.run/{order.model}"
        return {"method": "POST", "url": url, "body": order.arguments}

    def attach(self, path: Path) -> str:
        ends_at = time.monotonic() + self.services.settings.max_wait_s
        with path.open("rb") as file:
            return self.services.uploads.send(path.name, file, ends_at=ends_at)

    def make(self, body: Mapping[str, object], *, is_async: bool, say: Say) -> dict[str, Any]:
        order, generator = self.order(body), self.services.generator
        if not is_async and not generator.steps.is_durable:
            return self._made_at_once(order, say)
        wish = Wish(waits=False, public_url=self.services.settings.public_url)
        try:
            job = generator.generate(order, self._turn(), wish)
        except KeyboardInterrupt:
            raise interrupted("interrupted while fal was asked; the database has the job") from None
        if not is_async and not job.is_over:
            job = replace(self._over(job.job_id, say), cached=job.cached)
        return _json(job)

    def job(self, job_id: str) -> dict[str, Any]:
        overheard = Overheard()
        turn = replace(self._turn(self.services.settings.max_wait_s), listener=overheard)
        job = self.services.drivers.poll(job_id, self._caller_of(job_id), turn)
        return job.to_json(job.job_id, overheard.progress())

    def wait(self, job_id: str, say: Say) -> dict[str, Any]:
        self._caller_of(job_id)
        return _json(self._over(job_id, say))

    def cancel(self, job_id: str) -> dict[str, Any]:
        caller = self._caller_of(job_id)
        return _json(self.services.generator.cancel(job_id, caller, self._turn()))

    @contextmanager
    def read(self, image: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        storage = self.services.assets.door.get()
        try:
            with storage.open(storage.key(str(image["fileID"]))) as chunks:
                yield chunks
        except StorageError as error:
            raise Internal(f"the storage does not answer: {error}") from error

    def found_by(self, job: Mapping[str, Any], image: Mapping[str, Any]) -> str:
        return f"fal-image file {image['fileID']} --link"

    def order(self, body: Mapping[str, object]) -> Order:
        return parse_order(
            body,
            default_model=self.services.settings.default_model,
            aliases=self.services.aliases,
        )

    def _made_at_once(self, order: Order, say: Say) -> dict[str, Any]:
        """Without a database nobody comes back for the job: an interruption ends it at fal."""
        ends_at = time.monotonic() + self.services.settings.max_wait_s
        turn = Turn(self.services.new_owner(), ends_at, ends_at + KEPT_BACK_S, _saying(say))
        try:
            return _json(self.services.generator.generate(order, turn))
        except KeyboardInterrupt:
            raise interrupted("interrupted; fal was asked to cancel") from None

    def _over(self, job_id: str, say: Say) -> Job:
        """A job that the database keeps, once it is over."""
        steps = self.services.generator.steps
        try:
            while True:
                turn = replace(self._turn(), listener=_saying(say))
                if steps.wait(steps.records.load(job_id), turn).is_over:
                    caller = self._caller_of(job_id)
                    return self.services.drivers.poll(job_id, caller, self._turn())
        except KeyboardInterrupt:
            raise goes_on(job_id) from None

    def _turn(self, seconds: float = TURN_S) -> Turn:
        answer_by = time.monotonic() + seconds
        return Turn(self.services.new_owner(), answer_by, answer_by + KEPT_BACK_S)

    def _caller_of(self, job_id: str) -> str | None:
        """Whose job it is: whoever can read the database is the owner, and may see every job."""
        if not ID.fullmatch(job_id):
            raise NotFound("no such job")
        return self.services.generator.steps.records.load(job_id).caller


def _json(job: Job) -> dict[str, Any]:
    return job.to_json(job.job_id)


def _saying(say: Say) -> Listener:
    def heard(name: str, facts: dict[str, object]) -> None:
        if name == "queued":
            say(f"in fal's queue, position {facts['position']}")
        elif name == "progress":
            say(f"fal: {facts['message']}")
        else:
            say("a picture is stored")

    return heard
