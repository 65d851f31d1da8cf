"""From a file to pixels and back: decode what is no bomb, turn it upright, encode what we write.

Whoever decodes here holds `one_at_a_time` until the pixels are let go of, so that memory stays
bounded; the others wait. Refuses to know what is drawn in between.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, BinaryIO

from ..images import Picture
from ..treatment import MAX_CODED_PIXELS, MAX_PIXELS, MAX_WEBP_READ_PIXELS, Format
from . import containers
from .base import CannotProcess

if TYPE_CHECKING:
    from PIL import Image

one_at_a_time = threading.Lock()

# What a caller who names no quality gets, 1 to 100. A step of an encoder means little to another:
# these look alike.
QUALITY: dict[Format, int] = {"jpeg": 85, "webp": 82, "avif": 65}

_OPENED = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/avif": "AVIF",
}
_FORMATS: dict[str, Format] = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
    "image/gif": "png",
    "image/avif": "avif",
}
_EXTENSIONS: dict[Format, str] = {"png": "png", "jpeg": "jpg", "webp": "webp", "avif": "avif"}
_ORIENTATION = 0x0112  # Exif 3.0, 4.6.5: how it must be turned to stand upright


def own_format(picture: Picture) -> Format:
    """The format that a picture keeps where nobody wants another: its own, a GIF's is PNG."""
    return _FORMATS[picture.content_type]


def most_written(format: Format | None) -> int:
    """How many pixels a picture in this format may have; None is for one that keeps its own."""
    return MAX_CODED_PIXELS if format in {"webp", "avif"} else MAX_PIXELS


def check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Raises CannotProcess for more pixels than are held in memory."""
    if width * height > most:
        raise CannotProcess(
            f"{width} x {height} pixels are more than the {most} that can be worked on"
        )


def decode(
    source: BinaryIO, picture: Picture, *, most: int = MAX_PIXELS
) -> tuple[Image.Image, bytes | None]:
    """The pixels of a picture whose header says `picture`, and the colour profile they follow.

    They are upright, RGB or RGBA, and of an animation the first ones; where the profile is for
    other colours they were converted to sRGB. Raises CannotProcess, for what has more pixels than
    `most` before anything is decoded.
    """
    from PIL import Image

    if picture.extension == "webp":
        most = min(most, MAX_WEBP_READ_PIXELS)
    check_size(picture.width, picture.height, most)
    containers.check_extras(source, picture)
    source.seek(0)
    try:
        with Image.open(source, formats=[_OPENED[picture.content_type]]) as opened:
            check_size(*opened.size, most)  # a GIF's frame may be larger than its header says
            opened.load()
            profile = opened.info.get("icc_profile")
            return _upright(opened, profile if isinstance(profile, bytes) else None)
    except CannotProcess:
        raise
    except Exception as error:  # hostile bytes: what a decoder raises for them is not a closed list
        raise CannotProcess("its pixels cannot be decoded") from error


def encode(
    image: Image.Image,
    into: BinaryIO,
    format: Format,
    *,
    profile: bytes | None,
    quality: int | None,
    xmp: bytes | None,
) -> Picture:
    """Write a picture into an empty file, and say what it is. Equal pixels give equal bytes.

    Of what a picture can say beside its pixels only the colour profile is written, and `xmp` into
    an AVIF. Raises CannotProcess; the file is then as the encoder left it.
    """
    if image.width * image.height > most_written(format):
        raise CannotProcess(
            f"{image.width} x {image.height} pixels are more than the {most_written(format)} that "
            f"are written as {format}"
        )
    chosen = QUALITY.get(format) if quality is None else quality
    options: dict[str, object] = {"icc_profile": profile, "quality": chosen}
    if format == "avif":
        # More threads would write other bytes (libavif cuts the picture into more tiles).
        options |= {"xmp": xmp or b"", "max_threads": 1}
    elif format == "png":
        del options["quality"]
    try:
        image.save(into, format.upper(), **options)
    except Exception as error:  # sides beyond the format's, no such encoder, no memory
        raise CannotProcess(f"it cannot be written as {format}") from error
    size = into.seek(0, io.SEEK_END)
    into.seek(0)
    return Picture(f"image/{format}", _EXTENSIONS[format], image.width, image.height, size)


def scaled(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """The picture, or what of it is in the box, in another size. Raises CannotProcess."""
    from PIL import Image

    check_size(*size)
    return image.resize(size, Image.Resampling.LANCZOS, box)


def flattened(image: Image.Image) -> Image.Image:
    """The picture on white, for a format that knows nothing transparent."""
    from PIL import Image

    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _upright(opened: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(opened) or 1)
    image, profile = _coloured(opened, profile)
    if turn is not None:
        image = image.transpose(turn)
    image.info = {}  # or encoders would write some of it
    return image, profile


def _orientation(opened: Image.Image) -> int | None:
    try:
        found = opened.getexif().get(_ORIENTATION)
    except Exception:  # EXIF that cannot be read: viewers show such a picture as it is, too
        return None
    return found if isinstance(found, int) else None


def _coloured(opened: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """The picture as RGB, or RGBA if any of it may be transparent, and its profile if that fits."""
    is_grey = opened.mode in {"1", "L", "LA"} or opened.mode.startswith("I")
    image, alpha = opened, None
    if opened.mode.startswith("I"):
        image, alpha = _of_16_bits(opened)
    elif opened.has_transparency_data:
        image = opened.convert("RGBA")
    space = profile[16:20] if profile else b"RGB "  # ICC.1:2022, 7.2.6: what its numbers mean
    if profile and space != b"RGB ":
        if image.mode == "RGBA":
            alpha = image.getchannel("A")
        if space == b"GRAY" and is_grey:
            image = _in_srgb(image.convert("L"), profile)
        elif space == b"CMYK" and opened.mode == "CMYK":
            image = _in_srgb(opened, profile)
        profile = None
    if image.mode != "RGBA":
        image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image, profile


def _of_16_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A grey picture of 16 bits with the upper 8 of them, and which of its pixels can be seen."""
    shades = image.convert("I")
    clear = image.info.get("transparency")
    alpha = None
    if isinstance(clear, int):
        alpha = shades.point([0 if shade == clear else 255 for shade in range(65536)], "L")
    return shades.point([shade >> 8 for shade in range(65536)], "L"), alpha


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """A picture in sRGB by its profile; as it is where that is broken, as viewers have it, too."""
    from PIL import ImageCms

    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        meant = ImageCms.profileToProfile(image, given, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if meant is None else meant
