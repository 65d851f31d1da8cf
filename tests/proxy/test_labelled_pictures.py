"""Where every picture must carry the AI label, none without it leaves the proxy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.instances import CAT
from support.streams import (
    FALS,
    OURS,
    WAYS,
    ProxyWorld,
    events,
    output,
    reason,
    show,
    stream,
    urls,
)

LABEL: dict[str, Any] = {"proxy_store_images": True, "ai_label": "metadata"}


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld(bent=LABEL)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_the_copy_is_labelled_and_fals_own_is_not_named(here: ProxyWorld, way: str):
    final = output(f"{FALS}0/0.png")
    here.fal.output = lambda one: final
    show(here, final)
    payload = WAYS[way](here.app(), CAT)
    [link] = urls(payload)
    assert b"trainedAlgorithmicMedia" in here.storage.objects[link.removeprefix(OURS)]
    assert [image["originalUrl"] for image in payload["fal_image"]["images"]] == [None]
    assert FALS not in json.dumps(payload)


def test_a_stream_is_its_last_event_alone(here: ProxyWorld):
    show(here, output(f"{FALS}1/0.png"), output(f"{FALS}2/0.png"))
    answer = stream(here.app())
    [last] = events(answer.body)
    assert urls(last)[0].startswith(OURS)
    assert FALS.encode() not in answer.body


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_picture_that_could_not_be_copied_does_not_leave(here: ProxyWorld, way: str):
    show(here, output(f"{FALS}00000000/0.png"))
    here.storage.is_down = True
    payload = WAYS[way](here.app())
    assert urls(payload) == []
    assert reason(payload) is not None
    assert FALS not in json.dumps(payload)
