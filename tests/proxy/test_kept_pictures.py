"""FAL_IMAGE_PROXY_STORE_IMAGES: what passes through the proxy is in the owner's bucket."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.extend import Hooks
from fal_image.wire import FetchError
from support import pictures, storages, world
from support.breakable import breakable_database, breakable_storage
from support.emulator import ask as ask_fal
from support.entrypoints import KEY_SHA256, request
from support.fake_fal import Fate
from support.instances import CAT, Answer, Calendar, Instance, instance, read
from support.streams import (
    FALS,
    OURS,
    WAYS,
    ProxyWorld,
    Show,
    copying,
    events,
    from_a_run,
    from_a_stream,
    from_the_queue,
    opened,
    output,
    pieces,
    reason,
    result,
    run,
    said,
    show,
    stream,
    submit,
    urls,
    withholding,
)

STORE: dict[str, Any] = {"proxy_store_images": True}
INLINE = "data:image/png;base64," + base64.b64encode(pictures.png()).decode()
LONG_S = 116  # longer than any answer may take


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld(bent=STORE)


@pytest.fixture(params=["local", "s3", "cos", "cloudbase"])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[storages.Rig]:
    moto = request.getfixturevalue("moto") if request.param == "s3" else ""
    for name, value in storages.AWS_ENVIRON.items():
        monkeypatch.setenv(name, value)
    with storages.RIGS[request.param](tmp_path / "data", moto) as rig:
        yield rig


def test_pictures_of_every_way_and_storage_are_the_owners(
    fal: Emulator, tmp_path: Path, rig: storages.Rig
):
    seams = Seams(storage=lambda configured: rig.open())
    app = instance(fal, tmp_path, seams=seams, FAL_IMAGE_PROXY_STORE_IMAGES="1")
    for way, ask in WAYS.items():
        payload = ask(app, {**CAT, "num_images": 2})
        assert reason(payload) is None, way
        assert len(payload["images"]) == 2
        for image, kept in zip(payload["images"], payload["fal_image"]["images"], strict=True):
            original = ask_fal(fal, "GET", kept["originalUrl"], key=None).body
            assert kept["originalUrl"].startswith(FALS)
            assert rig.fetch(image["url"]) == rig.fetch(kept["tempFileURL"]) == original
            assert kept["fileID"].startswith(rig.start)
            assert (kept["bytes"], kept["sha256"]) == (len(original), storages.sha256(original))
    assert len(fal.ledger) == 3


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_result_is_fals_own_but_for_the_links_and_one_member(
    fal: Emulator, tmp_path: Path, way: str
):
    app = instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1")
    payload = WAYS[way](app, {**CAT, "num_images": 2})
    ours = payload.pop("fal_image")
    assert sorted(ours) == ["error", "images", "jobId", "warnings"]
    assert (ours["error"], ours["warnings"]) == (None, [])
    job = app.job(ours["jobId"])
    assert (job["state"], job["falRequestId"]) == ("done", fal.ledger[0].request_id)
    for index, (image, kept) in enumerate(zip(payload["images"], ours["images"], strict=True)):
        assert (kept["index"], kept["tempFileURL"]) == (index, image["url"])
        assert kept["fileID"] == job["images"][index]["fileID"]
        assert (kept["width"], kept["height"]) == (image["width"], image["height"])
        assert (kept["contentType"], kept["nsfw"]) == (image["content_type"], False)
        assert kept["expiresAt"]
        assert sorted(image) == ["content_type", "height", "url", "width"]
    assert sorted(payload) == ["has_nsfw_concepts", "images", "prompt", "seed", "timings"]
    assert (payload["seed"], payload["prompt"]) == (7, CAT["prompt"])


def test_a_stream_shows_fals_events_and_then_the_result_with_links(here: ProxyWorld):
    partial, final = output(f"{FALS}1/0.png"), output(f"{FALS}2/0.png")
    show(here, partial, final)
    *fals, last = events(stream(here.app()).body)
    assert fals == [partial, final]
    assert urls(last)[0] == f"{OURS}{here.storage.pictures[0]}"
    assert here.fal.fetched == [f"{FALS}2/0.png"]


def test_a_picture_is_copied_once_however_often_it_is_asked_for(here: ProxyWorld):
    looked: list[str] = []
    here.hooks = Hooks(on_image=lambda job, image: looked.append(job.job_id))
    request_id = submit(here.app())
    delivery = world.webhook(here.fal.delivery(here.fal.taken[0]))
    answers = [result(here.app(), request_id) for _ in range(2)]
    assert here.instance().ask(delivery).status < 300
    answers += [result(here.app(), request_id) for _ in range(2)]
    here.later(minutes=2)
    here.app().tick()
    assert [reason(answer.json) for answer in answers] == [None] * 4
    assert (len(here.storage.pictures), len(here.fal.fetched), len(looked)) == (1, 1, 1)


def test_a_joined_run_gives_the_copy_that_there_is(here: ProxyWorld):
    here.fal.fates.append(Fate(runs_s=30))
    assert run(here.app()).status == 504
    here.later(minutes=1)
    assert here.instance().ask(world.webhook(here.fal.delivery(here.fal.taken[0]))).status < 300
    payload = from_a_run(here.app())
    assert urls(payload) == [f"{OURS}{here.storage.pictures[0]}"]
    assert (len(here.storage.pictures), len(here.fal.taken)) == (1, 1)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_several_pictures_keep_their_order(here: ProxyWorld, way: str):
    show(here, output(*(f"{FALS}0/{number}.png" for number in range(4))))
    payload = WAYS[way](here.app(), {**CAT, "num_images": 4})
    assert len(payload["images"]) == 4
    for number, image in enumerate(payload["images"]):
        kept = payload["fal_image"]["images"][number]
        assert (kept["index"], kept["originalUrl"].rpartition("/")[2]) == (number, f"{number}.png")
        content = here.storage.objects[image["url"].removeprefix(OURS)]
        assert content == here.fal.content(kept["originalUrl"])


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_single_picture_stays_a_single_picture(here: ProxyWorld, way: str):
    made = {"image": {"url": f"{FALS}3/0.png", "width": 8}, "seed": 8}
    here.fal.output = lambda one: made
    show(here, made)
    payload = WAYS[way](here.app())
    [key] = here.storage.pictures
    assert payload["image"] == {"url": f"{OURS}{key}", "width": 8}
    assert payload["fal_image"]["images"][0]["originalUrl"] == f"{FALS}3/0.png"
    assert "images" not in payload


def test_what_is_no_picture_among_pictures_stays_as_it_is(here: ProxyWorld):
    strange = ["a caption", {"width": 1}, {"url": None}, None]
    made = {
        "images": [strange[0], {"url": f"{FALS}3/0.png"}, *strange[1:], {"url": f"{FALS}3/1.png"}]
    }
    here.fal.output = lambda one: made
    payload = from_the_queue(here.app())
    assert [payload["images"][place] for place in (0, 2, 3, 4)] == strange
    for place, name in ((1, "0.png"), (5, "1.png")):
        content = here.storage.objects[payload["images"][place]["url"].removeprefix(OURS)]
        assert content == here.fal.content(f"{FALS}3/{name}")


OTHER_OUTPUTS: dict[str, object] = {
    "a video": {"video": {"url": f"{FALS}3/0.mp4", "content_type": "video/mp4"}, "seed": 8},
    "videos among images": {
        "images": [{"url": f"{FALS}3/0.mp4", "content_type": "video/mp4"}],
        "seed": 8,
    },
    "text": {"output": "a cat", "seed": 8},
    "nothing": {},
}


@pytest.mark.parametrize("kind", sorted(OTHER_OUTPUTS))
@pytest.mark.parametrize("way", sorted(WAYS))
def test_an_output_that_is_not_of_pictures_passes_as_it_is(here: ProxyWorld, way: str, kind: str):
    made: Any = OTHER_OUTPUTS[kind]
    here.fal.output = lambda one: made
    show(here, made)
    payload = WAYS[way](here.app())
    ours = payload.pop("fal_image")
    assert payload == made
    assert (ours["images"], ours["error"]) == ([], None)
    assert [warning["code"] for warning in ours["warnings"]] == ["not_pictures"]
    assert (here.job.state, here.job.output, here.storage.pictures) == ("done", made, [])


@pytest.mark.parametrize("last", [b"[DONE]", b"[1, 2]", b"null", b"7"])
def test_a_last_event_that_is_no_output_is_passed_as_it_is(here: ProxyWorld, last: bytes):
    sent = [*said(output(f"{FALS}1/0.png")), b"data: " + last + b"\n\n"]
    here.fal.shows.append(Show(sent))
    assert stream(here.app()).body == b"".join(sent)


def test_an_answer_without_pictures_is_passed_with_the_reason(fal: Emulator, tmp_path: Path):
    fal.fault("no-images", on="result")
    payload = from_the_queue(instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1"))
    assert (payload["images"], reason(payload)) == ([], "no_image_returned")


def test_an_answer_of_null_is_passed_as_it_is(fal: Emulator, tmp_path: Path):
    fal.fault("null-payload", on="result")
    assert from_the_queue(instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1")) is None


@pytest.mark.parametrize("body", [b"\x89PNG\r\n", b"[1, 2]", b'"a cat"', b""])
def test_a_result_that_is_no_object_is_passed_byte_by_byte(here: ProxyWorld, body: bytes):
    here.fal.answer = 200, {"content-type": "application/octet-stream"}, body
    answer = result(here.app(), submit(here.app()))
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_picture_inside_the_answer_becomes_a_link(here: ProxyWorld, way: str):
    made = output(INLINE)
    here.fal.output = lambda one: made
    show(here, made)
    payload = WAYS[way](here.app(), {**CAT, "sync_mode": True})
    [key] = here.storage.pictures
    assert urls(payload) == [f"{OURS}{key}"]
    assert here.storage.objects[key] == pictures.png()
    assert payload["fal_image"]["images"][0]["originalUrl"] is None
    assert "base64" not in json.dumps(payload)


def test_sync_mode_of_the_emulator_is_a_link_as_well(fal: Emulator, tmp_path: Path):
    app = instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1")
    payload = from_a_run(app, {**CAT, "sync_mode": True})
    assert payload["images"][0]["url"].startswith("http://127.0.0.1:9/files/ai-images/")
    assert reason(payload) is None


def test_a_flagged_picture_is_kept_and_said_to_be_flagged(fal: Emulator, tmp_path: Path):
    fal.fault("black", on="result")
    payload = from_the_queue(instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1"))
    assert payload["has_nsfw_concepts"] == [True]
    assert payload["fal_image"]["images"][0]["nsfw"] is True
    assert [warning["code"] for warning in payload["fal_image"]["warnings"]] == ["flagged"]


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_storage_that_is_down_leaves_fals_answer_and_says_so(here: ProxyWorld, way: str):
    here.storage.is_down = True
    show(here, output(f"{FALS}00000000/0.png"))
    payload = WAYS[way](here.app())
    assert urls(payload) == [f"{FALS}00000000/0.png"]
    assert (reason(payload), payload["fal_image"]["images"]) == ("upload_failed", [])
    assert payload["fal_image"]["error"]["message"]
    assert (here.job.state, here.job.copy_tries) == ("storing", 1)
    here.storage.is_down = False
    here.later(minutes=1)
    if way == "queue":
        payload = result(here.app(), "00000000").json
        assert urls(payload) == [f"{OURS}{here.storage.pictures[0]}"]
        assert reason(payload) is None
    here.app().tick()
    assert (here.job.state, len(here.storage.pictures)) == ("done", 1)
    shown = here.app().job(payload["fal_image"]["jobId"])
    assert shown["tempFileURL"] == f"{OURS}{here.storage.pictures[0]}"
    assert here.spent() == 3000


def test_a_copy_that_is_paused_is_not_tried_by_every_look(here: ProxyWorld):
    here.storage.is_down = True
    request_id = submit(here.app())
    answers = [result(here.app(), request_id) for _ in range(3)]
    assert [reason(answer.json) for answer in answers] == ["upload_failed"] * 3
    assert (here.job.copy_tries, len(here.fal.fetched)) == (1, 1)


def test_pictures_inside_the_answer_are_copied_later_out_of_fals_result(here: ProxyWorld):
    here.fal.output = lambda one: output(INLINE)
    here.storage.is_down = True
    payload = from_the_queue(here.app())
    assert (urls(payload), reason(payload)) == ([INLINE], "upload_failed")
    here.storage.is_down = False
    here.later(minutes=1)
    here.app().tick()
    assert here.storage.objects[here.storage.pictures[0]] == pictures.png()


def test_a_copy_without_a_link_is_said_and_fals_address_stays(here: ProxyWorld):
    storage = breakable_storage("link")
    storage.is_broken = True
    here.storage = storage.around(here.storage)
    payload = from_a_run(here.app())
    assert urls(payload) == [f"{FALS}00000000/0.png"]
    assert reason(payload) is None
    assert payload["fal_image"]["images"][0]["tempFileURL"] is None
    assert payload["fal_image"]["images"][0]["fileID"].startswith("memory:///ai-images/")
    assert [warning["code"] for warning in payload["fal_image"]["warnings"]] == ["link_failed"]


def test_many_who_ask_at_once_get_one_copy(fal: Emulator, tmp_path: Path):
    app = instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1")
    request_id = submit(app)
    with ThreadPoolExecutor(4) as pool:
        payloads = list(pool.map(lambda _: result(app, request_id).json, range(4)))
    assert {reason(payload) for payload in payloads} == {None}
    assert len({image["sha256"] for one in payloads for image in one["fal_image"]["images"]}) == 1
    assert len(list((tmp_path / "pictures").rglob("*.jpg"))) == 1


def test_pictures_inside_a_stream_have_left_with_it_and_nobody_has_them_again(here: ProxyWorld):
    show(here, output(INLINE))
    here.storage.is_down = True
    payload = from_a_stream(here.app())
    assert (urls(payload), reason(payload)) == ([INLINE], "upload_failed")
    here.storage.is_down = False
    here.later(minutes=1)
    here.app().tick()
    assert (here.job.state, here.job.settled, here.spent()) == ("failed", True, 3000)


BAD_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "gone": ("vanished", {}),
    "a page": ("mistyped", {}),
    "too large": ("oversize", {"bytes": 3_000_000}),
    "without end": ("oversize", {}),
    "cut off": ("truncated", {"declare": "sent"}),
    "elsewhere": ("redirect", {"url": "https://evil.example/cat.png"}),
}


@pytest.mark.parametrize("file", sorted(BAD_FILES))
def test_a_picture_that_cannot_be_copied_leaves_fals_answer_and_says_so(
    fal: Emulator, tmp_path: Path, file: str
):
    kind, options = BAD_FILES[file]
    fal.fault(kind, on="file", times=3, **options)
    bent = {"FAL_IMAGE_PROXY_STORE_IMAGES": "1", "FAL_IMAGE_MAX_IMAGE_BYTES": "2000000"}
    app = instance(fal, tmp_path, seams=Seams(sleep=lambda seconds: None), **bent)
    request_id = submit(app)
    for _ in range(2):
        payload = result(app, request_id).json
        assert (reason(payload), payload["fal_image"]["images"]) == ("fetch_image_failed", [])
        assert payload["images"][0]["url"].startswith(FALS)
    job = app.job(payload["fal_image"]["jobId"])
    assert (job["state"], job["error"]["sourceUrls"]) == ("failed", urls(payload))


def test_one_picture_of_several_that_cannot_be_copied_leaves_fals_answer(
    fal: Emulator, tmp_path: Path
):
    fal.fault("vanished", on="file")
    app = instance(fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1")
    payload = from_a_run(app, {**CAT, "num_images": 3})
    assert reason(payload) == "fetch_image_failed"
    assert all(url.startswith(FALS) for url in urls(payload))


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_copy_that_takes_longer_than_the_answer_may_is_said_and_goes_on(
    here: ProxyWorld, way: str
):
    show(here, output(f"{FALS}00000000/0.png"))
    here.fal.fetch_s, here.fal.picture = LONG_S, FetchError("no time left", may_pass=True)
    payload = WAYS[way](here.app())
    assert urls(payload) == [f"{FALS}00000000/0.png"]
    assert reason(payload) == "deadline_exceeded"
    here.fal.fetch_s, here.fal.picture = 0, None
    here.later(minutes=2)
    here.app().tick()
    assert (here.job.state, len(here.storage.pictures)) == ("done", 1)


def test_pictures_that_another_is_copying_are_waited_for_and_then_not_yet_stored(here: ProxyWorld):
    request_id = copying(here)
    payload = result(here.app(), request_id).json
    assert (urls(payload), reason(payload)) == ([f"{FALS}00000000/0.png"], "not_stored_yet")
    here.later(minutes=3)
    payload = result(here.app(), request_id).json
    assert (urls(payload), reason(payload)) == ([f"{OURS}{here.storage.pictures[0]}"], None)


def test_a_database_that_fails_leaves_fals_answer_and_says_so(here: ProxyWorld):
    request_id, database = submit(here.app()), breakable_database("replace_if")
    here.database = database.around(here.kept)
    database.is_broken = True
    payload = result(here.app(), request_id).json
    assert urls(payload) == [f"{FALS}00000000/0.png"]
    assert reason(payload) is not None
    database.mend()
    assert reason(result(here.app(), request_id).json) is None


def test_links_are_signed_anew_for_every_look(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    app = instance(fal, tmp_path, seams=Seams(now=calendar), FAL_IMAGE_PROXY_STORE_IMAGES="1")
    request_id, start = submit(app), "http://127.0.0.1:9"
    old = result(app, request_id).json
    calendar.forward(minutes=50)
    new = result(app, request_id).json
    calendar.forward(minutes=20)
    assert old["fal_image"]["images"][0]["expiresAt"] < new["fal_image"]["images"][0]["expiresAt"]
    assert old["fal_image"]["images"][0]["fileID"] == new["fal_image"]["images"][0]["fileID"]
    links = [urls(payload)[0].removeprefix(start) for payload in (old, new)]
    assert [follow(app, link).status for link in links] == [404, 200]
    original = new["fal_image"]["images"][0]["originalUrl"]
    assert follow(app, links[1]).body == ask_fal(fal, "GET", original, key=None).body


def follow(app: Instance, link: str) -> Answer:
    path, _, query = link.partition("?")
    pairs = tuple((name, value) for name, _, value in (p.partition("=") for p in query.split("&")))
    return read(app.app(request("GET", path, key=None, query=pairs)))


@pytest.mark.parametrize("way", sorted(WAYS))
def test_nothing_is_stored_unless_the_owner_says_so(way: str):
    here = ProxyWorld(hooks=withholding(0))
    final = output(f"{FALS}00000000/0.png", prompt="a cat")
    here.fal.output = lambda one: final
    show(here, final)
    assert WAYS[way](here.app()) == final
    here.later(minutes=2)
    here.app().tick()
    assert (here.storage.pictures, here.fal.fetched) == ([], [])
    job = here.app().job(here.job.job_id)
    assert (job["state"], job["images"], job["fileID"]) == ("done", [], None)
    assert [warning["code"] for warning in job["warnings"]] == ["not_kept"]


def test_a_job_is_kept_as_it_was_begun(here: ProxyWorld):
    kept = submit(here.app())
    here.bent = {**here.bent, "proxy_store_images": False}
    passed = submit(here.app())
    assert urls(result(here.app(), kept).json) == [f"{OURS}{here.storage.pictures[0]}"]
    here.bent = {**here.bent, "proxy_store_images": True}
    assert urls(result(here.app(), passed).json) == [f"{FALS}00000001/0.png"]
    assert len(here.storage.pictures) == 1


@pytest.mark.parametrize("way", sorted(WAYS))
def test_without_a_database_pictures_are_kept_as_well(way: str):
    alone = {"database_url": None, "daily_budget_usd_micro": None}
    here = ProxyWorld(bent={**STORE, **alone})
    here.bent = {**here.bent, "api_keys": (("web", KEY_SHA256),)}
    show(here, output(f"{FALS}00000000/0.png"))
    payload = WAYS[way](here.app())
    assert urls(payload) == [f"{OURS}{here.storage.pictures[0]}"]
    if way == "queue":
        assert urls(result(here.app(), "00000000").json) == urls(payload)
    assert len(here.storage.pictures) == 1


def test_a_caller_who_leaves_while_pictures_are_copied_has_them_all_the_same(here: ProxyWorld):
    show(here, output(f"{FALS}1/0.png"))
    answer = opened(here.app())
    next(pieces(answer))
    last = next(pieces(answer))
    answer.close()
    assert OURS.encode() in last
    assert (here.job.state, len(here.storage.pictures)) == ("done", 1)
