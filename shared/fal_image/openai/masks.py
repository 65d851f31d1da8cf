"""A mask as OpenAI means it, turned into one as FLUX means it.

There, what is transparent is to be drawn anew; here, what is white. A mask in which nothing is
transparent is taken for one of the second kind. Refuses to know where it came from.
"""

from __future__ import annotations

import io

from ..images import NotAPicture, Picture, inspect
from ..inputs import field_error
from ..processing.base import CannotProcess
from ..processing.pixels import decode, one_at_a_time

# Those of a telephone's camera have as many. A decoder and its copy hold 4 bytes for each: 96 MB.
MAX_MASK_PIXELS = 12_000_000


def check(name: str, content: bytes) -> Picture:
    """What the bytes of a file are. Raises InvalidInput that names the field."""
    try:
        return inspect(io.BytesIO(content))
    except NotAPicture as error:
        raise field_error(name, f"is not a whole picture: {error.reason}") from error


def for_flux(content: bytes, image: bytes | str) -> bytes:
    """The mask to give to a model; it must have the sides of the picture, where those are known.
    Equal bytes give equal bytes. Raises InvalidInput, for what is too large before it is decoded;
    waits while another picture is worked on."""
    picture = check("mask", content)
    if picture.width * picture.height > MAX_MASK_PIXELS:
        raise field_error(
            "mask",
            f"must have at most {MAX_MASK_PIXELS} pixels, not {picture.width} x {picture.height}",
        )
    if isinstance(image, bytes):
        shape = check("image", image)
        if (shape.width, shape.height) != (picture.width, picture.height):
            raise field_error(
                "mask",
                f"must have the sides of the picture, {shape.width} x {shape.height}, not "
                f"{picture.width} x {picture.height}",
            )
    try:
        with one_at_a_time:
            return _white_where_clear(content, picture)
    except CannotProcess as error:
        raise field_error("mask", f"cannot be read: {error.reason}") from error


def _white_where_clear(content: bytes, picture: Picture) -> bytes:
    shown, _ = decode(io.BytesIO(content), picture)
    if shown.mode != "RGBA":
        return content
    alpha = shown.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return content
    made = io.BytesIO()
    white = alpha.point([255 - level for level in range(256)])
    white.save(made, "PNG")
    return made.getvalue()
