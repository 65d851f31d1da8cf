"""How often a caller may ask for what may cost something, through real entrances."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import Seams
from fal_image.dev.emulator import Emulator
from fal_image.dev.platforms import GATEWAYS, as_cloudbase, as_lambda
from fal_image.web import App, Request, Response
from support.clocks import utc_now
from support.entrypoints import KEY
from support.instances import CAT, OTHER_KEY, Answer, Instance, instance
from support.proxy_calls import PAID, Door
from support.values import replace

TOKENS = "https://rest.fal.ai/tokens/"
TOKEN = {"allowed_apps": ["flux"], "token_expiration": 60}
BAD: Mapping[str, object] = {"model": "fal-ai/flux/schnell"}  # no prompt


class Hour:
    """Half past noon, for as long as a test lasts."""

    def __init__(self) -> None:
        self.at = utc_now().replace(minute=30, second=10, microsecond=0)

    def __call__(self) -> Any:
        return self.at


def numbered(one: Instance) -> Instance:
    """The instance, each of whose requests has an id of its own, as any platform's have."""
    ids = count()

    def app(request: Request) -> Response:
        platform = replace(request.platform, request_id=f"r-{next(ids)}")
        return one.app(replace(request, platform=platform))

    return Instance(app)


def limited(fal: Emulator, directory: Path, limit: str = "3/h", **bent: str | None) -> Instance:
    """An instance that lets a caller ask so often, in an hour that does not end."""
    seams = Seams(now=Hour())
    return numbered(instance(fal, directory, seams=seams, FAL_IMAGE_RATE_LIMIT=limit, **bent))


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.json["error"]) == (429, "rate_limited")
    assert answer.json["retryable"] is True
    assert 0 < int(answer.headers["retry-after"]) <= 3600


def left(answer: Answer) -> int:
    return int(answer.headers["ratelimit"].split(";")[1].removeprefix("r="))


def test_sixty_a_minute_pass_unless_the_owner_says_otherwise(fal: Emulator, tmp_path: Path):
    hour = Hour()
    unset: Any = {"FAL_IMAGE_RATE_LIMIT": None}
    one = numbered(instance(fal, tmp_path, seams=Seams(now=hour), **unset))
    answers = [one.generate(BAD) for _ in range(60)]
    assert {answer.status for answer in answers} == {400}
    assert [left(answer) for answer in answers] == list(range(59, -1, -1))
    assert answers[0].headers["ratelimit-policy"] == '"caller";q=60;w=60'
    refused = one.generate()
    assert_refused(refused)
    assert refused.headers["ratelimit"] == '"caller";r=0;t=50'
    assert refused.headers["retry-after"] == "50"
    assert fal.calls.total() == 0
    hour.at = hour.at.replace(minute=31, second=0)
    assert one.generate().status == 200


