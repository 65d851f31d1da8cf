from __future__ import annotations

import pytest

from fal_image.dev.emulator import Emulator
from support.clocks import Time
from support.emulator import REST, RUN, SCHNELL, ask


def test_run_answers_the_output_itself(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{RUN}/{SCHNELL}", {"prompt": "cat", "seed": 7})

    assert reply.status == 200
    assert reply.json["seed"] == 7
    assert reply.headers["x-fal-request-id"] == emulator.ledger[0].request_id
    assert emulator.ledger[0].via == "run"


def test_run_by_get_takes_its_input_from_the_query(emulator: Emulator) -> None:
    reply = ask(
        emulator, "GET", f"{RUN}/{SCHNELL}?prompt=a%20cat&seed=7&enable_safety_checker=true"
    )

    assert reply.status == 200
    assert (reply.json["prompt"], reply.json["seed"]) == ("a cat", 7)


@pytest.mark.parametrize(
    ("method", "query", "status"), [("GET", "?prompt=cat&seed=x", 422), ("DELETE", "", 405)]
)
def test_run_refuses_what_the_model_would(
    emulator: Emulator, method: str, query: str, status: int
) -> None:
    assert ask(emulator, method, f"{RUN}/{SCHNELL}{query}").status == status


def test_run_refuses_bad_input_at_once_with_fals_link(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{RUN}/fal-ai/flux/dev", {"prompt": "cat", "num_images": 9})

    assert reply.status == 422
    assert reply.json["detail"] == [
        {
            "loc": ["body", "num_images"],
            "msg": "Input should be less than or equal to 4",
            "type": "less_than_equal",
            "input": 9,
            "ctx": {"le": 4},
            "url": "https://docs.fal.ai/errors/#less_than_equal",
        }
    ]


def test_a_stream_ripens_and_its_last_event_is_the_result(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{RUN}/{SCHNELL}/stream", {"prompt": "cat", "seed": 7})
    files = [ask(emulator, "GET", event["images"][0]["url"]).body for event in reply.events]
    finished = ask(emulator, "POST", f"{RUN}/{SCHNELL}", {"prompt": "cat", "seed": 7})

    assert len(set(files)) == 4
    assert files[-1] == ask(emulator, "GET", finished.json["images"][0]["url"]).body
    assert {event["seed"] for event in reply.events} == {7}
    assert emulator.ledger[0].via == "stream"


def test_a_stream_with_bad_input_is_a_plain_422(emulator: Emulator) -> None:
    assert ask(emulator, "POST", f"{RUN}/{SCHNELL}/stream", {}).status == 422


def test_a_model_that_does_not_stream_has_no_such_path(emulator: Emulator) -> None:
    reply = ask(emulator, "POST", f"{RUN}/fal-ai/flux-2-pro/stream", {"prompt": "cat"})

    assert (reply.status, reply.json) == (404, {"detail": "Path /stream not found"})
    assert reply.headers["x-fal-billable-units"] == "0"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokens/", {"allowed_apps": ["flux"], "token_expiration": 120}),
        ("/tokens/realtime", {"allowed_apps": ["fal-ai/flux/realtime"], "duration": 120}),
    ],
)
def test_a_token_opens_its_app_and_no_other(
    emulator: Emulator, path: str, body: dict[str, object]
) -> None:
    answer = ask(emulator, "POST", f"{REST}{path}", body).json
    token = answer if isinstance(answer, str) else answer["token"]
    query = f"?fal_jwt_token={token}"
    arguments = {"prompt": "cat"}

    assert ask(emulator, "POST", f"{RUN}/{SCHNELL}{query}", arguments, key=None).status == 200
    other = f"{RUN}/fal-ai/flux-2{query}"
    assert ask(emulator, "POST", other, arguments, key=None).status == 401


def test_an_expired_token_opens_nothing() -> None:
    time = Time()
    with Emulator(clock=time) as emulator:
        body = {"allowed_apps": ["flux"], "token_expiration": 60}
        token = ask(emulator, "POST", f"{REST}/tokens/", body).json
        url = f"{RUN}/{SCHNELL}?fal_jwt_token={token}"
        statuses = []
        for _ in range(2):
            statuses.append(ask(emulator, "POST", url, {"prompt": "cat"}, key=None).status)
            time.sleep(60)

    assert statuses == [200, 401]
