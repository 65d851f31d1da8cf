"""Input pictures: whether their bytes can be used, and what a model makes of them.

Knows formats, sizes and fal's errors about them (fal docs, errors page). Refuses to know where the
bytes came from. Pillow is loaded by the first input, not by importing this module.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL.Image import Image

# What FLUX models take (model pages), as Pillow and as file names call them.
FORMATS = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WEBP": (".webp",), "GIF": (".gif",)}
FORMATS |= {"AVIF": (".avif",)}
OTHER_FORMATS = ("BMP", "ICO", "PPM", "TIFF")  # pictures, but not for these models
MIN_SIDE_PX = 8  # one block of FLUX's autoencoder; fal does not publish its own limits
MOST_INPUT_PX = 64_000_000


class Unusable(Exception):
    """An input that no model can use: `kind` is fal's type of the error, `ctx` its details."""

    def __init__(self, kind: str, text: str, ctx: Mapping[str, object] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.ctx = ctx


@dataclass(frozen=True)
class Original:
    """An input picture that can be used; `file` holds its bytes as they came."""

    file: Path
    width: int
    height: int


def look_at(body: bytes) -> tuple[int, int]:
    """Width and height of a whole picture, upright. Raises Unusable."""
    picture = _opened(io.BytesIO(body))
    width, height = picture.size
    if min(width, height) < MIN_SIDE_PX:
        raise Unusable(
            "image_too_small",
            f"Image dimensions are too small. Minimum is {MIN_SIDE_PX}x{MIN_SIDE_PX} pixels.",
            {"min_height": MIN_SIDE_PX, "min_width": MIN_SIDE_PX},
        )
    if width * height > MOST_INPUT_PX:
        raise _too_large()
    return _upright(picture).size


def worked_over(
    drawn: Image, originals: Sequence[Path], mask: Path | None, *, share: float
) -> Image:
    """The originals side by side, with `share` of what was drawn shining through.

    With a mask they are left as they are where it is black.
    """
    from PIL import Image

    width, height = drawn.size
    base = Image.new("RGB", drawn.size)
    for index, file in enumerate(originals):
        left, right = (width * place // len(originals) for place in (index, index + 1))
        if left < right:
            base.paste(_fitted(file, right - left, height), (left, 0))
    changed = Image.blend(base, drawn, share)
    if mask is None:
        return changed
    return Image.composite(changed, base, _fitted(mask, width, height).convert("L"))


def _fitted(file: Path, width: int, height: int) -> Image:
    """Cut to the form asked for and scaled."""
    from PIL import ImageOps

    with file.open("rb") as stream:
        return ImageOps.fit(_upright(_opened(stream)), (width, height))


def _opened(file: BinaryIO) -> Image:
    """Only the header has been read."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]  # older Pillows lack AVIF
    try:
        return Image.open(file, formats=formats)
    except UnidentifiedImageError:
        raise _of_other_format(file) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large() from None
    except Exception as error:  # decoders raise whatever a stranger's bytes make them raise
        raise _unreadable() from error


def _upright(picture: Image) -> Image:
    """All of its pixels, turned as its metadata says. Raises Unusable if they are not there."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:  # as above
        raise _unreadable() from error


def _of_other_format(file: BinaryIO) -> Unusable:
    from PIL import Image

    try:
        Image.open(file, formats=OTHER_FORMATS)
    except Exception:  # as above
        return _unreadable()
    endings = [ending for names in FORMATS.values() for ending in names]
    return Unusable(
        "unsupported_image_format",
        f"Unsupported image format. Supported formats are {', '.join(endings)}.",
        {"supported_formats": endings},
    )


def _too_large() -> Unusable:
    side = math.isqrt(MOST_INPUT_PX)
    return Unusable(
        "image_too_large",
        f"Image dimensions are too large. Maximum is {side}x{side} pixels.",
        {"max_height": side, "max_width": side},
    )


def _unreadable() -> Unusable:
    return Unusable(
        "image_load_error",
        "Failed to load the image. Please ensure the image file is not corrupted "
        "and is in a supported format.",
    )