ENTRANCES: Mapping[str, Callable[[App], App]] = {
    **{name: partial(as_lambda, gateway=name) for name in GATEWAYS},
    "cloudbase": as_cloudbase,
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_counts_each_request_once(fal: Emulator, tmp_path: Path, entrance: str):
    app = instance(fal, tmp_path, FAL_IMAGE_RATE_LIMIT="2/h", seams=Seams(now=Hour())).app
    one = numbered(Instance(ENTRANCES[entrance](app)))
    assert [one.generate(BAD).status for _ in range(3)] == [400, 400, 429]


def test_what_is_refused_counts_and_what_only_looks_does_not(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path)
    made = one.generate().json
    upload = {"contentType": "image/png", "bytes": 70}
    looks: list[tuple[str, str, object]] = [
        ("GET", f"/jobs/{made['jobId']}", None),
        ("GET", f"/jobs/{made['jobId']}/events", None),
        ("DELETE", f"/jobs/{made['jobId']}", None),
        ("POST", "/links", {"fileID": made["fileID"]}),
        ("POST", "/uploads", upload),
        ("POST", "/estimate", CAT),
        ("POST", "/tickets", {}),
        ("GET", "/models", None),
        ("GET", "/health", None),
        ("GET", "/nowhere", None),
    ]
    for method, path, body in looks * 3:
        answer = one.ask(method, path, body)
        assert answer.status not in (429, 500), (path, answer.body)
        assert "ratelimit" not in answer.headers, path
    assert one.generate(BAD).status == 400
    assert one.generate({**CAT, "model": "fal-ai/veo3"}).status == 403
    assert_refused(one.generate())
    assert one.job(made["jobId"])["state"] == "done"


def test_sending_it_again_counts_again(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "2/h")
    assert [one.generate(idempotency_key="k").status for _ in range(3)] == [200, 200, 429]


def test_both_names_of_the_main_route_are_one(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "2/h")
    assert [one.ask("POST", path, CAT).status for path in ("/", "/generate", "/")][-1] == 429


def test_a_batch_is_one(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path)
    batch = one.ask("POST", "/batches", {"rows": [CAT] * 5, "window": 5})
    assert batch.status == 202, batch.body
    assert left(batch) == 2
    path = f"/batches/{batch.json['batchId']}"
    assert one.ask("GET", path).status == 200
    assert one.ask("DELETE", path).status == 202
    assert left(one.ask("POST", f"{path}/continue")) == 1
    assert left(one.generate()) == 0
    assert_refused(one.ask("POST", "/batches", {"rows": [CAT]}))


def test_who_shows_nothing_valid_uses_nobodys_requests_up(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "1/h")
    for _ in range(3):
        assert one.generate(key="k-wrong").status == 401
    assert one.generate().status == 200


def test_callers_and_tickets_have_windows_of_their_own(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "1/h")
    tickets = [one.ask("POST", "/tickets", {}).json["ticket"] for _ in range(2)]
    for key in (KEY, OTHER_KEY, *tickets):
        assert one.generate(key=key).status == 200
        assert_refused(one.generate(key=key))


def test_all_instances_count_together(fal: Emulator, tmp_path: Path):
    hour = Seams(now=Hour())
    pair = [instance(fal, tmp_path, seams=hour, FAL_IMAGE_RATE_LIMIT="3/h") for _ in range(2)]
    ids = count()

    def app(request: Request) -> Response:
        number = next(ids)
        platform = replace(request.platform, request_id=f"r-{number}")
        return pair[number % 2].app(replace(request, platform=platform))

    assert [Instance(app).generate(BAD).status for _ in range(4)] == [400, 400, 400, 429]


def test_without_a_database_each_instance_counts_and_says_so(fal: Emulator, tmp_path: Path):
    for one in (limited(fal, tmp_path, FAL_IMAGE_DATABASE_URL=None) for _ in range(2)):
        answers = [one.generate() for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert_refused(answers[-1])
        for answer in answers:
            assert answer.headers["ratelimit-policy"] == '"caller-and-instance";q=3;w=3600'


def test_off_counts_nothing(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "off")
    answers = [one.generate(BAD) for _ in range(61)]
    assert {answer.status for answer in answers} == {400}
    assert not any("ratelimit" in answer.headers for answer in answers)


def test_pages_of_other_origins_may_read_it(fal: Emulator, tmp_path: Path):
    one = limited(fal, tmp_path, "1/h", FAL_IMAGE_CORS_ORIGINS="https://app.example")
    answers = [one.generate(origin="https://app.example") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 429]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ratelimit", "ratelimit-policy", "retry-after"} <= set(exposed.split(", "))


# At fal's addresses.


@pytest.mark.parametrize("form", ["header", "path"])
@pytest.mark.parametrize("what", PAID)
def test_what_the_proxy_pays_for_counts(fal: Emulator, tmp_path: Path, what: str, form: Any):
    door = Door(limited(fal, tmp_path, "1/h"), form)
    assert door.pay(what).status == 200
    refused = door.pay(what)
    assert_refused(refused)
    assert refused.headers["content-type"] == "application/json"
    assert "message" in refused.json
    assert len(fal.ledger) == 1


def test_a_token_of_fals_counts(fal: Emulator, tmp_path: Path):
    door = Door(limited(fal, tmp_path, "1/h"))
    assert [door.ask("POST", TOKENS, TOKEN).status for _ in range(2)] == [200, 429]


def test_what_follows_a_proxied_submit_does_not(fal: Emulator, tmp_path: Path):
    door = Door(limited(fal, tmp_path, "1/h"))
    request_id = door.submitted()
    for _ in range(3):
        for what in ("status", "follow", "result", "cancel"):
            answer = door.afterwards(what, request_id)
            assert answer.status != 429
            assert "ratelimit" not in answer.headers
    assert door.ask("POST", "https://example.com/fal-ai/flux", CAT).status == 412
