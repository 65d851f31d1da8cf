"""What is done to a picture between fal and the bucket, as values: transforms and the AI label.

The constraints stand in the types: what validates a request also tells its schema. Refuses to know
how any of it is done; `processing` does.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

MAX_SIDE_PX = 8192  # of a transformed picture; a WebP has at most 16383 (RFC 9649, 2.6)

# Pixels. With these, what is done to one picture takes less than 350 MB of memory, for functions
# have 512: measured, see "Memory and time" in docs/transforms.md. A pixel takes 4 bytes in each
# copy of a picture, and there are up to three at once.
MAX_PIXELS = 25_000_000  # of a picture before and after it is worked on
MAX_WEBP_READ_PIXELS = 17_000_000  # its decoder takes 16 bytes for each; 4096 x 4096 is less
MAX_CODED_PIXELS = 8_300_000  # of a WebP or AVIF: their encoders take up to 41; 3840 x 2160 is less
MAX_WATERMARK_PIXELS = 4_000_000  # of its picture; it is held beside the other one
MAX_RESIZED_PIXELS = 100_000_000  # of all pictures of a job together: it is the time that counts

MAX_TEXT_CHARS = 200

Offset = Annotated[int, Meta(ge=0, le=100_000)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)]
Quality = Annotated[int, Meta(ge=1, le=100)]
Format = Literal["png", "jpeg", "webp", "avif"]
Place = Literal["top-left", "top-right", "center", "bottom-left", "bottom-right"]
Level = Literal["off", "metadata", "visible"]

_LEVELS: tuple[Level, ...] = ("off", "metadata", "visible")


class Crop(Struct, frozen=True, forbid_unknown_fields=True):
    """A rectangle of the picture, in its pixels; what of it lies outside is left out."""

    x: Offset
    y: Offset
    width: Side
    height: Side


class Resize(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One side keeps the proportions. Both are filled without distorting: what then stands over is
    cut off on both sides alike."""

    width: Side | None = None
    height: Side | None = None


class Watermark(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A text, or a picture of the caller's by its file id, laid over a corner or the middle.

    `scale` is its width as a share of the picture's, `opacity` how much it covers.
    """

    text: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)] | None = None
    image: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    place: Place = "bottom-right"
    opacity: Annotated[float, Meta(gt=0, le=1)] = 0.6
    scale: Annotated[float, Meta(gt=0, le=1)] = 0.25


class Thumbnail(Struct, frozen=True, forbid_unknown_fields=True):
    """A second, smaller picture that fits into this box; it is never enlarged."""

    width: Annotated[int, Meta(ge=1, le=2048)]
    height: Annotated[int, Meta(ge=1, le=2048)]


class Transforms(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Done in this order: crop, resize, watermark, format; the thumbnail is made of the result.

    Without `format` the picture keeps its own, a GIF becomes a PNG.
    """

    crop: Crop | None = None
    resize: Resize | None = None
    format: Format | None = None
    quality: Quality | None = None
    watermark: Watermark | None = None
    thumbnail: Thumbnail | None = None

    @property
    def changes_picture(self) -> bool:
        """Whether the picture itself becomes another, not only gets a thumbnail."""
        return any((self.crop, self.resize, self.format, self.quality, self.watermark))


class LabelWish(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller wants a picture to say of itself: that a machine made it, and from what."""

    level: Literal["metadata", "visible"] = "metadata"
    prompt: bool = False
    seed: bool = False


class Label(Struct, frozen=True, omit_defaults=True):
    """The AI label of a job's pictures. `required` is the level that the owner insists on;
    `prompt` and `seed` are written into the picture only where the caller asked for it."""

    level: Level = "off"
    required: Level = "off"
    prompt: bool = False
    seed: bool = False

    @classmethod
    def of(cls, required: Level, wish: LabelWish | None) -> Label:
        """The owner's level and a caller's wish together: a wish adds, it never removes."""
        if wish is None:
            return cls(required, required)
        level = max(required, wish.level, key=_LEVELS.index)
        return cls(level, required, wish.prompt, wish.seed)


class Treatment(Struct, frozen=True, omit_defaults=True):
    """Everything that is done to the pictures of one job."""

    transforms: Transforms | None = None
    label: Label = Label()

    @property
    def is_none(self) -> bool:
        return self.transforms is None and self.label.level == "off"

    @property
    def is_redrawn(self) -> bool:
        """Whether the picture that callers get has other pixels, or another format, than fal's."""
        changes = self.transforms is not None and self.transforms.changes_picture
        return changes or self.label.level == "visible"


NO_TREATMENT = Treatment()
