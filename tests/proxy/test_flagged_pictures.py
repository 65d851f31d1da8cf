"""FAL_IMAGE_FLAGGED=refuse: what fal's safety checker flagged leaves the proxy by no way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from fal_image.wire import FetchError
from support.instances import CAT
from support.streams import (
    FALS,
    JSON,
    OURS,
    WAYS,
    ProxyWorld,
    Show,
    events,
    from_a_stream,
    from_the_queue,
    output,
    result,
    show,
    stream,
    submit,
    urls,
)

FIRST, SECOND = f"{FALS}0/0.png", f"{FALS}0/1.png"
TWO = {**CAT, "num_images": 2}
FINAL = output(FIRST, SECOND, has_nsfw_concepts=[False, True])


def world(*, stores: bool = False, **bent: Any) -> ProxyWorld:
    """fal flags the second of two pictures."""
    here = ProxyWorld(bent={"flagged": "refuse", "proxy_store_images": stores, **bent})
    here.fal.output = lambda one: FINAL
    show(here, output(SECOND), FINAL)
    return here


def codes(payload: Any) -> list[str]:
    return [warning["code"] for warning in payload["fal_image"]["warnings"]]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_flagged_picture_is_left_out_of_fals_own_answer(way: str):
    here = world()
    payload = WAYS[way](here.app(), TWO)
    assert (urls(payload), payload["has_nsfw_concepts"]) == ([FIRST], [False])
    assert codes(payload) == ["withheld"]
    assert SECOND not in json.dumps(payload)
    assert here.job.state == "done"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_flagged_picture_is_stored_and_not_linked(way: str):
    here = world(stores=True)
    payload = WAYS[way](here.app(), TWO)
    [link] = urls(payload)
    assert here.storage.objects[link.removeprefix(OURS)] == here.fal.content(FIRST)
    assert len(here.storage.pictures) == 2
    assert payload["has_nsfw_concepts"] == [False]
    assert [image["tempFileURL"] for image in payload["fal_image"]["images"]] == [link, None]
    assert "withheld" in codes(payload)
    assert SECOND not in json.dumps(payload)


@pytest.mark.parametrize("stores", [False, True])
def test_a_stream_is_its_last_event_alone(stores: bool):
    answer = stream(world(stores=stores).app(), TWO)
    assert answer.headers["content-type"].startswith("text/event-stream")
    [last] = events(answer.body)
    assert len(urls(last)) == 1
    assert SECOND.encode() not in answer.body


@pytest.mark.parametrize("stores", [False, True])
def test_a_flagged_picture_does_not_leave_as_json_or_alone_either(stores: bool):
    here = ProxyWorld(bent={"flagged": "refuse", "proxy_store_images": stores})
    made = {"image": {"url": SECOND}, "has_nsfw_concepts": [True]}
    here.fal.shows.append(Show([json.dumps(made).encode()], headers=JSON))
    answer = stream(here.app())
    assert (answer.status, answer.json["image"]) == (200, None)
    assert SECOND.encode() not in answer.body


@pytest.mark.parametrize("way", sorted(WAYS))
def test_where_the_copy_fails_the_others_stay_at_fal_and_the_flagged_is_left_out(way: str):
    here = world(stores=True)
    here.fal.picture = FetchError("HTTP 404", status=404)
    payload = WAYS[way](here.app(), TWO)
    assert (urls(payload), payload["has_nsfw_concepts"]) == ([FIRST], [False])
    assert "withheld" in codes(payload)
    assert SECOND not in json.dumps(payload)
    fault = here.job.fault
    assert fault is not None
    assert fault.error().extensions["sourceUrls"] == [FIRST]


@pytest.mark.parametrize("stores", [False, True])
def test_a_result_that_fal_has_dropped_is_recalled_without_it(stores: bool):
    here = world(stores=stores)
    request_id = submit(here.app(), TWO)
    result(here.app(), request_id)
    here.fal.forgets = True
    payload = result(here.app(), request_id).json
    assert len(urls(payload)) == 1
    assert payload["has_nsfw_concepts"] == [False]
    assert SECOND not in json.dumps(payload)


def test_what_was_stored_before_the_owner_refused_is_left_out_from_then_on():
    here = world(stores=True, flagged="keep")
    request_id = submit(here.app(), TWO)
    assert len(urls(result(here.app(), request_id).json)) == 2
    here.bent = {**here.bent, "flagged": "refuse"}
    assert len(urls(result(here.app(), request_id).json)) == 1


def test_on_image_is_shown_flagged_pictures_too_and_both_may_withhold():
    seen: list[tuple[int, bool | None]] = []

    def look(job: Job, image: Image) -> bool:
        seen.append((image.index, image.nsfw))
        return image.index != 0

    here = world(stores=True)
    here.hooks = Hooks(on_image=look)
    payload = from_the_queue(here.app(), TWO)
    assert urls(payload) == []
    assert seen == [(0, False), (1, True)]
    assert codes(payload).count("withheld") == 2


@pytest.mark.parametrize("flags", [{}, {"has_nsfw_concepts": [False, False]}])
def test_nothing_flagged_is_fals_answer_as_it_is(flags: dict[str, object]):
    here = ProxyWorld(bent={"flagged": "refuse"})
    made = output(FIRST, SECOND, **flags)
    here.fal.output = lambda one: made
    assert from_the_queue(here.app(), TWO) == made
    show(here, output(SECOND), made)
    assert from_a_stream(here.app(), TWO) == made


@pytest.mark.parametrize("way", sorted(WAYS))
def test_an_owner_who_keeps_them_hands_them_out(way: str):
    assert WAYS[way](world(flagged="keep").app(), TWO) == FINAL
