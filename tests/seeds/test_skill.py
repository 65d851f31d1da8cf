"""The functions of the skill "fal.ai Image Generation": what they get from fal, and from us."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.fal import catalog
from fal_image.web import Request
from support import pictures
from support.emulator import QUEUE, SCHNELL, ask
from support.instances import Answer, Postbox, Server, instance
from support.node import call, call_in_page
from support.seeds import Endpoint, assert_ours_is_the_same, ordered, size_px

PROMPT = "a calico cat at sunset"

pytestmark = pytest.mark.needs("node >= 20")


def skill(function: str, *arguments: object, fal: Emulator) -> Any:
    """What a function of the skill returns."""
    called = call("seeds/skill.mjs", function, *arguments, emulator=fal)
    assert called.threw is None
    return called.returned


def test_config_shows_fal_the_key_of_the_environment(fal: Emulator) -> None:
    taken = len(fal.ledger)
    called = call(
        "seeds/skill.mjs",
        "generateFluxSchnell",
        PROMPT,
        emulator=fal,
        fal_key="revoked:secret",
    )
    assert called.threw["status"] == 401
    assert len(fal.ledger) == taken


@pytest.mark.parametrize(
    ("options", "size", "count"),
    [({}, (1024, 768), 1), ({"imageSize": "square", "numImages": 2, "seed": 7}, (512, 512), 2)],
)
def test_generate_flux_schnell(
    endpoint: Endpoint, options: Mapping[str, object], size: tuple[int, int], count: int
) -> None:
    output = skill("generateFluxSchnell", PROMPT, options, fal=endpoint.fal)

    assert [size_px(image) for image in output["images"]] == [size] * count
    assert output["seed"] == options.get("seed", output["seed"])
    assert_ours_is_the_same(endpoint, output)


def test_generate_flux_dev(endpoint: Endpoint) -> None:
    output = skill("generateFluxDev", PROMPT, 20, fal=endpoint.fal)

    assert ordered(endpoint.fal)[1]["num_inference_steps"] == 20
    assert_ours_is_the_same(endpoint, output)


def test_generate_flux_pro_is_wide_whatever_image_size_says(endpoint: Endpoint) -> None:
    """The model has aspect_ratio instead: fal ignores what it does not know, and we pass it on."""
    square = {"width": 1024, "height": 1024}
    output = skill("generateFluxPro", PROMPT, {"imageSize": square, "seed": 7}, fal=endpoint.fal)
    model, arguments = ordered(endpoint.fal)
    assert arguments["image_size"] == square

    job = assert_ours_is_the_same(endpoint, output)
    [image] = job["images"]
    assert image["width"] > 1.7 * image["height"]

    status, mended = endpoint.post({"model": model, "prompt": PROMPT, "aspect_ratio": "1:1"})
    assert status == 200
    assert size_px(mended["images"][0]) == (1024, 1024)


def test_generate_flux_pro_without_options(endpoint: Endpoint) -> None:
    output = skill("generateFluxPro", PROMPT, fal=endpoint.fal)

    assert ordered(endpoint.fal)[1] == {"prompt": PROMPT, "safety_tolerance": "2", "raw": False}
    assert_ours_is_the_same(endpoint, output)


def test_submit_to_queue_and_check_queue_status() -> None:
    with Emulator(queue_s=3600) as busy:
        first, second = [skill("submitToQueue", PROMPT, fal=busy) for _ in range(2)]
        assert [job.request_id for job in busy.ledger] == [first, second]
        assert busy.ledger[0].webhook_url == "https://your-server.com/webhooks/fal"
        status = skill("checkQueueStatus", second, fal=busy)
    assert status["status"] == "IN_QUEUE"
    assert status["queuePosition"] >= 1


def test_get_queue_result(endpoint: Endpoint) -> None:
    fal = endpoint.fal
    skill("generateFluxSchnell", PROMPT, {"imageSize": "square_hd"}, fal=fal)
    request_id = fal.ledger[-1].request_id

    assert skill("checkQueueStatus", request_id, fal=fal) == {"status": "COMPLETED"}
    output = skill("getQueueResult", request_id, fal=fal)
    assert size_px(output["images"][0]) == (1024, 1024)
    assert_ours_is_the_same(endpoint, output)


def test_generate_with_progress() -> None:
    with Emulator(run_s=0.8) as slow:
        seen = skill("everyProgress", PROMPT, fal=slow)
    *earlier, last = seen["updates"]
    assert earlier
    assert {update["status"] for update in earlier} == {"IN_PROGRESS"}
    assert last == {"status": "COMPLETED", "logs": ["25%", "50%", "75%", "100%"]}
    assert size_px(seen["result"]["images"][0]) == (1024, 1024)


def test_flux_img2img_with_an_uploaded_file(endpoint: Endpoint, tmp_path: Path) -> None:
    """uploadAndGenerate calls fluxImg2Img; its image_size is not a field of the model either."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(pictures.png(width=512, height=512))

    output = skill("uploadAndGenerate", str(photo), PROMPT, fal=endpoint.fal)
    model, arguments = ordered(endpoint.fal)
    assert model == "fal-ai/flux/dev/image-to-image"
    assert arguments["strength"] == 0.75
    assert set(arguments) - set(catalog.models()[model].fields) == {"image_size"}
    uploaded = ask(endpoint.fal, "GET", arguments["image_url"], key=None)
    assert uploaded.headers["content-type"] == "image/png"
    assert uploaded.body == photo.read_bytes()
    assert_ours_is_the_same(endpoint, output)


