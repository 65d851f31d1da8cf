"""What becomes of a fetched picture before it is stored: transforms, the visible mark, the label.

A paid picture never turns into an error: what cannot be done to it is a warning, and the picture
stays as it was. One that lacks a label which the owner insists on is kept, and given to nobody.
Refuses to know where pictures come from and where they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO

from msgspec import Struct

from ..images import Picture
from ..jobs import Job, JobWarning
from .keys import Part

SPOOL_BYTES = 1024 * 1024


class Piece(Struct, frozen=True):
    """One file to be stored."""

    part: Part
    file: BinaryIO
    picture: Picture
    sha256: str


class Finished(Struct, frozen=True):
    """What there is to be stored of one picture. The one that `is_held_back` is for the owner."""

    image: Piece
    original: Piece | None = None
    thumbnail: Piece | None = None
    notes: tuple[JobWarning, ...] = ()

    @property
    def is_held_back(self) -> bool:
        return self.image.part == "unmarked"


class Finisher(Struct, frozen=True):
    """`read` writes the file behind an id into another one; it raises CannotProcess if there is
    none. Without `keeps_unmarked` what a visible mark was drawn on is not kept: where everybody
    can read the storage, its name could be guessed."""

    read: Callable[[str, BinaryIO], None]
    producer: str
    font: str | None = None
    keeps_unmarked: bool = True

    @contextmanager
    def finished(self, source: Piece, job: Job, index: int, seed: int | None) -> Iterator[Finished]:
        """What a job wants to have of a picture; its files are gone afterwards."""
        if job.treatment.is_none:
            yield Finished(source)
            return
        from .treating import Work  # which most pictures do without

        with ExitStack() as stack:
            yield Work(self, stack, job, index, seed).finish(source)
