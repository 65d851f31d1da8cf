import json
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from fal_image.jobs import (
    Cost,
    Fault,
    Image,
    Job,
    JobWarning,
    Lease,
    Notice,
    Outcome,
    Reservation,
    Source,
    State,
)
from fal_image.jobs.documents import (
    INLINE,
    INLINE_CHARS,
    MAX_OUTPUT_BYTES,
    abbreviated,
    from_document,
    input_sha256,
    to_document,
)
from fal_image.treatment import MAX_SIDE_PX, Crop, Label, Transforms, Treatment, Watermark
from support.job_shapes import FAULT, IMAGE, OUTCOMES, STATES, T0, URL, a_job, again
from support.values import replace

DATA_URI = "data:image/png;base64," + "A" * INLINE_CHARS

numbers = st.integers(-(2**53), 2**53)
moments = st.datetimes(timezones=st.just(timezone.utc))
texts = st.text(max_size=20)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, anything, max_size=3)
timings = st.dictionaries(texts, numbers, max_size=3)
flags = st.none() | st.booleans()
amounts = st.none() | numbers
units = st.none() | st.floats(allow_nan=False, allow_infinity=False)
faults = st.builds(Fault, texts, texts, st.none() | texts, st.booleans(), objects)
sources = st.builds(Source, numbers, texts.map("https://v3.fal.media/".__add__), flags)
outcomes = st.builds(
    Outcome,
    kind=st.sampled_from(["ok", "error", "cancelled"]),
    sources=st.none() | st.lists(sources, max_size=2).map(tuple),
    output=anything,
    seed=amounts,
    billable_units=units,
    fault=st.none() | faults,
    timings_ms=timings,
)
images = st.builds(Image, numbers, texts, numbers, numbers, texts, numbers, texts, flags)
notices = st.builds(Notice, texts, numbers, st.none() | moments, st.none() | moments)
offsets, sides = st.integers(0, 100_000), st.integers(1, MAX_SIDE_PX)
treatments = st.builds(
    Treatment,
    st.none()
    | st.builds(
        Transforms,
        crop=st.none() | st.builds(Crop, offsets, offsets, sides, sides),
        format=st.sampled_from([None, "png", "avif"]),
        watermark=st.none()
        | st.builds(Watermark, text=st.text(min_size=1, max_size=200), opacity=st.just(0.5)),
    ),
    st.builds(Label, st.sampled_from(["off", "visible"]), prompt=st.booleans()),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "job_id": texts,
    "model": texts,
    "created_at": moments,
    "updated_at": moments,
    "arguments": objects,
    "caller": st.none() | texts,
    "state": st.sampled_from(STATES),
    "finished_at": st.none() | moments,
    "begun_at": st.none() | moments,
    "asked_at": st.none() | moments,
    "lease": st.none() | st.builds(Lease, texts, moments),
    "fal_request_id": st.none() | texts,
    "outcome": st.none() | outcomes,
    "cancel_requested": st.booleans(),
    "images": st.lists(images, max_size=2).map(tuple),
    "output": anything,
    "seed": amounts,
    "cost": st.builds(Cost, amounts, amounts, units),
    "reservations": st.lists(st.builds(Reservation, texts, numbers), max_size=2).map(tuple),
    "settled": st.booleans(),
    "timings_ms": timings,
    "warnings": st.lists(st.builds(JobWarning, texts, texts), max_size=2).map(tuple),
    "fault": st.none() | faults,
    "copy_tries": numbers,
    "retry_at": st.none() | moments,
    "input_sha256": st.none() | texts,
    "max_age_s": amounts,
    "public_url": st.none() | texts,
    "notice": st.none()
    | st.builds(Notice, texts, numbers, st.none() | moments, st.none() | moments),
    "batch_id": st.none() | texts,
    "row": amounts,
    "keeps_images": st.booleans(),
    "treatment": treatments,
    "cached": st.just(False),  # true of one request, and not kept
    "version": numbers,
}


@settings(max_examples=200, deadline=None)
@given(st.builds(Job, **FIELDS))
def test_a_job_comes_back_from_its_document_as_it_was(job: Job):
    assert again(job) == job


def test_the_jobs_above_differ_in_every_field():
    assert set(FIELDS) == {one.name for one in fields(Job)}


@pytest.mark.parametrize("state", STATES)
def test_a_job_of_every_state_comes_back(state: State):
    job = a_job(state, lease=Lease("alice", T0), outcome=OUTCOMES["ok"], images=(IMAGE,))
    assert again(job) == job


def test_a_small_job_is_a_small_document():
    job = Job(job_id="j-1", model="fal-ai/flux/schnell", created_at=T0, updated_at=T0, version=4)
    assert to_document(job) == {
        "model": "fal-ai/flux/schnell",
        "created_at": "2026-03-01T12:00:00Z",
        "updated_at": "2026-03-01T12:00:00Z",
    }


def test_the_id_and_the_version_are_those_of_the_document():
    job = from_document("j-2", 9, to_document(a_job(job_id="j-1", version=4)))
    assert (job.job_id, job.version) == ("j-2", 9)


@pytest.mark.parametrize(
    "kept",
    [
        {"row": 0},
        {"seed": 0},
        {"max_age_s": 0},
        {"output": 0},
        {"output": False},
        {"output": []},
        {"caller": ""},
        {"cost": Cost(estimate_usd_micro=0)},
        {"state": "new"},
    ],
    ids=str,
)
def test_nothing_and_unknown_are_not_the_same(kept: dict[str, Any]):
    job = Job(job_id="j-1", model="m", created_at=T0, updated_at=T0, **kept)
    (name,) = kept
    assert name in to_document(job)
    assert getattr(again(job), name) == kept[name]


