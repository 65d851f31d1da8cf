"""Pictures as files: what is to be drawn, its bytes in a real format, and a bounded cache.

Knows PNG, JPEG and WebP. Refuses to know URLs and jobs.
"""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import originals, scenery

if TYPE_CHECKING:
    from PIL.Image import Image

CACHE_BYTES = 64 * 1024 * 1024
CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
MOST_PX = 4096 * 4096  # the emulator's own limit for one picture; real models have others
SOFT_PX = 24  # width of a partial picture of a stream before it is blown up; grows as it ripens


@dataclass(frozen=True)
class Picture:
    """One picture, fully described: equal pictures have equal bytes.

    `ripeness` is 1.0 for a finished picture, less for a partial one of a stream. With `originals`
    `share` is how much of it is new; the rest shines through, and where a mask is black all of it.
    """

    model: str
    prompt: str
    seed: int
    width: int
    height: int
    format: str
    is_black: bool = False
    ripeness: float = 1.0
    originals: tuple[Path, ...] = ()
    mask: Path | None = None
    share: float = 1.0

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.format]


class Studio:
    """Draws each picture once and keeps the last ones, up to CACHE_BYTES."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn: OrderedDict[Picture, Future[bytes]] = OrderedDict()
        self._drawn_bytes = 0
        self._ahead: ThreadPoolExecutor | None = None

    def draw_ahead(self, picture: Picture) -> None:
        """Begin now what will be asked for later, on one thread for all."""
        with self._lock:
            if self._ahead is None:
                self._ahead = ThreadPoolExecutor(1, "fal-emulator-studio")
            self._ahead.submit(self.file_of, picture)

    def file_of(self, picture: Picture) -> bytes:
        """The file. A second caller waits for the first one's drawing."""
        with self._lock:
            future = self._drawn.get(picture)
            is_mine = future is None
            if future is None:
                future = self._drawn[picture] = Future()
            self._drawn.move_to_end(picture)
        if is_mine:
            self._fill(picture, future)
        return future.result()

    def data_uri(self, picture: Picture) -> str:
        body = base64.b64encode(self.file_of(picture)).decode()
        return f"data:{picture.content_type};base64,{body}"

    def close(self) -> None:
        """Ends the drawing thread; pictures that it had not begun are dropped."""
        with self._lock:
            ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.shutdown(cancel_futures=True)

    def _fill(self, picture: Picture, future: Future[bytes]) -> None:
        try:
            body = encode(_draw(picture), picture.format)
        except BaseException as error:
            with self._lock:
                self._drawn.pop(picture, None)
            future.set_exception(error)
            return
        future.set_result(body)
        with self._lock:
            self._drawn_bytes += len(body)
            while self._drawn_bytes > CACHE_BYTES and len(self._drawn) > 1:
                if not next(iter(self._drawn.values())).done():
                    break
                _, oldest = self._drawn.popitem(last=False)
                self._drawn_bytes -= len(oldest.result())


def _draw(picture: Picture) -> Image:
    caption = f"fal emulator · {picture.model.removeprefix('fal-ai/')} · seed {picture.seed}"
    if picture.is_black:
        drawn = scenery.black(picture.width, picture.height)
    else:
        words = f"{picture.model}\n{picture.seed}\n{picture.prompt}"
        drawn = scenery.landscape(words, picture.width, picture.height)
        if picture.originals:
            drawn = originals.worked_over(
                drawn, picture.originals, picture.mask, share=picture.share
            )
    scenery.sign(drawn, caption)
    if picture.ripeness >= 1:
        return drawn
    soft_width = min(drawn.width, round(SOFT_PX / (1 - picture.ripeness)))
    soft_height = max(1, round(soft_width * drawn.height / drawn.width))
    return drawn.resize((soft_width, soft_height)).resize(drawn.size)


def encode(image: Image, format: str) -> bytes:
    """The bytes of a file that also says in its metadata where it comes from."""
    out = io.BytesIO()
    if format == "jpeg":
        image.save(out, "JPEG", quality=88, comment=b"fal emulator")
    elif format == "webp":
        image.save(out, "WEBP", quality=85, method=0)
    else:
        from PIL.PngImagePlugin import PngInfo

        note = PngInfo()
        note.add_text("Software", "fal emulator")
        image.save(out, "PNG", compress_level=1, pnginfo=note)
    return out.getvalue()
