"""The options that say what picture is wanted, and the request that they make.

It is the body of `POST /generate`, so that a picture is the same wherever it is made. Refuses to
know where that is, and what becomes of the picture.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from msgspec import Struct

from ..fal import catalog
from .output import usage
from .places import Place

PANEL = "The picture"
STDIN = "-"
MAX_PROMPT_BYTES = 1024 * 1024

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".avif": "avif"}
_IMAGE_FIELDS = ("image_urls", "image_url")
_BOX = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def complete_model(incomplete: str) -> Iterator[tuple[str, str]]:
    """The model ids that begin so, each with what it is for."""
    for model in catalog.models().values():
        if model.id.startswith(incomplete):
            yield model.id, model.kind


def complete_size(incomplete: str) -> Iterator[tuple[str, str]]:
    for name, (width, height) in catalog.PRESETS.items():
        if name.startswith(incomplete):
            yield name, f"{width}x{height}"


Prompt = Annotated[str, typer.Argument(help="What the picture shows; - reads it from stdin.")]
Model = Annotated[
    str | None,
    typer.Option(help="fal's model id.", autocompletion=complete_model, rich_help_panel=PANEL),
]
Size = Annotated[
    str | None,
    typer.Option(
        help="A name such as landscape_16_9, or WIDTHxHEIGHT.",
        autocompletion=complete_size,
        rich_help_panel=PANEL,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(help="The same seed gives the same picture.", rich_help_panel=PANEL),
]
Number = Annotated[
    int | None, typer.Option("-n", "--number", help="How many pictures.", rich_help_panel=PANEL)
]
Images = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="A picture to work on; repeat it for several.",
        rich_help_panel=PANEL,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what it would cost and what would be sent. Pays nothing."),
]


class Asked(Struct, frozen=True):
    """What the options say. `suffix` is how the file must end that the picture is written to."""

    prompt: str
    model: str | None = None
    size: str | None = None
    seed: int | None = None
    number: int | None = None
    images: tuple[Path, ...] = ()
    format: Literal["png", "jpeg", "webp", "avif"] | None = None
    thumbnail: str | None = None
    ai_label: Literal["metadata", "visible"] | None = None
    reuse: bool = False
    suffix: str | None = None

    def body(self, place: Place) -> dict[str, object]:
        """The request, with input pictures by their paths. Raises Stopped."""
        given: dict[str, object] = {
            "prompt": self.prompt,
            "model": self.model,
            "image_size": parse_size(self.size) if self.size else None,
            "seed": self.seed,
            "num_images": self.number,
            "transforms": self._transforms(),
            "aiLabel": self.ai_label,
            "reuse": self.reuse or None,
        }
        body = {name: value for name, value in given.items() if value is not None}
        if self.suffix is not None or self.images:
            model = place.model_of(self.model)
            if self.suffix is not None:
                body.update(self._format(model, self.suffix))
            if self.images:
                field = input_field(model, len(self.images))
                body[field] = _as_field(field, [str(path) for path in self.images])
        return body

    def attached(self, place: Place, body: dict[str, object]) -> dict[str, object]:
        """The request with its input pictures sent, once nothing else speaks against it."""
        if not self.images:
            return body
        place.check(body)
        field = next(name for name in _IMAGE_FIELDS if name in body)
        sent = [place.attach(path) for path in self.images]
        return body | {field: _as_field(field, sent)}

    def _transforms(self) -> dict[str, object] | None:
        wanted: dict[str, object] = {}
        if self.format is not None:
            wanted["format"] = self.format
        if self.thumbnail is not None:
            box = _BOX.fullmatch(self.thumbnail)
            if box is None:
                raise usage(f"--thumbnail {self.thumbnail}: must be WIDTHxHEIGHT, such as 256x256")
            wanted["thumbnail"] = {"width": int(box[1]), "height": int(box[2])}
        return wanted or None

    def _format(self, model_id: str, suffix: str) -> dict[str, object]:
        """What makes the model write the format that a file's name ends with."""
        wanted = FORMATS.get(suffix.lower())
        if self.format is not None:
            if wanted != self.format:
                raise usage(f"--format {self.format}: the file must end so, not with {suffix!r}")
            return {}
        model = catalog.find(model_id)
        if model is None or "output_format" not in model.fields:
            return {}
        choices = model.fields["output_format"].choices or ()
        if wanted not in choices:
            raise usage(
                f"{model_id} writes {', '.join(choices)}: the file must end so, not with "
                f"{suffix!r}",
                hint="--format converts to png, jpeg, webp or avif.",
            )
        is_usual = wanted == model.fields["output_format"].default
        return {} if is_usual else {"output_format": wanted}


def read_prompt(text: str) -> str:
    """The prompt; `-` means what is on stdin. Raises Stopped."""
    if text != STDIN:
        try:
            text.encode()
        except UnicodeEncodeError:  # bytes of another encoding, as Python keeps them
            raise usage("the prompt is not UTF-8") from None
        return text
    content = sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
    if len(content) > MAX_PROMPT_BYTES:
        raise usage(f"the prompt on stdin has more than {MAX_PROMPT_BYTES} bytes")
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise usage("the prompt on stdin is not UTF-8") from None


def parse_size(text: str) -> object:
    """A size by name, or by its sides."""
    box = _BOX.fullmatch(text)
    return {"width": int(box[1]), "height": int(box[2])} if box else text


def input_field(model_id: str, count: int) -> str:
    """The model's field for this many pictures; one that is not in the catalog gets the usual."""
    model = catalog.find(model_id)
    single = "image_url" if count == 1 else None
    if model is None:
        return single or "image_urls"
    for field in ("image_urls", single):
        if field in model.fields:
            return field
    if "image_url" in model.fields:
        raise usage(f"{model_id} works on one picture: give --image once")
    alike = [known.id for known in catalog.models().values() if known.kind == "image-to-image"]
    raise usage(f"{model_id} takes no --image; these do: {', '.join(alike)}")


def _as_field(field: str, values: list[str]) -> Any:
    return values if field == "image_urls" else values[0]