@pytest.mark.parametrize("name", [one.name for one in fields(Job)])
def test_a_field_that_holds_its_default_is_left_out(name: str):
    required = {"model", "created_at", "updated_at"}
    empty = Job(job_id="j-1", model="m", created_at=T0, updated_at=T0)
    assert (name in to_document(empty)) == (name in required)


def test_links_are_not_kept_for_they_die():
    linked = replace(IMAGE, url="https://link", expires_at=T0 + timedelta(hours=1))
    job = again(a_job("done", images=(linked,)))
    assert job.images == (IMAGE,)


def test_pictures_inside_the_output_are_not_kept():
    inside = Outcome("ok", sources=(Source(0, DATA_URI, None), Source(1, "https://a/b.png", True)))
    outcome = again(a_job(outcome=inside)).outcome
    assert outcome is not None
    assert outcome.sources == (Source(0, INLINE, None), Source(1, "https://a/b.png", True))


def test_an_output_without_pictures_is_kept_up_to_its_limit():
    fits = {"text": "é" * ((MAX_OUTPUT_BYTES - 12) // 2)}
    assert len(json.dumps(fits, ensure_ascii=False).encode()) == MAX_OUTPUT_BYTES
    too_long = {"text": fits["text"] + "."}
    kept = again(a_job("done", output=fits, outcome=Outcome("ok", sources=None, output=fits)))
    assert kept.output == fits
    assert kept.outcome == Outcome("ok", sources=None, output=fits)
    cut = again(a_job("done", output=too_long, outcome=Outcome("ok", None, too_long)))
    assert cut.output is None
    assert cut.outcome == Outcome("ok", sources=None, output=None)


def test_times_keep_their_microseconds_and_are_utc():
    moment = T0 + timedelta(microseconds=123_456)
    job = again(a_job(begun_at=moment, notice=Notice(URL, next_at=moment)))
    assert job.begun_at == moment
    assert job.begun_at.utcoffset() == timedelta(0)


def test_what_a_fault_carries_comes_back():
    fault = again(a_job("failed", fault=FAULT)).fault
    assert fault == FAULT
    assert fault.error().extensions == FAULT.extensions


def fingerprint(text: str) -> str:
    return input_sha256("fal-ai/flux/schnell", json.loads(text))


@pytest.mark.parametrize(
    "same",
    [
        '{"seed":1,"prompt":"café"}',
        '{ "prompt" : "café",\n "seed" : 1 }',
        '{"prompt": "caf\\u00e9", "seed": 1}',
        '{"prompt": "old", "prompt": "café", "seed": 1}',
    ],
)
def test_equal_input_has_one_fingerprint_however_it_was_written(same: str):
    assert fingerprint(same) == fingerprint('{"prompt": "café", "seed": 1}')


@pytest.mark.parametrize(
    "other",
    [
        '{"prompt": "café", "seed": 2}',
        '{"prompt": "café", "seed": "1"}',
        '{"prompt": "cafe", "seed": 1}',
        '{"prompt": "café", "seed": null}',
        '{"prompt": "café"}',
        '{"prompt": "café", "seed": [1]}',
    ],
)
def test_other_input_has_another(other: str):
    assert fingerprint(other) != fingerprint('{"prompt": "café", "seed": 1}')


def test_inner_objects_are_sorted_too_and_lists_are_not():
    assert fingerprint('{"a": {"x": 1, "y": [1, 2]}}') == fingerprint(
        '{"a": {"y": [1, 2], "x": 1}}'
    )
    assert fingerprint('{"a": [1, 2]}') != fingerprint('{"a": [2, 1]}')


def test_the_model_and_what_is_ours_are_part_of_the_fingerprint():
    prints = {
        input_sha256("a", {"prompt": "cat"}),
        input_sha256("b", {"prompt": "cat"}),
        input_sha256("a", {"prompt": "cat"}, None),
        input_sha256("a", {"prompt": "cat"}, URL),
        input_sha256("a", {"prompt": "cat"}, URL, 3600),
    }
    assert len(prints) == 5


def test_half_a_character_has_a_fingerprint_too():
    assert fingerprint(r'{"prompt": "\ud800"}') != fingerprint(r'{"prompt": "\ud801"}')


def test_long_data_uris_are_kept_as_their_hash_wherever_they_are():
    kept = abbreviated({"image_url": DATA_URI, "loras": [{"path": DATA_URI}], "n": 2})
    short = kept["image_url"]
    assert short.startswith("data:image/png;base64,sha256-")
    assert len(short) < 200
    assert kept == {"image_url": short, "loras": [{"path": short}], "n": 2}
    assert abbreviated(DATA_URI[:-1] + "B") != short


@pytest.mark.parametrize(
    "value",
    ["data:,hello", DATA_URI[:INLINE_CHARS], "a" * 10_000, "https://a/" + "b" * 5_000, None, 1.5],
)
def test_everything_else_is_kept_as_it_is(value: object):
    assert abbreviated({"field": [value]}) == {"field": [value]}


def test_a_long_data_uri_without_a_comma_is_short_too():
    assert len(abbreviated("data:" + "x" * 10_000)) < 200


def test_an_error_of_fal_that_repeats_a_long_input_is_kept_in_short():
    echoed = [{"msg": "too long", "input": "x" * 200_000}]
    fault = Fault("fal_rejected", "no", extensions={"falErrors": echoed, "falRequestId": "r-1"})
    outcome = Outcome("error", fault=fault)
    kept = to_document(a_job("failed", fault=fault, outcome=outcome))
    assert len(json.dumps(kept)) < 5_000
    told = {"falRequestId": "r-1", "falErrors": [{"msg": "too long"}]}
    assert kept["fault"]["extensions"] == told  # type: ignore[index]
