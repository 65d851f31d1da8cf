"""`fal-image generate` and `fal-image estimate`: a picture, and what it would cost.

Refuses to know where the picture is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import prices, shown
from .output import AsJson, Output, usage
from .places import the_place
from .request import (
    Asked,
    DryRun,
    Images,
    Model,
    Number,
    Prompt,
    Seed,
    Size,
    read_prompt,
)
from .shown import Download, OutputPath

TREATMENT = "What is done to it"


def generate(
    prompt: Prompt,
    model: Model = None,
    size: Size = None,
    seed: Seed = None,
    number: Number = None,
    image: Images = None,
    format: Annotated[
        Literal["png", "jpeg", "webp", "avif"] | None,
        typer.Option(help="Store it in this format.", rich_help_panel=TREATMENT),
    ] = None,
    thumbnail: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Store a smaller one too, that fits into this box.",
            rich_help_panel=TREATMENT,
        ),
    ] = None,
    ai_label: Annotated[
        Literal["metadata", "visible"] | None,
        typer.Option(
            help="Have it say that a machine made it: in the file, or for all to see.",
            rich_help_panel=TREATMENT,
        ),
    ] = None,
    output: OutputPath = None,
    download: Download = None,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse", help="Take the stored picture of an equal request, with its --seed, if any."
        ),
    ] = False,
    is_async: Annotated[
        bool,
        typer.Option("--async", help="Print the job as soon as fal has it, and do not wait."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a picture and keep it in your storage.

    It is made with the settings of the environment or, where FAL_IMAGE_URL is set, by that
    endpoint. Without FAL_IMAGE_STORAGE_URL it is kept below ./.fal-image, and so are the jobs of
    --async and --reuse without FAL_IMAGE_DATABASE_URL. Pictures to work on are copied to fal, which
    is asked to drop them after an hour.
    """
    out = Output(as_json)
    with out.ending():
        where = shown.destination(output, download)
        if is_async and where is not None:
            hint = "`fal-image job ID --wait -o FILE` writes it later."
            raise usage("--async does not wait for a picture to write", hint=hint)
        asked = Asked(
            prompt=read_prompt(prompt),
            model=model,
            size=size,
            seed=seed,
            number=number,
            images=tuple(image or ()),
            format=format,
            thumbnail=thumbnail,
            ai_label=ai_label,
            reuse=reuse,
            suffix=where.suffix if where else None,
        )
        place = the_place(keeps_jobs=is_async or reuse)
        body = asked.body(place)
        if dry_run:
            prices.dry_run(out, place, body)
            return
        job = shown.made(out, place, asked.attached(place, body), is_async=is_async)
        shown.show(out, job, shown.save(place, job, where))


def estimate(
    prompt: Prompt,
    model: Model = None,
    size: Size = None,
    number: Number = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="A picture to work on; it need not be there yet."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a picture would cost, and buy nothing.

    Known models go by the catalog, with a word if fal lists another price now; for others fal's
    price list is asked, if there is a key. `generate --dry-run` also shows what would be sent.
    """
    out = Output(as_json)
    with out.ending():
        asked = Asked(read_prompt(prompt), model, size, None, number, tuple(image or ()))
        place = the_place()
        prices.show(out, place.estimate(asked.body(place)))
