"""Tickets, from the key holder who asks for one to the last picture that it pays for."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from support.clocks import utc_now
from support.databases import SqliteRig
from support.entrypoints import KEY, THROUGH
from support.entrypoints import request as a_request
from support.instances import (
    CAT,
    NOWHERE,
    OTHER_KEY,
    SECRET,
    Answer,
    Calendar,
    Instance,
    instance,
    read,
)
from support.proxy_calls import PAID, Door, spent_usd
from support.values import replace

PRICE = 0.003  # of a CAT
TOKENS = "https://rest.fal.ai/tokens/"
TOKEN = {"allowed_apps": ["flux"], "token_expiration": 60}


def minted(one: Instance, *, key: str = KEY, **wish: object) -> Any:
    """What a key holder is given for these limits."""
    answer = one.ask("POST", "/tickets", wish, key=key)
    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    return answer.json


def ticket(one: Instance, **wish: Any) -> str:
    shown: str = minted(one, **wish)["ticket"]
    return shown


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.json["error"]) == (status, code)


def counted(directory: Path, id: str, of: str) -> int:
    return SqliteRig(directory / "jobs.db").open().total(f"ticket:{id}:{of}")


def test_a_ticket_makes_pictures_until_it_is_used_up(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    given = minted(one, maxImages=3, expiresInS=600)
    shown = given["ticket"]
    assert given["caller"] == "web"
    assert one.generate({**CAT, "num_images": 2}, key=shown).status == 200
    answer = one.generate({**CAT, "num_images": 2}, key=shown)
    assert refused(answer, 402, "budget_exceeded")
    assert (answer.json["remaining"], answer.json["resetsAt"]) == ({"images": 1}, None)
    assert one.generate(key=shown).status == 200
    assert one.generate(key=shown).status == 402
    assert instance(fal, tmp_path).generate(key=shown).status == 402
    assert len(fal.ledger) == 2
    assert counted(tmp_path, given["id"], "images") == 3


@pytest.mark.parametrize("cloud", sorted(THROUGH))
def test_a_ticket_works_through_every_cloud(
    configured: Any, fal: Emulator, tmp_path: Path, cloud: str
):
    configured(FAL_IMAGE_DATABASE_URL=f"sqlite://{tmp_path}/jobs.db", FAL_IMAGE_PUBLIC_URL=NOWHERE)
    shown = read(THROUGH[cloud](a_request(path="/tickets", body={"uses": 1}))).json["ticket"]
    answers = [read(THROUGH[cloud](a_request(body=CAT, key=shown))) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 402]
    assert answers[1].json["remaining"] == {"uses": 0}


@pytest.mark.parametrize("name", ["authorization", "key", "x-api-key"])
def test_a_ticket_is_shown_as_a_key_is(fal: Emulator, tmp_path: Path, name: str):
    one = instance(fal, tmp_path)
    shown = ticket(one)
    headers = {
        "authorization": {"authorization": f"Bearer {shown}"},
        "key": {"authorization": f"Key {shown}"},
        "x-api-key": {"x-api-key": shown},
    }[name]
    answer = read(one.app(a_request(path="/generate", body=CAT, key=None, headers=headers)))
    assert answer.status == 200


LIMITS: Mapping[str, Mapping[str, object]] = {
    "uses": {"uses": 5},
    "pictures": {"maxImages": 5},
    "dollars": {"maxUsd": 0.0175},
    "all of them": {"uses": 5, "maxImages": 5, "maxUsd": 0.015},
}


@pytest.mark.parametrize("limits", LIMITS)
def test_a_used_up_ticket_stays_so_whoever_asks_at_once(fal: Emulator, tmp_path: Path, limits: str):
    pair = [instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="9") for _ in range(2)]
    shown = ticket(pair[0], **LIMITS[limits])
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: pair[n % 2].generate(key=shown), range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 5 + [402] * 11
    assert len(fal.ledger) == 5
    assert pair[0].generate(key=shown).status == 402
    assert spent_usd(tmp_path) == pytest.approx(5 * PRICE)


def test_dollars_are_counted_to_the_last_one_millionth(fal: Emulator, tmp_path: Path):
    """0.57 is a little less as a number of the machine's."""
    with Emulator(queue_s=3600) as busy:
        one = instance(busy, tmp_path)
        shown = ticket(one, maxUsd=0.57)
        for images in [4] * 47 + [2]:
            one.submitted({**CAT, "num_images": images}, key=shown)
        answer = one.generate(key=shown)
    assert refused(answer, 402, "budget_exceeded")
    assert (answer.json["remainingUsd"], answer.json["resetsAt"]) == (0, None)


