"""One picture being treated: its transforms, its visible mark, the label in its file.

Loaded with the first picture that is to be changed. Refuses to know where it comes from and where
it is stored.
"""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import ExitStack
from typing import BinaryIO

from msgspec.structs import replace

from ..images import Picture
from ..jobs import Job, JobWarning
from ..processing import labels, transforms
from ..processing.base import About, CannotProcess
from ..treatment import Transforms
from .finishing import SPOOL_BYTES, Finished, Finisher, Piece
from .keys import Part

_CHUNK_BYTES = 256 * 1024


class Work:
    """One picture being finished, and what could not be done to it."""

    def __init__(
        self, finisher: Finisher, stack: ExitStack, job: Job, index: int, seed: int | None
    ) -> None:
        self._finisher = finisher
        self._keeps_unmarked = finisher.keeps_unmarked
        self._stack = stack
        self._index = index
        self._transforms = job.treatment.transforms
        self._label = job.treatment.label
        self._is_redrawn = job.treatment.is_redrawn
        self._notes: list[JobWarning] = []
        self._about = About(
            producer=finisher.producer,
            produce_id=f"{job.job_id}-{index}",
            model=job.model,
            created_at=job.created_at,
            prompt=job.prompt if self._label.prompt else None,
            seed=seed if self._label.seed else None,
        )

    def finish(self, source: Piece) -> Finished:
        redrawn = self._redrawn(source) if self._is_redrawn else None
        is_marked = redrawn is not None and self._label.level == "visible"
        image = self._labelled(redrawn or source)
        if self._lacks_label(image, is_marked):
            kept = replace(image or redrawn or source, part="unmarked")
            return Finished(kept, notes=tuple(self._notes))
        image = image or redrawn or source
        original = self._original(source) if redrawn else None
        return Finished(image, original, self._thumbnail(image), tuple(self._notes))

    def _lacks_label(self, labelled: Piece | None, is_marked: bool) -> bool:
        """Whether the owner insists on what the picture does not have."""
        required = self._label.required
        return required != "off" and (labelled is None or (required == "visible" and not is_marked))

    def _redrawn(self, source: Piece) -> Piece | None:
        """The picture with its transforms and its mark; if they do not go together, with its mark;
        None if it stays as it is."""
        is_marked = self._label.level == "visible"
        if self._transforms is not None and self._transforms.changes_picture:
            try:
                return self._drawn(source, self._transforms, is_marked)
            except CannotProcess as error:
                self._note("not_transformed", "is not transformed as asked for", error)
            if not is_marked:
                return None
        try:
            return self._drawn(source, None, is_marked)
        except CannotProcess as error:
            self._note("not_labelled", "has no visible AI label", error)
            return None

    def _drawn(self, source: Piece, wanted: Transforms | None, is_marked: bool) -> Piece:
        mark = wanted.watermark if wanted else None
        watermark = None
        if mark is not None and mark.image is not None:
            watermark = self._spool()
            self._finisher.read(mark.image, watermark)
        into = self._spool()
        picture = transforms.redraw(
            source.file,
            source.picture,
            into,
            transforms=wanted,
            is_marked=is_marked,
            watermark=watermark,
            font=self._finisher.font,
            xmp=self._packet(),
        )
        return _piece(source.part, into, picture)

    def _original(self, source: Piece) -> Piece | None:
        """What the picture was drawn from: no caller gets it where the mark must be seen, or
        without the label that the owner insists on."""
        labelled = self._labelled(source)
        lacks_label = labelled is None and self._label.required != "off"
        if self._label.level != "visible" and not lacks_label:
            return replace(labelled or source, part="original")
        return replace(labelled or source, part="unmarked") if self._keeps_unmarked else None

    def _thumbnail(self, image: Piece) -> Piece | None:
        box = self._transforms.thumbnail if self._transforms else None
        if box is None:
            return None
        into = self._spool()
        try:
            picture = transforms.shrink(image.file, image.picture, into, box, xmp=self._packet())
        except CannotProcess as error:
            self._note("not_transformed", "has no thumbnail", error)
            return None
        small = _piece("thumb", into, picture)
        return self._labelled(small) or (small if self._label.required == "off" else None)

    def _labelled(self, piece: Piece) -> Piece | None:
        """The picture with the label in its file; None if it has none and none can be written."""
        if self._label.level == "off":
            return piece
        if piece.picture.extension == "avif":
            return piece  # written when it was drawn
        into = self._spool()
        try:
            picture = labels.labelled(piece.file, piece.picture, self._about, into)
        except CannotProcess as error:
            self._note("not_labelled", "does not carry the AI label", error)
            return None
        return _piece(piece.part, into, picture)

    def _packet(self) -> bytes | None:
        return None if self._label.level == "off" else labels.packet(self._about)

    def _spool(self) -> BinaryIO:
        spool = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115 (the stack closes it)
        return self._stack.enter_context(spool)  # type: ignore[return-value]

    def _note(self, code: str, what: str, error: CannotProcess) -> None:
        note = JobWarning(code, f"Image {self._index} {what}: {error.reason}.")
        if note not in self._notes:
            self._notes.append(note)


def _piece(part: Part, file: BinaryIO, picture: Picture) -> Piece:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return Piece(part, file, picture, digest.hexdigest())
