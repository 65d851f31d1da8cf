"""The unmodified Python fal-client, led to our proxy by nothing but its own variables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from support.emulator import SCHNELL
from support.instances import CAT, OTHER_KEY
from support.proxy_house import PATH, House, proxy_house

Open = Callable[..., AbstractContextManager[House]]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    return partial(proxy_house, tmp_path, monkeypatch)


def test_run(house: Open):
    with house() as here:
        result = here.tell("run")

        assert result["seed"] == 7
        assert result["images"][0]["url"].startswith("https://v3.fal.media/files/")
        [entry] = here.fal.ledger
        assert (entry.model, entry.via) == (SCHNELL, "queue")
        assert entry.webhook_url is not None
        assert entry.webhook_url.startswith(f"{here.front.url}/webhooks/fal/")


def test_subscribe_shows_states_and_logs(house: Open):
    with house(queue_s=0.4, run_s=0.4) as here:
        told = here.tell("subscribe")

        [entry] = here.fal.ledger
        assert told["enqueued"] == [entry.request_id]
        assert {event["state"] for event in told["seen"]} == {"Queued", "InProgress", "Completed"}
        logs = [line["message"] for line in told["seen"][-1]["logs"]]
        assert logs == ["25%", "50%", "75%", "100%"]
        assert told["result"]["prompt"] == CAT["prompt"]


def test_a_handle_follows_our_addresses_and_a_request_id_leads_there_as_well(house: Open):
    with house(run_s=0.2) as here:
        told = here.tell("submit")

        request_id = told["request_id"]
        address = f"{here.front.url}{PATH}/queue.fal.run/fal-ai/flux/requests/{request_id}"
        assert told["urls"] == [f"{address}/status", address, f"{address}/cancel"]
        assert told["events"][-1]["state"] == told["status by id"]["state"] == "Completed"
        assert told["events"][-1]["metrics"]["inference_time"] > 0
        assert told["result"] == told["result by id"]
        assert told["result"]["seed"] == 7
        assert told["late cancel"]["status"] == 400
        assert [entry.request_id for entry in here.fal.ledger] == [request_id]


def test_cancel_reaches_fal(house: Open):
    with house(run_s=3600) as here:
        told = here.tell("cancel")

        for ending in told.values():
            assert (ending["status"], ending["type"]) == (499, "client_cancelled")
        assert [entry.is_cancelled for entry in here.fal.ledger] == [True, True]


def test_a_wait_that_its_caller_cuts_short_cancels_the_job(house: Open):
    with house(run_s=3600) as here:
        request_id = here.tell("impatient")

        [entry] = here.fal.ledger
        assert (entry.request_id, entry.is_cancelled) == (request_id, True)


def test_stream(house: Open):
    with house() as here:
        events = here.tell("stream")

        assert len(events) == 4
        assert events[-1]["seed"] == 7
        assert [entry.via for entry in here.fal.ledger] == ["stream"]


def test_every_mistake_is_an_error_with_its_status(house: Open):
    with house() as here:
        told = here.tell("refusals", other_key=OTHER_KEY)

        for call in ("run", "submit"):
            assert told[call]["status"] == 422
            assert [problem["loc"] for problem in told[call]["message"]] == [["body", "num_images"]]
        assert told["model"]["status"] == 403
        assert "somebody/else" in told["model"]["message"]
        assert told["webhook"]["status"] == 400
        assert "fal_webhook" in told["webhook"]["message"]
        assert [told[f"stranger {does}"]["status"] for does in ("runs", "asks")] == [401, 401]
        for does in ("asks", "takes", "cancels"):
            assert told[f"other {does}"]["status"] == 404
        assert len(here.fal.ledger) == 1


def test_a_run_past_the_deadline_is_a_time_out_that_is_not_repeated(house: Open):
    with house(run_s=3600, FAL_IMAGE_MAX_WAIT_S="1") as here:
        told = here.tell("refused_run")

        assert (told["status"], told["timed out"]) == (504, "user")
        assert len(here.fal.ledger) == 1


def test_a_lost_answer_is_told_and_nothing_is_submitted_twice(house: Open):
    with house(run_s=3600) as here:
        here.fal.fault("lost")
        told = here.tell("refused_run")

        assert (told["status"], told["type"]) == (500, "submit_unknown")
        assert len(here.fal.ledger) == 1


def test_the_asynchronous_client(house: Open):
    with house() as here:
        told = here.tell("asynchronous")

        assert {told[name]["seed"] for name in ("result", "run", "subscribe")} == {7}
        assert told["stream"][-1]["seed"] == 7
        assert len(here.fal.ledger) == 4


def test_pictures_are_in_the_owners_storage_where_the_owner_says_so(house: Open):
    with house(FAL_IMAGE_PROXY_STORE_IMAGES="1") as here:
        result = here.tell("run")

        [image], [stored] = result["images"], result["fal_image"]["images"]
        assert image["url"] == stored["tempFileURL"]
        assert image["url"].startswith(f"{here.front.url}/files/")
        assert here.picture(image["url"]) == here.picture(stored["originalUrl"])


def test_uploads_and_realtime_go_to_fals_own_hosts_whatever_the_variables_say(house: Open):
    """So docs must send their users elsewhere: the caller's key would be shown to fal."""
    with house() as here:
        told = here.tell("elsewhere")

        assert told == {"upload": "rest.fal.ai", "realtime": "rest.fal.ai"}
