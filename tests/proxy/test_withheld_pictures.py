"""What the owner's `on_image` withholds, or could not judge, leaves the proxy by no way."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from fal_image.extend import Hooks
from fal_image.jobs import Image, Job
from fal_image.wire import FetchError
from support import pictures
from support.instances import CAT
from support.streams import (
    FALS,
    JSON,
    OURS,
    WAYS,
    ProxyWorld,
    Show,
    copying,
    events,
    from_a_run,
    from_the_queue,
    output,
    reason,
    result,
    show,
    stream,
    urls,
    withholding,
)

STORE: dict[str, Any] = {"proxy_store_images": True}
INLINE = "data:image/png;base64," + base64.b64encode(pictures.png()).decode()
LONG_S = 116  # longer than any answer may take


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld(bent=STORE)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_withheld_picture_leaves_by_no_way(here: ProxyWorld, way: str):
    here.hooks = withholding(1)
    partial = output(f"{FALS}0/0.png", f"{FALS}0/2.png")
    final = output(f"{FALS}0/0.png", f"{FALS}0/1.png", has_nsfw_concepts=[False, True])
    here.fal.output = lambda one: final
    show(here, partial, final)
    payload = WAYS[way](here.app(), {**CAT, "num_images": 2})
    kept = payload["fal_image"]
    [link] = urls(payload)
    assert here.storage.objects[link.removeprefix(OURS)] == here.fal.content(f"{FALS}0/0.png")
    assert payload["has_nsfw_concepts"] == [False]
    assert [image["tempFileURL"] for image in kept["images"]] == [link, None]
    assert [image["originalUrl"] for image in kept["images"]] == [f"{FALS}0/0.png", None]
    assert "withheld" in [warning["code"] for warning in kept["warnings"]]
    assert f"{FALS}0/1.png" not in json.dumps(payload)


def test_a_stream_of_judged_pictures_is_its_last_event_alone(here: ProxyWorld):
    here.hooks = withholding(0)
    show(here, output(f"{FALS}1/0.png"), output(f"{FALS}2/0.png"))
    answer = stream(here.app())
    assert answer.headers["content-type"].startswith("text/event-stream")
    [last] = events(answer.body)
    assert urls(last) == []
    assert FALS.encode() not in answer.body
    assert OURS.encode() not in answer.body


@pytest.mark.parametrize("made", [output(f"{FALS}2/0.png"), {"image": {"url": f"{FALS}2/0.png"}}])
def test_a_withheld_picture_does_not_leave_as_json_or_alone_either(here: ProxyWorld, made: Any):
    here.hooks = withholding(0)
    here.fal.shows.append(Show([json.dumps(made).encode()], headers=JSON))
    answer = stream(here.app())
    assert answer.status == 200
    assert FALS.encode() not in answer.body
    assert OURS.encode() not in answer.body
    assert [warning["code"] for warning in answer.json["fal_image"]["warnings"]] == ["withheld"]


def test_a_withheld_picture_inside_the_answer_does_not_leave_either(here: ProxyWorld):
    here.hooks = withholding(0)
    here.fal.output = lambda one: output(INLINE)
    payload = from_the_queue(here.app(), {**CAT, "sync_mode": True})
    assert urls(payload) == []
    assert "base64" not in json.dumps(payload)


UNJUDGED: dict[str, Callable[[ProxyWorld], None]] = {
    "the storage is down": lambda here: setattr(here.storage, "is_down", True),
    "fal's picture is gone": lambda here: setattr(
        here.fal, "picture", FetchError("HTTP 404", status=404)
    ),
    "the time is over": lambda here: setattr(here.fal, "fetch_s", LONG_S),
}


@pytest.mark.parametrize("trouble", sorted(UNJUDGED))
@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_picture_that_nobody_could_judge_does_not_leave_either(
    here: ProxyWorld, way: str, trouble: str
):
    here.hooks = withholding()
    show(here, output(f"{FALS}00000000/0.png"))
    UNJUDGED[trouble](here)
    payload = WAYS[way](here.app())
    assert urls(payload) == []
    assert reason(payload) is not None
    assert FALS not in json.dumps(payload)


def test_a_picture_that_is_being_judged_does_not_leave_yet(here: ProxyWorld):
    here.hooks = withholding()
    payload = result(here.app(), copying(here)).json
    assert (urls(payload), reason(payload)) == ([], "not_stored_yet")
    assert FALS not in json.dumps(payload)


def test_a_judge_who_fails_keeps_no_paid_picture_back(here: ProxyWorld):
    def broken(job: Job, image: Image) -> bool:
        raise RuntimeError("the content check is down")

    here.hooks = Hooks(on_image=broken)
    payload = from_a_run(here.app())
    assert urls(payload) == [f"{OURS}{here.storage.pictures[0]}"]
    assert [one["code"] for one in payload["fal_image"]["warnings"]] == ["on_image_failed"]
