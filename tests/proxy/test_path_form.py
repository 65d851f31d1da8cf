"""The path form: addresses in its answers lead back through it, so it must know its own."""

import json
from pathlib import Path

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import QUEUE, SCHNELL
from support.entrypoints import request as a_request
from support.instances import CAT, Answer, instance, read
from support.proxy_calls import FLUX, PROXY, Door


@pytest.mark.parametrize("base", ["https://pictures.example.com", "https://x.example.com/prod"])
def test_in_the_path_form_addresses_lead_back_through_it(tmp_path: Path, base: str):
    prefix = "/prod" if base.endswith("/prod") else ""
    with Emulator(queue_s=0.2, run_s=0.2) as fal:
        one = instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=base, FAL_IMAGE_BASE_PATH=prefix or None)

        def ask(method: str, path: str, body: object = None) -> Answer:
            return read(one.app(a_request(method, f"{prefix}{PROXY}{path}", body)))

        submitted = ask("POST", f"/queue.fal.run/{SCHNELL}", CAT).json
        place = f"{base}{PROXY}/queue.fal.run/{FLUX}/requests/{submitted['request_id']}"
        expected = {
            "status_url": f"{place}/status",
            "response_url": place,
            "cancel_url": f"{place}/cancel",
        }
        said = [submitted]
        for url in (submitted["status_url"], f"{submitted['status_url']}/stream"):
            answer = ask("GET", url.removeprefix(base + PROXY))
            assert answer.status in {200, 202}
            if answer.headers["content-type"] == "application/json":
                said.append(answer.json)
            else:
                lines = answer.body.decode().splitlines()
                said += [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert ask("GET", place.removeprefix(base + PROXY)).json["seed"] == 7
    assert [body["status"] for body in said][-1] == "COMPLETED"
    for body in said:
        assert {name: body[name] for name in expected} == expected
        assert fal.url not in json.dumps(body)


def test_in_the_header_form_they_stay_fals(fal: Emulator, tmp_path: Path):
    door = Door(instance(fal, tmp_path))
    answer = door.submit()
    place = f"{QUEUE}/{FLUX}/requests/{answer.json['request_id']}"
    assert answer.json["response_url"] == place
    assert door.afterwards("status", answer.json["request_id"]).json["status"] == "COMPLETED"


def test_the_path_form_needs_to_know_its_own_address(fal: Emulator, tmp_path: Path):
    one = instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None)
    mine = Door(one, "header").submitted()
    before = fal.calls
    door = Door(one, "path")
    answers = [door.submit()]
    answers += [door.afterwards(what, mine) for what in ("status", "status with logs", "follow")]
    for answer in answers:
        assert (answer.status, answer.json["error"]) == (500, "misconfigured")
        assert "FAL_IMAGE_PUBLIC_URL" in answer.json["detail"]
    assert fal.calls == before
    assert door.afterwards("result", mine).json["seed"] == 7
    assert door.pay("run").json["seed"] == 7


def test_without_an_address_of_ours_fal_is_given_no_webhook(fal: Emulator, tmp_path: Path):
    Door(instance(fal, tmp_path, FAL_IMAGE_PUBLIC_URL=None), "header").submitted()
    assert fal.ledger[0].webhook_url is None
