"""Crop, resize, watermark, visible mark, format: a picture in, another out.

One picture is worked on at a time in a process, so that memory stays bounded; the others wait.
Refuses to know where pictures lie, and what a caller may ask for beyond what its drawing needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from ..errors import InvalidInput, Misconfigured
from ..images import NotAPicture, Picture, inspect
from ..treatment import (
    MAX_RESIZED_PIXELS,
    MAX_SIDE_PX,
    MAX_WATERMARK_PIXELS,
    Crop,
    Format,
    Place,
    Resize,
    Thumbnail,
    Transforms,
    Watermark,
)
from . import fonts, mark, pixels
from .base import CannotProcess
from .mark import Layer

if TYPE_CHECKING:
    from PIL import Image

Size = tuple[int, int]
Box = tuple[int, int, int, int]  # left, upper, right, lower

_NAMED = 10  # letters that an error names
_BAND_PX = 256  # how high the bands are that a layer is laid in

_NO_TRANSFORMS = Transforms()


def check(transforms: Transforms, font: str | None, *, images: int = 1) -> None:
    """Whether the transforms can be done here at all; nothing is drawn, so call it before money.

    `images` is how many pictures they are for. Raises InvalidInput for what the caller can mend:
    sizes beyond what is worked on, a format that this Pillow does not write, letters that the font
    at the path `font` (None: Pillow's own) does not have. Raises Misconfigured if that file cannot
    be read.
    """
    resize, watermark = transforms.resize, transforms.watermark
    if resize is not None:
        _check_resize(resize, transforms.format, images)
    if transforms.format == "avif" and not _writes_avif():
        raise _invalid("transforms.format", "cannot be avif: the endpoint's Pillow writes none")
    if watermark is not None and watermark.text is not None:
        _check_letters(watermark.text, font)


def redraw(
    source: BinaryIO,
    picture: Picture,
    into: BinaryIO,
    *,
    transforms: Transforms | None,
    is_marked: bool,
    watermark: BinaryIO | None,
    font: str | None,
    xmp: bytes | None,
) -> Picture:
    """Write the transformed picture into the empty file `into`, and say what it is.

    `picture` is what `images.inspect` says of `source`, `watermark` the file that the transforms'
    watermark names. With `is_marked` the visible mark is drawn over everything. `xmp` is written
    into an AVIF only. All files stay open, `into` stands at its start. Raises CannotProcess, and
    then `into` holds nothing of use. Equal input gives equal bytes, so repeating it is safe.
    """
    wanted = transforms or _NO_TRANSFORMS
    with pixels.one_at_a_time:
        image, profile = pixels.decode(source, picture)
        if wanted.crop is not None:
            image = image.crop(_cropped(image.size, wanted.crop))
        if wanted.resize is not None:
            image = _resized(image, wanted.resize)
        format = wanted.format or _kept(picture, image.size)
        if format == "jpeg":
            image = pixels.flattened(image)
        label = mark.draw(*image.size) if is_marked else None
        if wanted.watermark is not None:
            _lay(image, _watermark(wanted.watermark, image.size, label, watermark, font))
        if label is not None:
            _lay(image, label)
        return pixels.encode(image, into, format, profile=profile, quality=wanted.quality, xmp=xmp)


def shrink(
    source: BinaryIO, picture: Picture, into: BinaryIO, box: Thumbnail, *, xmp: bytes | None
) -> Picture:
    """Write the picture, as large as fits into the box and never enlarged, into the empty file
    `into`; a GIF becomes a PNG. Everything else is as with `redraw`."""
    with pixels.one_at_a_time:
        image, profile = pixels.decode(source, picture)
        size = _fitted(image.size, (box.width, box.height))
        if size != image.size:
            image = pixels.scaled(image, size)
        format = pixels.own_format(picture)
        return pixels.encode(image, into, format, profile=profile, quality=None, xmp=xmp)


def _kept(picture: Picture, size: Size) -> Format:
    """The format of a picture that nobody wants in another: its own, but PNG if in its own it would
    have more pixels than are written."""
    own = pixels.own_format(picture)
    return own if size[0] * size[1] <= pixels.most_written(own) else "png"


def _cropped(size: Size, crop: Crop) -> Box:
    width, height = size
    if crop.x >= width or crop.y >= height:
        raise CannotProcess(f"the crop lies outside of its {width} x {height} pixels")
    return (
        crop.x,
        crop.y,
        min(width, crop.x + crop.width),
        min(height, crop.y + crop.height),
    )


def _resized(image: Image.Image, resize: Resize) -> Image.Image:
    (width, height), (wanted_width, wanted_height) = image.size, (resize.width, resize.height)
    size = (
        wanted_width or _part(width, wanted_height or height, height),
        wanted_height or _part(height, wanted_width or width, width),
    )
    if max(size) > MAX_SIDE_PX:
        raise CannotProcess(f"resized to {size[0]} x {size[1]} it has a side over {MAX_SIDE_PX}")
    both = wanted_width is not None and wanted_height is not None
    return pixels.scaled(image, size, _filling(image.size, size) if both else None)


def _filling(size: Size, wanted: Size) -> tuple[float, float, float, float]:
    """The middle of a picture that fills the wanted size without distorting."""
    width, height = size
    seen_width = min(width, height * wanted[0] / wanted[1])
    seen_height = min(height, width * wanted[1] / wanted[0])
    left, upper = (width - seen_width) / 2, (height - seen_height) / 2
    return left, upper, min(width, left + seen_width), min(height, upper + seen_height)


def _fitted(size: Size, box: Size) -> Size:
    """The largest size of the same proportions that fits into the box, never larger than it is."""
    width, height = size
    if width <= box[0] and height <= box[1]:
        return size
    if width * box[1] >= height * box[0]:
        return box[0], _part(height, box[0], width)
    return _part(width, box[1], height), box[1]


def _part(of: int, part: int, whole: int) -> int:
    """As much of `of` as `part` is of `whole`, rounded, and at least 1."""
    return max(1, (2 * of * part + whole) // (2 * whole))


def _watermark(
    wanted: Watermark, size: Size, label: Layer | None, file: BinaryIO | None, font: str | None
) -> Layer:
    """The watermark for a picture of this size; in the corner of the label it stands above it."""
    (width, height), margin = size, min(size) // 50
    bottom = height - margin
    if label is not None and wanted.place == "bottom-right":
        bottom = label.y - margin
    across = max(1, min(width - 2 * margin, round(width * wanted.scale)))
    down = max(1, bottom - margin)
    if wanted.text is not None:
        image = _text(wanted.text, font, across, down)
    else:
        image = _stamp(file, across, down)
    faded = [round(shade * wanted.opacity) for shade in range(256)]
    image.putalpha(image.getchannel("A").point(faded))
    free = (width - margin - image.width, bottom - image.height)
    x, y = _corner(wanted.place, margin, free)
    return Layer(image, x, y)


def _corner(place: Place, margin: int, free: Size) -> Size:
    """Where the upper left corner goes, between the margin and the furthest it can go."""
    if place == "center":
        return (margin + free[0]) // 2, (margin + free[1]) // 2
    down, across = place.split("-")
    x = margin if across == "left" else free[0]
    y = margin if down == "top" else free[1]
    return max(0, x), max(0, y)


def _text(text: str, font: str | None, across: int, down: int) -> Image.Image:
    try:
        return fonts.drawn(text, font, width=across, height=down)
    except (OSError, ValueError) as error:  # FreeType's, and Pillow's for too many pixels
        raise CannotProcess("the text of its watermark cannot be drawn") from error


def _stamp(file: BinaryIO | None, across: int, down: int) -> Image.Image:
    """The picture of a watermark, as wide as wanted unless it is too high then."""
    if file is None:
        raise CannotProcess("the picture of its watermark is not there")
    try:
        image, _ = pixels.decode(file, inspect(file), most=MAX_WATERMARK_PIXELS)
    except (NotAPicture, CannotProcess) as error:
        raise CannotProcess(f"the picture of its watermark: {error.reason}") from error
    size = across, _part(image.height, across, image.width)
    if size[1] > down:
        size = min(across, _part(image.width, down, image.height)), down
    image = pixels.scaled(image, size)
    if image.mode != "RGBA":
        image.putalpha(255)
    return image


def _lay(image: Image.Image, layer: Layer) -> None:
    if image.mode != "RGBA":
        image.paste(layer.image, (layer.x, layer.y), layer.image)
        return
    width, height = layer.image.size
    for top in range(0, height, _BAND_PX):  # all at once would take three more copies
        band = (0, top, width, min(height, top + _BAND_PX))
        image.alpha_composite(layer.image, (layer.x, layer.y + top), band)


def _check_resize(resize: Resize, format: Format | None, images: int) -> None:
    size = (resize.width or 0) * (resize.height or 0)
    most = pixels.most_written(format)
    if size > most:
        raise _invalid("transforms.resize", f"must not have more than {most} pixels")
    if size * images > MAX_RESIZED_PIXELS:
        raise _invalid(
            "transforms.resize",
            f"must not have more than {MAX_RESIZED_PIXELS} pixels in all {images} images together",
        )


def _check_letters(text: str, font: str | None) -> None:
    strange = fonts.not_drawable(text)
    if strange:
        raise _invalid(
            "transforms.watermark.text",
            f"has characters that are not drawn here: {_named(strange)} (one line from left to "
            "right, without combining marks)",
        )
    try:
        missing = fonts.missing(text, font)
    except OSError as error:
        raise Misconfigured(
            f"FAL_IMAGE_WATERMARK_FONT cannot be read as a font: {error}",
            hint="Give the path of a TrueType or OpenType file that the function can read.",
        ) from error
    if missing:
        whose = "Pillow's own font" if font is None else "the font of FAL_IMAGE_WATERMARK_FONT"
        raise _invalid(
            "transforms.watermark.text",
            f"has letters that {whose} lacks: {_named(missing)}",
            hint="Use other letters, or let the owner set FAL_IMAGE_WATERMARK_FONT to a font file "
            "that has these.",
        )


def _named(letters: str) -> str:
    """Letters as people see them, with their code points for those that nobody sees."""
    shown = [
        f"{letter} (U+{ord(letter):04X})" if letter.isprintable() else f"U+{ord(letter):04X}"
        for letter in letters[:_NAMED]
    ]
    more = len(letters) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _writes_avif() -> bool:
    from PIL import features

    return features.check("avif") is True


def _invalid(field: str, message: str, *, hint: str | None = None) -> InvalidInput:
    fields = [{"field": field, "message": message}]
    return InvalidInput(f"{field} {message}", hint=hint, fields=fields)
