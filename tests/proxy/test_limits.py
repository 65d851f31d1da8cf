"""The owner's limits on one request, as fal's own clients meet them."""

from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from support.emulator import QUEUE, RUN
from support.instances import CAT, instance
from support.proxy_calls import Door, Form

ENTRANCES = {
    "submit": ("POST", f"{QUEUE}/MODEL"),
    "run": ("POST", f"{RUN}/MODEL"),
    "stream": ("POST", f"{RUN}/MODEL/stream"),
}
SCHNELL, NEW = "fal-ai/flux/schnell", "fal-ai/flux-new"
BEYOND: list[tuple[str, dict[str, Any]]] = [
    (NEW, {"num_images": 5}),
    (SCHNELL, {"image_size": {"width": 4096, "height": 2048}}),
    (NEW, {"num_inference_steps": "51"}),
    (SCHNELL, {"prompt": "x" * 4001}),
    (SCHNELL, {"enable_safety_checker": False}),
    (NEW, {"safety_tolerance": "6"}),
]


@pytest.mark.parametrize("entrance", sorted(ENTRANCES))
@pytest.mark.parametrize(("model", "arguments"), BEYOND)
def test_what_is_beyond_a_limit_is_told_in_fals_form_and_costs_nothing(
    fal: Emulator, tmp_path: Path, form: Form, entrance: str, model: str, arguments: dict[str, Any]
):
    method, url = ENTRANCES[entrance]
    door = Door(instance(fal, tmp_path), form)
    answer = door.ask(method, url.replace("MODEL", model), {**CAT, **arguments})
    assert (answer.status, answer.json["error"]) == (422, "fal_rejected")
    [told] = answer.json["detail"]
    assert told["loc"] == ["body", *arguments]
    assert {"msg", "type", "input"} <= set(told)
    assert fal.calls.total() == 0


@pytest.mark.parametrize("off", ["false", "0", "off"])
@pytest.mark.parametrize("model", [SCHNELL, NEW])
def test_a_query_does_not_switch_the_checker_off_either(
    fal: Emulator, tmp_path: Path, form: Form, model: str, off: str
):
    url = f"{RUN}/{model}?prompt=a%20cat&enable_safety_checker={off}"
    assert Door(instance(fal, tmp_path), form).ask("GET", url).status == 422
    assert fal.calls.total() == 0


def test_an_owner_may_let_the_safety_checker_go(fal: Emulator, tmp_path: Path, form: Form):
    door = Door(instance(fal, tmp_path, FAL_IMAGE_ALLOW_UNSAFE="1"), form)
    door.submitted({**CAT, "enable_safety_checker": False})
    assert fal.ledger[0].input == {**CAT, "enable_safety_checker": False}
