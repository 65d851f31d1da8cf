"""fal.run/…/stream through the proxy: passed on as it comes, and a job all the same."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.errors import SubmitUnknown
from fal_image.extend import NO_HOOKS, Hooks
from fal_image.web import decode_events
from fal_image.wire import WireError
from support.breakable import breakable_database
from support.databases import SqliteRig, wall_clock
from support.effects import Crash, Effects
from support.emulator import SCHNELL
from support.entrypoints import THROUGH, clear_environment
from support.instances import CAT, Server, environment, read, serving
from support.proxied import Steps, WatchedFal
from support.streams import (
    JSON,
    PATH,
    RUN,
    SSE,
    ProxyWorld,
    Show,
    events,
    opened,
    pieces,
    said,
    stream,
    to_stream,
)

PARTIAL = {"images": [{"url": "https://v3.fal.media/files/1/0.png"}], "seed": 7}
FINAL = {"images": [{"url": "https://v3.fal.media/files/2/0.png"}], "seed": 8}
NO_DATABASE = {"database_url": None, "daily_budget_usd_micro": None}
CUT = WireError("ProtocolError: the connection was closed", sent=True)


@pytest.fixture
def here() -> ProxyWorld:
    return ProxyWorld()


def playing(here: ProxyWorld, *chunks: Any, **facts: Any) -> Show:
    show = Show(chunks, **facts)
    here.fal.shows.append(show)
    return show


def test_a_stream_is_passed_on_byte_by_byte(here: ProxyWorld):
    sent = said(PARTIAL, PARTIAL, FINAL)
    show = playing(here, *sent)
    answer = opened(here.app())
    assert list(pieces(answer)) == sent
    headers = dict(answer.headers)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert headers["x-fal-request-id"] == "run-1"
    assert show.input == CAT
    assert show.is_closed
    assert here.fal.submits == 0


def test_only_the_callers_own_wishes_go_with_a_stream(here: ProxyWorld):
    show = playing(here, *said(FINAL))
    wishes = {"x_fal_runner_hint": "warm", "x_fal_queue_priority": "low", "x_fal_store_io": "0"}
    assert stream(here.app(), **wishes).status == 200
    assert {name: value for name, value in show.asked.items() if name.startswith("x-")} == {
        "x-fal-runner-hint": "warm"
    }


def test_a_stream_is_a_job_that_is_being_submitted_until_its_last_event(here: ProxyWorld):
    playing(here, *said(PARTIAL, FINAL))
    flow = pieces(opened(here.app()))
    for _ in range(2):
        next(flow)
        assert (here.job.state, here.job.fal_request_id) == ("submitting", None)
        assert here.spent() == 3000
        assert here.app().tick()["jobs"] == 0
    assert list(flow) == []
    assert (here.job.state, here.job.fal_request_id, here.job.seed) == ("done", "run-1", 8)
    assert here.app().ask("GET", f"/jobs/{here.job.job_id}").json["falRequestId"] == "run-1"


@pytest.mark.parametrize(("units", "spent"), [("1", 3000), ("0.5", 1500), (None, 12_000)])
def test_a_stream_is_settled_by_what_fal_bills(here: ProxyWorld, units: str | None, spent: int):
    headers = (*SSE, ("x-fal-billable-units", units)) if units else SSE
    playing(here, *said(FINAL), headers=headers)
    assert stream(here.app(), {**CAT, "num_images": 4}).status == 200
    assert (here.spent(), here.job.settled) == (spent, True)


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        (422, [{"loc": ["body", "prompt"], "msg": "no such prompt", "type": "value_error"}]),
        (404, "Path /stream not found"),
        (429, "Too many requests"),
        (503, "No runner is free"),
    ],
)
def test_what_fal_refuses_to_stream_is_told_in_its_words_and_costs_nothing(
    here: ProxyWorld, status: int, detail: object
):
    body = json.dumps({"detail": detail}).encode()
    playing(here, body, status=status, headers=JSON)
    answer = stream(here.app())
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["x-fal-request-id"] == "run-1"
    assert (here.job.state, here.spent()) == ("failed", 0)
    playing(here, *said(FINAL))
    assert stream(here.app()).status == 200


def test_a_key_that_fal_refuses_is_no_business_of_the_callers(here: ProxyWorld):
    playing(here, b'{"detail": "User is locked. Reason: Exhausted balance."}', status=403)
    answer = stream(here.app())
    assert (answer.status, answer.json["error"]) == (500, "fal_auth_failed")
    assert b"locked" not in answer.body
    assert (here.job.state, here.spent()) == ("failed", 0)


def test_a_stream_beyond_the_budget_is_not_opened():
    here = ProxyWorld(budget_usd_micro=4000)
    playing(here, *said(FINAL))
    assert stream(here.app()).status == 200
    refused = stream(here.app())
    assert (refused.status, refused.json["error"]) == (402, "budget_exceeded")
    assert (len(here.fal.seen), here.spent()) == (1, 3000)


def test_bad_input_opens_no_stream(here: ProxyWorld):
    answer = stream(here.app(), {"prompt": "x", "num_images": 9})
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "num_images"])
    assert (here.fal.seen, here.jobs) == ([], [])


def test_a_stream_keeps_no_idempotency_key(here: ProxyWorld):
    answer = stream(here.app(), idempotency_key="one intent")
    assert (answer.status, answer.json["error"]) == (400, "invalid_input")
    assert here.fal.seen == []


def test_head_opens_no_stream(here: ProxyWorld):
    target = {"x_fal_target_url": f"{RUN}/{SCHNELL}/stream"}
    answer = here.app().ask("HEAD", PATH, **target)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert here.fal.seen == []


def told_of_a_lost_stream(answer: Any) -> None:
    assert (answer.status, answer.json["error"]) == (500, "submit_unknown")
    assert answer.headers["x-fal-error-type"] == "submit_unknown"


@pytest.mark.parametrize("database", [True, False])
def test_a_stream_that_fal_may_have_begun_is_not_called_a_refusal(database: bool):
    here = ProxyWorld(bent={} if database else NO_DATABASE)
    here.fal.shows.append(CUT)
    told_of_a_lost_stream(stream(here.app()))
    playing(here, b"<h1>502 Bad Gateway</h1>", status=502, headers=[("content-type", "text/html")])
    told_of_a_lost_stream(stream(here.app()))
    if database:
        assert [job.state for job in here.jobs] == ["unknown", "unknown"]
        assert here.spent() == 6000


def test_a_stream_that_never_left_costs_nothing(here: ProxyWorld):
    here.fal.shows.append(WireError("no route to fal", sent=False))
    answer = stream(here.app())
    assert (answer.status, answer.json["error"], answer.json["retryable"]) == (
        502,
        "fal_failed",
        True,
    )
    assert (here.job.state, here.spent()) == ("failed", 0)


@pytest.mark.parametrize("database", [True, False])
def test_a_stream_that_is_cut_breaks_off(database: bool):
    """Whoever reads it must not take a half-done picture for the result."""
    here = ProxyWorld(bent={} if database else NO_DATABASE)
    show = playing(here, *said(PARTIAL)[:1], b'data: {"seed": 8', CUT)
    seen: list[bytes] = []
    with pytest.raises(SubmitUnknown):
        seen.extend(pieces(opened(here.app())))
    [first, half, lost] = decode_events(seen)
    assert json.loads(first.data) == PARTIAL
    assert (lost.name, lost.data.partition(": ")[0]) == ("error", "submit_unknown")
    for event in (half, lost):  # @fal-ai/client takes whatever is JSON for a picture
        with pytest.raises(ValueError, match=r"Expecting"):
            json.loads(event.data)
    assert show.is_closed
    if database:
        assert (here.job.state, here.spent()) == ("unknown", 3000)


NO_RESULTS: dict[str, list[Any]] = {
    "cut at once": [CUT],
    "nothing": [],
    "comments only": [b": hello\n\n", b": still here\n\n"],
    "half an event": [b'data: {"images": [], "se'],
    "an event without its end": [said(FINAL)[0].rstrip(b"\n")],
}


@pytest.mark.parametrize("ending", sorted(NO_RESULTS))
def test_a_stream_without_any_event_is_no_answer(here: ProxyWorld, ending: str):
    show = playing(here, *NO_RESULTS[ending])
    answer = here.app().app(to_stream())
    if answer.status == 200:  # something had come before it was known
        with pytest.raises(SubmitUnknown):
            answer.read()
    else:
        told_of_a_lost_stream(read(answer))
    assert show.is_closed
    assert (here.job.state, here.spent()) == ("unknown", 3000)


def test_a_lost_stream_is_settled_when_nobody_waits_for_it_any_more(here: ProxyWorld):
    playing(here, *said(PARTIAL), CUT)
    with pytest.raises(SubmitUnknown):
        list(pieces(opened(here.app())))
    here.later(hours=2)
    here.app().tick()
    assert (here.job.state, here.job.settled) == ("unknown", False)
    here.later(minutes=16)
    here.app().tick()
    assert (here.job.state, here.job.settled, here.spent()) == ("unknown", True, 3000)


def test_a_caller_who_hangs_up_drops_the_stream_at_fal(here: ProxyWorld):
    show = playing(here, *said(PARTIAL, FINAL))
    answer = opened(here.app())
    next(pieces(answer))
    answer.close()
    assert show.is_dropped
    assert (here.job.state, here.spent()) == ("unknown", 3000)


def test_a_stream_that_nobody_begins_to_read_is_dropped_as_well(here: ProxyWorld):
    show = playing(here, *said(PARTIAL, FINAL))
    opened(here.app()).close()
    assert show.is_dropped
    assert here.job.state == "unknown"


def test_a_caller_who_hangs_up_after_the_end_has_its_job_done(here: ProxyWorld):
    playing(here, *said(PARTIAL, FINAL))
    answer = opened(here.app())
    list(pieces(answer))
    answer.close()
    assert here.job.state == "done"


def test_a_process_that_dies_in_a_stream_leaves_a_job_that_the_sweep_finds(here: ProxyWorld):
    playing(here, *said(PARTIAL, FINAL))
    effects = Effects()
    answer = opened(here.app(effects))
    next(pieces(answer))
    effects.is_over = True
    with pytest.raises(Crash):
        answer.close()
    assert here.job.state == "submitting"
    here.later(minutes=1)
    here.app().tick()
    assert here.job.state == "submitting"
    here.later(minutes=2)
    here.app().tick()
    assert (here.job.state, here.job.settled) == ("unknown", False)
    here.later(hours=2, minutes=15)
    here.app().tick()
    assert (here.job.state, here.job.settled, here.spent()) == ("unknown", True, 3000)


@pytest.mark.parametrize("database", [True, False])
def test_a_model_that_answers_json_has_streamed_its_result(database: bool):
    here = ProxyWorld(bent={} if database else NO_DATABASE)
    body = json.dumps(FINAL).encode()
    playing(here, body[:9], body[9:], headers=(*JSON, ("x-fal-billable-units", "1")))
    answer = stream(here.app())
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json"
    if database:
        assert (here.job.state, here.job.seed, here.spent()) == ("done", 8, 3000)


WIRES: dict[str, list[bytes]] = {
    "comments": [b": hello\n\n", *said(PARTIAL), b": still here\n\n", *said(FINAL), b": bye\n\n"],
    "CRLF": [event.replace(b"\n", b"\r\n") for event in said(PARTIAL, FINAL)],
    "byte by byte": [bytes([byte]) for byte in b"".join(said(PARTIAL, FINAL))],
    "CR": [event.replace(b"\n", b"\r") for event in said(PARTIAL, FINAL)],
    "not ASCII byte by byte": [
        bytes([byte])
        for byte in said(FINAL)[0].replace(b'{"images"', '{"猫": "élan", "images"'.encode())
    ],
    "CRLF byte by byte": [
        bytes([byte]) for byte in b"".join(said(PARTIAL, FINAL)).replace(b"\n", b"\r\n")
    ],
    "all at once": [b"".join(said(PARTIAL, FINAL))],
    "two lines of data": [
        b"data: " + json.dumps(FINAL).encode().replace(b', "seed"', b'\ndata:, "seed"') + b"\n\n"
    ],
    "named and numbered": [b"event: message\nid: 7\nretry: 5\n" + said(FINAL)[0]],
    "without the blank": [said(FINAL)[0].replace(b"data: ", b"data:")],
    "half an event at the end": [*said(FINAL), b'data: {"seed": 9'],
}


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_the_last_event_is_found_however_it_is_sent(here: ProxyWorld, wire: str):
    playing(here, *WIRES[wire])
    assert stream(here.app()).body == b"".join(WIRES[wire])
    assert (here.job.state, here.job.seed) == ("done", 8)
    assert here.job.outcome
    assert here.job.outcome.sources
    assert here.job.outcome.sources[0].url == FINAL["images"][0]["url"]  # type: ignore[index]


def test_a_picture_of_megabytes_inside_an_event_is_read_in_time(here: ProxyWorld):
    """In pieces as small as a socket gives them."""
    final = {"images": [{"url": f"data:image/png;base64,{'A' * 20_000_000}"}], "seed": 8}
    [sent] = said(PARTIAL | final)
    playing(here, *(sent[at : at + 8192] for at in range(0, len(sent), 8192)))
    assert stream(here.app()).body == sent
    assert (here.job.state, here.job.seed) == ("done", 8)


@pytest.mark.parametrize("last", [b"[DONE]", b"[1, 2]", b"null", b"7"])
def test_a_last_event_that_is_no_output_ends_a_stream_as_well(here: ProxyWorld, last: bytes):
    sent = [*said(FINAL), b"data: " + last + b"\n\n"]
    playing(here, *sent)
    assert stream(here.app()).body == b"".join(sent)
    assert here.job.state == "done"


@pytest.mark.parametrize("hooks", [NO_HOOKS, Hooks(on_image=lambda job, image: True)])
@pytest.mark.parametrize("store", [False, True])
def test_an_error_of_fals_at_the_end_is_passed_and_is_no_result(hooks: Hooks, store: bool):
    here = ProxyWorld(hooks=hooks, bent={"proxy_store_images": store})
    failed = {"detail": "Runner disconnected", "error_type": "runner_disconnected"}
    playing(here, *said(PARTIAL, failed))
    assert events(stream(here.app()).body)[-1] == failed
    assert (here.job.state, here.spent()) == ("unknown", 3000)


def test_a_database_that_fails_at_any_step_of_a_stream_costs_no_second_bill():
    outcomes = set()
    for calls in range(12):
        here, database = ProxyWorld(), breakable_database()
        here.database = database.around(here.kept)
        show = playing(here, *said(PARTIAL, FINAL))
        database.break_after(calls)
        answer = stream(here.app())
        outcomes.add(answer.status)
        if answer.status == 503:
            assert (here.fal.seen, answer.json["error"]) == ([], "database_unavailable")
            continue
        assert (here.fal.seen, answer.status) == ([show], 200)
        assert events(answer.body) == [PARTIAL, FINAL]
        database.mend()
        here.later(hours=3)
        here.app().tick()
        assert here.job.state in ("done", "unknown")
        assert (here.job.settled, here.spent()) == (True, 3000), calls
    assert outcomes == {503, 200}


def test_a_database_that_fails_when_a_stream_is_cut_still_breaks_it_off(here: ProxyWorld):
    database = breakable_database("replace_if")
    here.database = database.around(here.kept)
    playing(here, *said(PARTIAL), CUT)
    flow = pieces(opened(here.app()))
    database.is_broken = True
    with pytest.raises(SubmitUnknown):
        list(flow)
    database.mend()
    here.later(minutes=3)
    here.app().tick()
    assert here.job.state == "unknown"


class Watching:
    """A database; says when a job in it has become unknown."""

    def __init__(self, inner: Any, lost: threading.Event) -> None:
        self._inner, self._lost = inner, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def replace_if(self, id: str, version: int, body: Any, **times: Any) -> Any:
        written = self._inner.replace_if(id, version, body, **times)
        if body.get("state") == "unknown":
            self._lost.set()
        return written


def kept_jobs(directory: Path) -> list[dict[str, Any]]:
    """The jobs that somebody will have to look at, as they are kept."""
    database = SqliteRig(directory / "jobs.db").open()
    later = wall_clock().replace(year=wall_clock().year + 1)
    return [dict(one.body) for one in database.get_many(database.due(later, 9))]


def of_a_stream(server: Server) -> Any:
    target = {"x_fal_target_url": f"{RUN}/{SCHNELL}/stream", "accept": "text/event-stream"}
    return server.opened("POST", PATH, dict(CAT), **target)


def read_event(answer: Any) -> Any:
    lines = iter(answer.readline, b"\n")
    return json.loads(b"".join(lines).removeprefix(b"data: "))


def test_events_leave_the_server_as_they_come(tmp_path: Path):
    steps = Steps()
    with WatchedFal(steps) as fal, serving(fal, tmp_path) as server, ThreadPoolExecutor(1) as other:
        moved = other.submit(steps.step)
        with of_a_stream(server) as answer:
            moved.result()
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = [read_event(answer)]
            for _ in range(3):
                assert [job.get("state") for job in kept_jobs(tmp_path)] == [
                    None
                ]  # as jobs are born
                steps.step()
                seen.append(read_event(answer))
            assert answer.read() == b""
        assert len({event["images"][0]["url"] for event in seen}) == 4
        assert kept_jobs(tmp_path) == []
        [entry] = fal.ledger
        assert (entry.via, entry.input) == ("stream", CAT)


def test_a_cut_stream_reaches_the_client_as_a_broken_answer(tmp_path: Path):
    with Emulator() as fal, serving(fal, tmp_path) as server:
        fal.fault("cut", on="run-stream")
        with of_a_stream(server) as answer, pytest.raises(IncompleteRead):
            answer.read()
        [job] = kept_jobs(tmp_path)
        assert job["state"] == "unknown"


def test_a_client_that_hangs_up_drops_the_stream_at_fal(here: ProxyWorld, tmp_path: Path):
    """The server notices when it cannot write any more; its thread then has time for others."""
    [event] = said({**PARTIAL, "prompt": "cat" * 20_000})
    endless, closed = Show(itertools.repeat(event)), threading.Event()
    here.fal.shows += [endless, Show(said(FINAL))]
    seams = Seams(wire=here.fal.wire(), database=lambda opened: Watching(opened, closed))
    with serving(Emulator(), tmp_path, seams=seams) as server:
        with of_a_stream(server) as answer:
            read_event(answer)
            answer.close()
        assert closed.wait(10)
        assert endless.is_dropped
        assert [job.get("state") for job in kept_jobs(tmp_path)] == ["unknown"]
        with of_a_stream(server) as answer:
            assert read_event(answer) == FINAL


@pytest.mark.parametrize("cloud", sorted(THROUGH))
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_buffered_platform_gives_a_stream_whole_or_says_that_it_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cloud: str, is_cut: bool
):
    with Emulator() as fal:
        clear_environment(monkeypatch)
        for name, value in environment(fal, tmp_path).items():
            monkeypatch.setenv(name, value)
        if is_cut:
            fal.fault("cut", on="run-stream")
        answer = read(THROUGH[cloud](to_stream()))
        if is_cut:
            told_of_a_lost_stream(answer)
            assert [job.get("state") for job in kept_jobs(tmp_path)] == ["unknown"]
            return
        assert answer.status == 200
        assert len(events(answer.body)) == 4
        assert kept_jobs(tmp_path) == []
