"""fal's guide to @fal-ai/client: what its calls get from fal, and from us."""

from __future__ import annotations

from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import ask
from support.node import call
from support.seeds import Endpoint, assert_ours_is_the_same, ordered, size_px

SEED = 6252023

pytestmark = pytest.mark.needs("node >= 20")


def guide(function: str, *arguments: object, fal: Emulator) -> Any:
    """What a reader has after a snippet of the guide."""
    called = call("seeds/client_guide.mjs", function, *arguments, emulator=fal)
    assert called.threw is None
    return called.returned


def assert_four_pictures(endpoint: Endpoint, result: Any) -> None:
    """The result is of the newest request, and our endpoint gives the same."""
    assert result["requestId"] == endpoint.fal.ledger[-1].request_id
    output = result["data"]
    assert output["seed"] == SEED
    assert [size_px(image) for image in output["images"]] == [(1024, 768)] * 4
    assert_ours_is_the_same(endpoint, output)


def test_subscribe(endpoint: Endpoint) -> None:
    assert_four_pictures(endpoint, guide("subscribe", fal=endpoint.fal))


def test_subscribe_prints_the_logs_of_work_in_progress() -> None:
    with Emulator(run_s=0.8) as slow:
        printed = call("seeds/client_guide.mjs", "subscribe", emulator=slow).printed
    assert printed
    assert {line.split()[0] for line in printed} <= {"25%", "50%", "75%", "100%"}


def test_queue_submit_with_a_webhook() -> None:
    with Emulator(queue_s=3600) as busy:
        request_id = guide("submit", fal=busy)
        [taken] = busy.ledger
    assert taken.request_id == request_id
    assert taken.webhook_url == "https://optional.webhook.url/for/results"


def test_queue_status_and_result_of_an_earlier_request(endpoint: Endpoint) -> None:
    fal = endpoint.fal
    earlier = guide("subscribe", fal=fal)

    status = guide("status", earlier["requestId"], fal=fal)
    assert status["status"] == "COMPLETED"
    assert [line["message"] for line in status["logs"]] == ["25%", "50%", "75%", "100%"]
    result = guide("result", earlier["requestId"], fal=fal)
    assert result == earlier
    assert_four_pictures(endpoint, result)


def test_storage_upload(fal: Emulator) -> None:
    uploaded = ask(fal, "GET", guide("upload", fal=fal), key=None)
    assert uploaded.body == b"Hello, World!"
    assert uploaded.headers["content-type"] == "text/plain"


def test_stream_ends_with_what_our_endpoint_gives(endpoint: Endpoint) -> None:
    seen = guide("stream", fal=endpoint.fal)

    assert len(seen["events"]) > 1
    assert seen["result"] == seen["events"][-1]
    assert_ours_is_the_same(endpoint, seen["result"])


def test_run(endpoint: Endpoint) -> None:
    assert_four_pictures(endpoint, guide("run", fal=endpoint.fal))
    assert endpoint.fal.ledger[-2].via == "run"


def test_the_new_client_wraps_what_the_old_one_returned(fal: Emulator) -> None:
    arguments = {"prompt": "a cat", "seed": SEED}
    seen = guide("migrate", "fal-ai/flux/dev", arguments, fal=fal)

    assert list(seen["before"]) == list(seen["data"])
    assert seen["before"]["seed"] == seen["data"]["seed"] == SEED
    assert seen["requestId"] == fal.ledger[-1].request_id
    assert ordered(fal) == ("fal-ai/flux/dev", arguments)


def test_without_await_the_printed_lines_of_the_migration_give_nothing(fal: Emulator) -> None:
    seen = guide("migrateAsPrinted", "fal-ai/flux/dev", {"prompt": "a cat"}, fal=fal)
    assert seen == {"data": None, "requestId": None}