def test_what_fal_did_not_do_is_given_back_to_the_ticket(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    given = minted(one, uses=1, maxImages=1, maxUsd=PRICE)
    fal.fault("503", on="submit")
    assert one.generate(key=given["ticket"]).status == 502
    fal.fault("error", on="result")
    assert one.generate(key=given["ticket"]).status == 502
    assert one.generate(key=given["ticket"]).status == 200
    assert one.generate(key=given["ticket"]).status == 402


def test_a_lost_submit_is_not_given_back(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    given = minted(one, uses=1)
    fal.fault("lost", on="submit")
    assert one.generate(key=given["ticket"]).json["state"] == "unknown"
    assert one.generate(key=given["ticket"]).status == 402


def test_sending_it_again_uses_a_ticket_once(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    shown = ticket(one, uses=1)
    answers = [one.generate(key=shown, idempotency_key="k") for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert len({answer.json["jobId"] for answer in answers}) == 1
    assert one.generate(key=shown).status == 402


# Who may have one made.


def test_only_a_key_makes_tickets(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_TRUST="jwt")
    asked = a_request("POST", "/tickets", {}, key=None)
    platforms = [
        asked.platform,
        replace(asked.platform, caller="iam"),
        replace(asked.platform, identities=(("jwt", "jwt:ann"),)),
    ]
    for platform in platforms:
        assert refused(read(one.app(replace(asked, platform=platform))), 401, "unauthorized")
    assert refused(one.ask("POST", "/tickets", {}, key=ticket(one)), 401, "unauthorized")
    assert refused(one.ask("POST", "/tickets", {}, key="k-wrong"), 401, "unauthorized")


def test_without_a_database_there_are_no_tickets(fal: Emulator, tmp_path: Path):
    shown = ticket(instance(fal, tmp_path))
    one = instance(fal, tmp_path, FAL_IMAGE_DATABASE_URL=None)
    assert refused(one.ask("POST", "/tickets", {}), 501, "database_required")
    assert refused(one.generate(key=shown), 401, "unauthorized")


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        ({"maxImage": 3}, "maxImage"),
        ({"maxusd": 1}, "maxusd"),
        ({"expires_in_s": 60}, "expires_in_s"),
        ({"maxImages": 0}, "maxImages"),
        ({"maxImages": -1}, "maxImages"),
        ({"maxImages": 1.5}, "maxImages"),
        ({"maxImages": "3"}, "maxImages"),
        ({"maxImages": True}, "maxImages"),
        ({"uses": 10**7}, "uses"),
        ({"maxUsd": 0}, "maxUsd"),
        ({"maxUsd": 1e-7}, "maxUsd"),
        ({"maxUsd": -1}, "maxUsd"),
        ({"maxUsd": 1_000_001}, "maxUsd"),
        ({"maxUsd": 1e300}, "maxUsd"),
        ({"maxUsd": "1"}, "maxUsd"),
        ({"maxUsd": True}, "maxUsd"),
        ({"expiresInS": 0}, "expiresInS"),
        ({"expiresInS": 7 * 24 * 3600 + 1}, "expiresInS"),
        ({"user": ""}, "user"),
        ({"user": "a:b"}, "user"),
        ({"user": "x" * 65}, "user"),
        ({"user": 7}, "user"),
        ({"models": []}, "models"),
        ({"models": "fal-ai/flux/dev"}, "models"),
        ({"models": ["fal-ai/flux/dev", 7]}, "models"),
        ({"models": ["a?b"]}, "models"),
        ({"models": ["a/b"] * 21}, "models"),
        ({"tokens": 1}, "tokens"),
    ],
)
def test_a_limit_that_is_wrong_is_refused_and_not_left_out(
    fal: Emulator, tmp_path: Path, wish: dict[str, object], named: str
):
    answer = instance(fal, tmp_path).ask("POST", "/tickets", wish)
    assert refused(answer, 400, "invalid_input")
    assert answer.json["fields"][0]["field"] == named


def test_a_ticket_ends_when_it_says(fal: Emulator, tmp_path: Path):
    calendar = Calendar()
    one = instance(fal, tmp_path, seams=Seams(now=calendar))
    given = minted(one, expiresInS=60)
    left = datetime.fromisoformat(given["expiresAt"].replace("Z", "+00:00")) - utc_now()
    assert timedelta(seconds=50) < left <= timedelta(seconds=61)
    assert one.generate(key=given["ticket"]).status == 200
    calendar.forward(seconds=62)
    answer = one.generate(key=given["ticket"])
    assert refused(answer, 401, "unauthorized")
    assert "time is over" in answer.json["detail"]
    assert "new one" in answer.json["hint"]
    assert len(fal.ledger) == 1


def test_a_ticket_ends_with_its_makers_key_and_with_the_secret(fal: Emulator, tmp_path: Path):
    shown = ticket(instance(fal, tmp_path), uses=9)
    sha256 = "f" * 64
    without_web = instance(fal, tmp_path, FAL_IMAGE_API_KEYS=f"other={sha256}")
    assert refused(without_web.generate(key=shown), 401, "unauthorized")
    rotated = instance(fal, tmp_path, FAL_IMAGE_SECRET=f"{'n' * 32},{SECRET}")
    assert rotated.generate(key=shown).status == 200
    assert refused(
        instance(fal, tmp_path, FAL_IMAGE_SECRET="n" * 32).generate(key=shown), 401, "unauthorized"
    )


# What a holder may do, and sees.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/tickets"),
        ("POST", "/batches"),
        ("GET", f"/batches/{'0' * 26}"),
        ("DELETE", f"/batches/{'0' * 26}"),
        ("POST", f"/batches/{'0' * 26}/continue"),
    ],
)
def test_what_takes_a_key_does_not_take_a_ticket(
    fal: Emulator, tmp_path: Path, method: str, path: str
):
    one = instance(fal, tmp_path)
    answer = one.ask(method, path, {"rows": [CAT]}, key=ticket(one))
    assert refused(answer, 401, "unauthorized")
    assert "API key" in answer.json["detail"]
    assert fal.ledger == []


