"""What the owner's check withholds is in no result of a batch."""

import json
from pathlib import Path

from fal_image.dev.emulator import Emulator
from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from support.batch_house import CALLER, house


def not_of_row_one(job: Job, image: Image) -> bool:
    return job.row != 1


def test_a_withheld_picture_has_no_link_in_the_results(fal: Emulator, tmp_path: Path):
    hooks = Hooks(on_image=not_of_row_one)
    with house(fal, tmp_path, hooks=hooks, link_base_url="https://cdn.example") as home:
        batch = home.until(home.start(3)["batchId"])
        key = batch["resultsUrl"].removeprefix("https://cdn.example/")
        with home.services.assets.door.get().open(key) as chunks:
            results = [json.loads(line) for line in b"".join(chunks).splitlines()]
        jobs = [home.services.generator.find(row["jobId"], CALLER) for row in results]
    links = [row["images"][0]["tempFileURL"] for row in results]
    assert [bool(link) for link in links] == [True, False, True]
    assert [[warning.code for warning in job.warnings] for job in jobs] == [[], ["withheld"], []]
