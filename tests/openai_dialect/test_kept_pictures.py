"""Pictures that came in a form are uploads with one id: today, tomorrow, under the next secret."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from fal_image.app import Seams, compose
from fal_image.dev.emulator import Emulator
from fal_image.settings import load
from support import pictures
from support.breakable import breakable_storage
from support.instances import OTHER_KEY, SECRET, Calendar, Server, environment

Serve = Callable[..., tuple[Server, openai.OpenAI]]

NEXT_SECRET = "another0secret0for0the0next0years0"


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


def edited(client: openai.OpenAI, key: str | None = None, **more: object) -> Any:
    """The job of an edit with a mask; the forms are equal for equal keywords."""
    answer: Any = client.images.edit(
        image=pictures.png(),
        mask=pictures.gif(),
        prompt="a hat on it",
        extra_headers={} if key is None else {"Idempotency-Key": key},
        extra_body={"seed": 7, **more},
    )
    return answer.job


def kept(folder: Path) -> list[str]:
    """The file ids of all uploads."""
    store = folder / "pictures"
    files = (path for path in store.rglob("uploads/*/*") if path.is_file())
    return sorted(f"file:///{path.relative_to(store).as_posix()}" for path in files)


def test_a_form_that_comes_again_after_midnight_is_the_same_job(
    serve: Serve, fal: Emulator, calendar: Calendar, tmp_path: Path
):
    _, client = serve(seams=Seams(now=calendar))
    first = edited(client, "one")
    calendar.forward(days=1)
    assert edited(client, "one")["jobId"] == first["jobId"]
    assert fal.calls["submit"] == 1
    assert len(kept(tmp_path)) == 2


def test_an_equal_edit_is_reused_on_another_day(serve: Serve, fal: Emulator, calendar: Calendar):
    _, client = serve(seams=Seams(now=calendar))
    jobs = [edited(client, reuse=True)]
    calendar.forward(days=1)
    jobs.append(edited(client, reuse=True))
    assert [job["cached"] for job in jobs] == [False, True]
    assert fal.calls["submit"] == 1


def test_a_picture_that_has_expired_is_stored_again_under_its_id(
    serve: Serve, fal: Emulator, tmp_path: Path
):
    _, client = serve()
    first = edited(client, "one")
    ids = kept(tmp_path)
    for file_id in ids:
        (tmp_path / "pictures" / file_id.removeprefix("file:///")).unlink()
    assert edited(client, "one")["jobId"] == first["jobId"]
    assert kept(tmp_path) == ids
    assert edited(client)["state"] == "done"
    assert fal.calls["submit"] == 2


def test_a_kept_picture_is_its_callers_and_nobody_elses(
    serve: Serve, fal: Emulator, tmp_path: Path
):
    server, client = serve()
    edited(client)
    for file_id in kept(tmp_path):
        assert server.http("POST", "/links", {"fileID": file_id}).status == 200
        stranger = server.http("POST", "/links", {"fileID": file_id}, key=OTHER_KEY)
        assert (stranger.status, stranger.json["error"]) == (404, "not_found")
        body = {"image": file_id, "prompt": "p"}
        stranger = server.http("POST", "/v1/images/edits", body, key=OTHER_KEY)
        assert (stranger.status, stranger.json["error"]["code"]) == (404, "not_found")
    assert fal.calls["submit"] == 1


def test_equal_pictures_of_two_callers_are_two_uploads(
    serve: Serve, client: openai.OpenAI, tmp_path: Path
):
    _, other = serve(OTHER_KEY)
    edited(client)
    edited(other)
    assert len(kept(tmp_path)) == 4


@pytest.mark.parametrize("reuse", [False, True])
def test_a_form_that_comes_again_while_secrets_rotate_is_the_same_job(
    serve: Serve, fal: Emulator, tmp_path: Path, reuse: bool
):
    key, more = (None, {"reuse": True}) if reuse else ("one", {})
    told = set()
    for secrets in (SECRET, f"{SECRET},{NEXT_SECRET}", f"{NEXT_SECRET},{SECRET}"):
        _, client = serve(FAL_IMAGE_SECRET=secrets)
        told.add(edited(client, key, **more)["jobId"])
    assert len(told) == 1
    assert fal.calls["submit"] == 1
    assert len(kept(tmp_path)) == 2


def test_what_is_first_made_under_the_next_secret_stays_when_the_last_one_goes(
    serve: Serve, fal: Emulator, tmp_path: Path
):
    told = set()
    for secrets in (f"{NEXT_SECRET},{SECRET}", f"{SECRET},{NEXT_SECRET}", NEXT_SECRET):
        _, client = serve(FAL_IMAGE_SECRET=secrets)
        told.add(edited(client, "one")["jobId"])
    assert len(told) == 1
    assert fal.calls["submit"] == 1
    assert len(kept(tmp_path)) == 2


def test_a_storage_that_does_not_say_what_is_there_takes_pictures_while_secrets_rotate(
    fal: Emulator, tmp_path: Path
):
    storage = breakable_storage("head")
    environ = environment(fal, tmp_path, FAL_IMAGE_SECRET=f"{NEXT_SECRET},{SECRET}")
    seams = Seams(storage=storage.around)
    uploads = compose(load(environ), environ=environ, seams=seams).uploads
    storage.is_broken = True
    ids = [uploads.keep("image", pictures.png(), "web") for _ in range(2)]
    assert ids == kept(tmp_path) * 2
    assert storage.calls["head"] == 2