@pytest.mark.parametrize("models", [["fal-ai/flux/schnell"], ["fal-ai/flux/s*"], ["**/schnell"]])
def test_a_ticket_is_for_the_models_that_it_names(fal: Emulator, tmp_path: Path, models: list[str]):
    one = instance(fal, tmp_path)
    shown = ticket(one, models=models)
    other = {**CAT, "model": "fal-ai/flux/dev"}
    assert refused(one.generate(other, key=shown), 403, "model_not_allowed")
    assert one.generate(key=shown).status == 200
    assert one.generate(other).status == 200


def test_a_ticket_opens_no_model_that_the_owner_does_not_allow(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    shown = ticket(one, models=["**"])
    other = {**CAT, "model": "fal-ai/veo3"}
    assert refused(one.generate(other, key=shown), 403, "model_not_allowed")


def test_its_maker_pays(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_DAILY_BUDGET_USD="0.006")
    ann, ben = (ticket(one, user=user) for user in ("ann", "ben"))
    assert [one.generate(key=shown).status for shown in (ann, ben, ann)] == [200, 200, 402]
    assert one.generate().status == 402
    assert one.generate(key=OTHER_KEY).status == 200
    assert spent_usd(tmp_path, "web") == 2 * PRICE
    assert spent_usd(tmp_path, "web:ann") == 0


def test_those_with_a_name_of_their_own_do_not_see_each_other(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    ann, ben = (ticket(one, user=user) for user in ("ann", "ben"))
    made = one.generate(key=ann, idempotency_key="k").json
    again = ticket(one, user="ann")
    for key, status in {again: 200, ben: 404, KEY: 404, OTHER_KEY: 404}.items():
        assert one.ask("GET", f"/jobs/{made['jobId']}", key=key).status == status
        assert one.ask("GET", f"/jobs/{made['jobId']}/events", key=key).status == status
        links = one.ask("POST", "/links", {"fileID": made["fileID"]}, key=key)
        assert (links.json["error"] is None) == (status == 200), links.body
    # The same key of another's is another intent.
    assert one.generate(key=ben, idempotency_key="k").json["jobId"] != made["jobId"]
    assert one.generate(key=again, idempotency_key="k").json["jobId"] == made["jobId"]


def test_one_without_a_name_acts_for_its_maker(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    made = one.generate(key=ticket(one)).json
    assert one.job(made["jobId"])["fileID"] == made["fileID"]


def test_looking_uses_nothing_up(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    given = minted(one, uses=1, maxImages=1, maxUsd=PRICE)
    shown = given["ticket"]
    made = one.generate(key=shown).json
    for _ in range(3):
        assert one.ask("GET", f"/jobs/{made['jobId']}", key=shown).status == 200
        assert one.ask("POST", "/links", {"fileID": made["fileID"]}, key=shown).status == 200
        assert one.ask("GET", "/models", key=shown).status == 200
    assert counted(tmp_path, given["id"], "uses") == 1


# At fal's addresses.


@pytest.mark.parametrize("what", PAID)
def test_what_the_proxy_pays_for_uses_a_ticket_once(fal: Emulator, tmp_path: Path, what: str):
    one = instance(fal, tmp_path)
    given = minted(one, uses=1, maxImages=1, maxUsd=1, user="ann")
    door = Door(one)
    assert door.pay(what, key=given["ticket"]).status == 200
    again = door.pay(what, key=given["ticket"])
    assert refused(again, 402, "budget_exceeded")
    assert again.headers["content-type"] == "application/json"
    assert len(fal.ledger) == 1
    assert counted(tmp_path, given["id"], "uses") == 1


def test_a_run_that_is_joined_uses_a_ticket_once(tmp_path: Path):
    with Emulator(run_s=1.5) as slow:
        one = instance(slow, tmp_path, FAL_IMAGE_MAX_WAIT_S="1")
        given = minted(one, uses=1)
        door = Door(one)
        assert door.pay("run", key=given["ticket"]).status == 504
        statuses = [door.pay("run", key=given["ticket"]).status for _ in range(2)]
        assert statuses[-1] == 200
        assert len(slow.ledger) == 1


def test_a_proxied_model_is_one_that_the_ticket_names(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    shown = ticket(one, models=["fal-ai/flux/dev"])
    for what in PAID:
        assert refused(Door(one).pay(what, key=shown), 403, "model_not_allowed")
    assert fal.ledger == []


def test_a_proxied_request_is_its_holders_own(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    ann, ben = (ticket(one, user=user) for user in ("ann", "ben"))
    door = Door(one)
    request_id = door.submitted(key=ann)
    assert door.afterwards("status", request_id, key=ann).status < 300
    for key in (ben, KEY):
        assert door.afterwards("status", request_id, key=key).status == 404
        assert door.afterwards("cancel", request_id, key=key).status == 404


def test_fals_own_tokens_are_for_tickets_that_say_so(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path)
    door = Door(one)

    def status(**wish: object) -> int:
        return door.ask("POST", TOKENS, TOKEN, key=ticket(one, **wish)).status

    assert status() == 403
    assert status(tokens=True) == 200
    assert status(tokens=True, models=["fal-ai/flux/schnell"]) == 403
    assert status(tokens=True, models=["fal-ai/flux", "fal-ai/flux/**"]) == 200
    one = instance(fal, tmp_path, FAL_IMAGE_TOTAL_DAILY_BUDGET_USD="9")
    assert Door(one).ask("POST", TOKENS, TOKEN, key=ticket(one, tokens=True)).status == 403


def test_a_ticket_is_in_no_line_of_the_log(
    fal: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    one = instance(fal, tmp_path, FAL_IMAGE_LOG_LEVEL="DEBUG")
    given = minted(one, uses=1)
    for _ in range(2):
        one.generate(key=given["ticket"])
    said = "".join(capfd.readouterr())
    assert given["id"] in said
    assert given["ticket"].rpartition(".")[2] not in said
