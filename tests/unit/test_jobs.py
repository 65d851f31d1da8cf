from datetime import datetime, timedelta, timezone

from fal_image.jobs import Cost, Image, Job, new_job_id, rfc3339

NOON = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def image(**overrides: object) -> Image:
    fields: dict[str, object] = {
        "index": 0,
        "file_id": "s3://bucket/ai-images/2026-11-21/a-0.png",
        "width": 4,
        "height": 3,
        "content_type": "image/png",
        "bytes": 10,
        "sha256": "00",
        "nsfw": None,
        "url": "https://link",
        "expires_at": NOON,
    }
    return Image(**(fields | overrides))  # type: ignore[arg-type]


def job(**overrides: object) -> Job:
    fields: dict[str, object] = {
        "job_id": "j",
        "model": "fal-ai/flux/schnell",
        "arguments": {"prompt": "cat"},
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Job(**(fields | overrides))  # type: ignore[arg-type]


def test_ids_have_26_characters_and_sort_by_time():
    early = new_job_id(NOON, b"\xff" * 16)
    late = new_job_id(NOON + timedelta(milliseconds=1), b"\x00" * 16)
    assert len(early) == len(late) == 26
    assert early < late


def test_ids_of_one_moment_differ_by_their_random_part():
    assert new_job_id(NOON, b"\x01" * 16) != new_job_id(NOON, b"\x02" * 16)


def test_the_recipes_answer_stands_at_the_top_level():
    answer = job(images=(image(), image(index=1, file_id="s3://x", url=None))).to_json("r-1")
    assert answer["fileID"] == "s3://bucket/ai-images/2026-11-21/a-0.png"
    assert answer["tempFileURL"] == "https://link"
    assert answer["model"] == "fal-ai/flux/schnell"
    assert answer["prompt"] == "cat"
    assert answer["requestId"] == "r-1"


def test_a_job_without_pictures_has_null_where_the_recipe_has_a_file():
    answer = job(output={"text": "hello"}).to_json("r-1")
    assert answer["fileID"] is None
    assert answer["tempFileURL"] is None
    assert answer["output"] == {"text": "hello"}


def test_money_is_in_dollars_and_unknown_stays_null():
    cost = Cost(estimate_usd_micro=3000, actual_usd_micro=None, billable_units=1.0)
    assert cost.to_json() == {
        "estimate": 0.003,
        "actual": None,
        "billableUnits": 1.0,
        "currency": "USD",
    }


def test_times_are_utc_with_a_z():
    tokyo = timezone(timedelta(hours=9))
    assert rfc3339(datetime(2026, 11, 21, 21, tzinfo=tokyo)) == "2026-11-21T12:00:00.000Z"