def test_the_handler_of_webhooks_keeps_the_last_picture_and_ours_keeps_all(
    fal: Emulator, tmp_path: Path
) -> None:
    """The printed one also believes whoever calls; ours asks for fal's signature."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    with Postbox(fal) as box:
        endpoint = instance(fal, ours, FAL_IMAGE_PUBLIC_URL=box.url)
        job_id = endpoint.submitted({"prompt": PROMPT, "num_images": 2})["jobId"]
        webhook = box.next()
    said = json.loads(webhook.body)
    called = call("seeds/skill.mjs", "webhookIn", str(theirs), said, emulator=fal)
    assert called.returned == [200]
    assert called.printed == (f"Request {said['request_id']} completed with 2 images",)

    assert endpoint.deliver(webhook).status == 200
    images = endpoint.job(job_id)["images"]
    stored = [
        (ours / "pictures" / image["fileID"].removeprefix("file:///")).read_bytes()
        for image in images
    ]
    given = [ask(fal, "GET", image["url"], key=None).body for image in said["payload"]["images"]]
    assert stored == given
    assert [file.read_bytes() for file in theirs.iterdir()] == stored[1:]
    stranger = Request("POST", webhook.path, webhook.platform, body=webhook.body)
    assert endpoint.deliver(stranger).status == 401


def test_the_route_of_the_proxy_answers_what_fal_answers(proxy: Server, fal: Emulator) -> None:
    """GET and POST of a status, a result and a submit: status, body and headers are fal's."""

    def through(method: str, target: str, body: object = None) -> Answer:
        return proxy.http(method, "/api/fal/proxy", body, x_fal_target_url=target)

    taken = through("POST", f"{QUEUE}/{SCHNELL}", {"prompt": PROMPT})
    assert taken.status == 200
    assert taken.json["request_id"] == fal.ledger[-1].request_id
    for url in (f"{taken.json['status_url']}?logs=1", taken.json["response_url"]):
        ours, theirs = through("GET", url), ask(fal, "GET", url)
        assert (ours.status, ours.json) == (theirs.status, theirs.json)
        assert ours.headers["x-fal-request-id"] == theirs.headers["x-fal-request-id"]
    assert through("POST", "").status == 400
    assert through("POST", "https://example.com/fal-ai/flux/schnell").status == 412


def test_a_page_with_proxy_url_needs_no_key(proxy: Server, endpoint: Endpoint) -> None:
    fal = endpoint.fal
    called = call_in_page(
        "seeds/skill.mjs", "generateInPage", PROMPT, {"seed": 7}, site=proxy.url, fal=fal
    )
    assert called.threw is None
    assert called.returned["seed"] == 7
    assert_ours_is_the_same(endpoint, called.returned)


def test_realtime_generation_shows_its_picture(proxy: Server, fal: Emulator) -> None:
    """The socket is fal's; the token that opens it comes through our proxy."""
    tokens = fal.calls["token"]
    called = call_in_page("seeds/skill.mjs", "preview", site=proxy.url, fal=fal)
    assert called.returned["id"] == "preview"
    kind, _, content = called.returned["src"].partition(";base64,")
    assert kind == "data:image/jpeg"
    assert base64.b64decode(content).startswith(b"\xff\xd8")
    assert (fal.ledger[-1].via, fal.calls["token"]) == ("realtime", tokens + 1)
