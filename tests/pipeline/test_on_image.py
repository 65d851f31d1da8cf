"""The owner's `on_image` is called at least once for every picture, whoever dies meanwhile."""

import pytest

from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from support import world
from support.effects import Crash, Effects
from support.world import World

IMAGES = 2


@pytest.mark.parametrize(
    ("effect", "seen_before", "seen"),
    [("put", [], [0, 1]), ("settle", [0, 1], [0, 1, 0, 1]), ("write done", [0, 1], [0, 1])],
)
def test_killed_after_a_picture_is_stored(effect: str, seen_before: list[int], seen: list[int]):
    shown: list[int] = []

    def look(job: Job, image: Image) -> bool:
        shown.append(image.index)
        return image.index != 1

    def end_here(name: str) -> None:
        if name == effect:
            effects.last = len(effects.names)

    here, key = World(hooks=Hooks(on_image=look)), "the one intent"
    effects = Effects(told=end_here)
    with pytest.raises(Crash):
        here.instance(effects).ask(world.order(key=key, num_images=IMAGES))
    assert shown == seen_before
    here.pass_s(130)
    assert here.database
    here.sweep_until_nothing_is_due(here.database)
    job = here.instance().job(here.instance().intended_id(key))
    assert shown == seen
    assert (job.state, len(here.fal.taken)) == ("done", 1)
    assert [image.withheld for image in job.images] == [False, True]
    assert [warning.code for warning in job.warnings] == ["withheld"]


def test_a_link_is_not_given_before_the_picture_was_judged():
    asked: list[int] = []

    def look(job: Job, image: Image) -> bool:
        said = here.instance().ask(world.Ask("POST", "/links", f'{{"fileID": "{image.file_id}"}}'))
        asked.append(said.status)
        return True

    here = World(hooks=Hooks(on_image=look))
    job = here.instance().ask(world.order()).json
    assert asked == [404]
    said = here.instance().ask(world.Ask("POST", "/links", f'{{"fileID": "{job["fileID"]}"}}'))
    assert said.json["tempFileURL"]
