"""`fal-image job`: what became of a job that somebody keeps.

Refuses to know where that is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..endpoint import URL
from . import shown
from .here import database_file
from .output import AsJson, Output, usage
from .places import the_place
from .shown import Download, OutputPath


def job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is over, and end as `generate` does.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask fal to drop it.")] = False,
    output: OutputPath = None,
    download: Download = None,
    as_json: AsJson = False,
) -> None:
    """Show a job, and drive it on as far as it goes now.

    Jobs are in the database of the environment, or below ./.fal-image; where FAL_IMAGE_URL is set,
    that endpoint is asked. A job that failed is shown like any other, with exit code 0; with
    --wait, or if its pictures are to be written, the failure is the command's own.
    """
    out = Output(as_json)
    with out.ending():
        where = shown.destination(output, download)
        _refuse_without_database()
        place = the_place(keeps_jobs=True)
        found = place.cancel(job_id) if cancel else place.job(job_id)
        if wait:
            with out.progress("waiting for fal") as say:
                found = place.wait(job_id, say)
        if (wait and not cancel) or where is not None:
            shown.refuse_failed(found)
        if where is not None and found["state"] != "done":
            raise usage(f"the job is {found['state']}: its pictures are not there yet; add --wait")
        shown.refuse_other_format(found, where)
        shown.show(out, found, shown.save(place, found, where))


def _refuse_without_database() -> None:
    """Looking for a job makes no database."""
    names = (URL, "FAL_IMAGE_DATABASE_URL")
    if any(os.environ.get(name) for name in names) or Path(database_file()).exists():
        return
    raise usage(f"no jobs are kept here: set {' or '.join(names)}")
