"""Where a command has its pictures made: here, by the services and the settings of this
environment, or by the deployed endpoint that FAL_IMAGE_URL names.

Both take the body of a generate request and answer with the JSON of a job. Refuses to know command
lines and what is shown.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from ..endpoint import deployed
from .deployed import Deployment
from .here import Here, own_home, own_storage, services
from .output import Say, misconfigured


class Place(Protocol):
    """Every method raises AppError or Stopped."""

    def model_of(self, given: str | None) -> str:
        """The model id that an alias, or nothing, stands for."""

    def check(self, body: Mapping[str, object]) -> None:
        """Refuse what would be refused anyway, before input pictures are sent."""

    def estimate(self, body: Mapping[str, object]) -> dict[str, Any]:
        """What the request would cost. Pays nothing."""

    def request(self, body: Mapping[str, object]) -> dict[str, object]:
        """What would leave this machine: `method`, `url` and `body`. Pays nothing."""

    def attach(self, path: Path) -> str:
        """Send an input picture; what stands for it in a request. Costs nothing."""

    def make(self, body: Mapping[str, object], *, is_async: bool, say: Say) -> dict[str, Any]:
        """Pay for a job; it is over, unless `is_async`. An interruption does not lose it."""

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""

    def wait(self, job_id: str, say: Say) -> dict[str, Any]:
        """A job once it is over, however long that takes."""

    def cancel(self, job_id: str) -> dict[str, Any]:
        """A job after asking fal to drop it."""

    def read(self, image: Mapping[str, Any]) -> AbstractContextManager[Iterator[bytes]]:
        """The bytes of a picture of a job."""

    def found_by(self, job: Mapping[str, Any], image: Mapping[str, Any]) -> str:
        """The command that gets at a stored picture of a job."""


def the_place(*, keeps_jobs: bool = False) -> Place:
    """The endpoint that FAL_IMAGE_URL names, else this environment; what it does not name is below
    ./.fal-image: pictures and, if it `keeps_jobs`, a database. Raises Stopped."""
    try:
        endpoint = deployed(os.environ)
    except ValueError as error:
        raise misconfigured([str(error)]) from None
    if endpoint is not None:
        return Deployment(endpoint.url, endpoint)
    return Here(services(own_home() if keeps_jobs else own_storage()))
