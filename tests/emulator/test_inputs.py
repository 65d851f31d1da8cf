"""Input pictures: fetched as fal would fetch them, refused as fal would, seen in the output."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from support import pictures
from support.emulator import CDN, REST, RUN, Reply, ask, finish, picture_url, submit
from support.peer import Peer, answer

DEV = "fal-ai/flux/dev/image-to-image"
KONTEXT = "fal-ai/flux-pro/kontext"
EDIT = "fal-ai/flux-2/edit"
INPAINTING = "fal-ai/flux-lora/inpainting"
RED, BLUE = (220, 20, 20), (20, 20, 220)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(colour: Any = RED, *, width: int = 96, height: int = 64, kind: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", (width, height), colour), kind)


def huge(side_px: int) -> bytes:
    """One bit for each pixel, all equal: a few kilobytes."""
    return encoded(Image.new("1", (side_px, side_px)))


def uri(body: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def edited(emulator: Emulator, url: str, model: str = DEV, **arguments: Any) -> Reply:
    """The result of a job with one input, whatever its status."""
    field = "image_urls" if "edit" in model else "image_url"
    arguments[field] = [url] if field == "image_urls" else url
    return finish(emulator, submit(emulator, model, **arguments))


def painted(emulator: Emulator, result: Reply) -> Image.Image:
    assert result.status == 200, result.body
    file = ask(emulator, "GET", picture_url(result), key=None).body
    with Image.open(io.BytesIO(file)) as picture:
        rgb: Image.Image = picture.convert("RGB")
    return rgb


def distance(picture: Image.Image, colour: tuple[int, int, int]) -> float:
    """How far the picture is from a plain colour, on average."""
    pixels = picture.resize((1, 1), Image.Resampling.BOX).tobytes()
    return sum(abs(value - wanted) for value, wanted in zip(pixels, colour, strict=True))


def uploaded(emulator: Emulator, body: bytes) -> str:
    initiate = f"{REST}/storage/upload/initiate?storage_type=fal-cdn-v3"
    wanted = {"content_type": "image/png", "file_name": "cat.png"}
    place = ask(emulator, "POST", initiate, wanted).json
    assert ask(emulator, "PUT", place["upload_url"], body, key=None).status == 200
    url: str = place["file_url"]
    return url


def problem_of(result: Reply) -> dict[str, Any]:
    assert result.status == 422
    assert result.headers["x-fal-billable-units"] == "0"
    [problem] = result.json["detail"]
    assert problem["url"] == f"https://docs.fal.ai/errors/#{problem['type']}"
    assert problem["msg"]
    found: dict[str, Any] = problem
    return found


# What comes of an input


def test_the_output_shows_its_input_wherever_that_was_fetched_from(emulator: Emulator) -> None:
    body = plain()
    with Peer([answer(200, body, content_type="image/png")]) as peer:
        urls = [uri(body), f"{peer.url}/a cat.png?x=%20é", uploaded(emulator, body)]
        results = [edited(emulator, url, output_format="png") for url in urls]
        files = [ask(emulator, "GET", picture_url(result)).body for result in results]

    assert files[0] == files[1] == files[2]
    assert peer.paths == ["/a%20cat.png?x=%20%C3%A9"]
    picture = painted(emulator, results[0])
    assert distance(picture, RED) < distance(picture, BLUE)


def test_an_output_can_be_the_next_input(emulator: Emulator) -> None:
    first = edited(emulator, uri(plain()), strength=0.1)
    second = edited(emulator, picture_url(first), strength=0.1, prompt="another")

    picture = painted(emulator, second)
    assert picture.size == (96, 64)
    assert distance(picture, RED) < distance(picture, BLUE)


def test_less_of_the_input_is_left_the_stronger_the_change(emulator: Emulator) -> None:
    left = [
        distance(painted(emulator, edited(emulator, uri(plain()), strength=strength)), RED)
        for strength in (0.1, 0.5, 1.0)
    ]

    assert left == sorted(left)
    assert left[0] < left[-1]


def test_the_same_input_gives_the_same_bytes_and_another_one_others(emulator: Emulator) -> None:
    def body(colour: tuple[int, int, int], seed: int) -> bytes:
        result = edited(emulator, uri(plain(colour)), seed=seed)
        return ask(emulator, "GET", picture_url(result)).body

    first = body(RED, 7)

    assert body(RED, 7) == first
    assert first not in (body(BLUE, 7), body(RED, 8))


def test_a_mask_says_what_may_change(emulator: Emulator) -> None:
    mask = Image.new("L", (96, 64), 0)
    mask.paste(255, (48, 0, 96, 64))
    inputs: dict[str, Any] = {"image_url": uri(plain()), "mask_url": uri(encoded(mask))}
    taken = submit(emulator, INPAINTING, output_format="png", **inputs)
    picture = painted(emulator, finish(emulator, taken))

    assert picture.crop((0, 0, 48, 32)).getcolors() == [(48 * 32, RED)]
    assert len(picture.crop((48, 0, 96, 32)).getcolors(9999) or []) > 1


def test_several_inputs_stand_side_by_side(emulator: Emulator) -> None:
    urls = [uri(plain(colour, width=512, height=512)) for colour in (RED, BLUE)]
    picture = painted(emulator, finish(emulator, submit(emulator, EDIT, image_urls=urls)))
    left, right = picture.crop((0, 0, 256, 512)), picture.crop((256, 0, 512, 512))

    assert distance(left, RED) < distance(right, RED)
    assert distance(right, BLUE) < distance(left, BLUE)


@pytest.mark.parametrize(
    ("model", "arguments", "input_size", "size"),
    [
        (DEV, {}, (96, 64), (96, 64)),
        (DEV, {"image_size": "square"}, (96, 64), (96, 64)),  # the model has no such field
        ("fal-ai/flux-lora/image-to-image", {}, (96, 64), (96, 64)),
        ("fal-ai/flux-lora/image-to-image", {"image_size": "square"}, (96, 64), (512, 512)),
        ("fal-ai/flux/dev/redux", {}, (96, 64), (1024, 768)),
        ("fal-ai/flux-pro/v1.1-ultra/redux", {}, (64, 96), (1360, 768)),
        (KONTEXT, {}, (96, 64), (1248, 832)),
        (KONTEXT, {"aspect_ratio": "1:1"}, (96, 64), (1024, 1024)),
        ("fal-ai/flux-kontext/dev", {}, (64, 96), (832, 1248)),
        (KONTEXT, {}, (2000, 8), (2896, 368)),
        (EDIT, {}, (640, 512), (640, 512)),
        (EDIT, {}, (96, 64), (768, 512)),
        (EDIT, {}, (3000, 1500), (2048, 1024)),
        ("fal-ai/flux-2-pro/edit", {}, (96, 64), (96, 64)),
        ("fal-ai/flux-2/turbo/edit", {}, (96, 64), (1024, 1024)),
    ],
)
def test_a_size_that_is_not_asked_for_is_that_of_the_input(
    emulator: Emulator,
    model: str,
    arguments: dict[str, Any],
    input_size: tuple[int, int],
    size: tuple[int, int],
) -> None:
    body = plain(width=input_size[0], height=input_size[1])
    [item] = edited(emulator, uri(body), model, **arguments).json["images"]

    assert (item["width"], item["height"]) == size


def test_a_picture_lies_as_its_metadata_says(emulator: Emulator) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    body = encoded(Image.new("RGB", (96, 64)), "JPEG", exif=exif)

    [item] = edited(emulator, uri(body, "image/jpeg")).json["images"]

    assert (item["width"], item["height"]) == (64, 96)


@pytest.mark.parametrize("name", sorted(pictures.KINDS))
def test_every_kind_of_picture_that_models_take_is_taken(emulator: Emulator, name: str) -> None:
    make, kind, _ = pictures.KINDS[name]

    assert edited(emulator, uri(make(), kind)).status == 200


def test_a_data_uri_may_be_percent_encoded(emulator: Emulator) -> None:
    text = "".join(f"%{byte:02X}" for byte in plain())

    assert edited(emulator, f"data:image/png,{text}").status == 200


@pytest.mark.parametrize(
    ("model", "sizes", "units"),
    [
        ("fal-ai/flux-2/turbo/edit", [(64, 64), (2048, 2048)], 3),  # inputs are cut to 1 MP there
        ("fal-ai/flux-2-pro/edit", [(1024, 1024), (2048, 1024)], 4),
        (KONTEXT, [(2048, 1024)], 1),
    ],
)
def test_an_edit_is_billed_for_its_inputs_where_the_price_counts_them(
    emulator: Emulator, model: str, sizes: list[tuple[int, int]], units: int
) -> None:
    urls = [uri(plain(width=width, height=height)) for width, height in sizes]
    inputs: dict[str, Any] = {"image_url": urls[0]} if model == KONTEXT else {"image_urls": urls}
    result = finish(emulator, submit(emulator, model, **inputs))

    assert result.headers["x-fal-billable-units"] == str(units)


def test_inputs_that_the_model_ignores_are_not_fetched(emulator: Emulator) -> None:
    with Peer([answer(200, plain())]) as peer:
        url = f"{peer.url}/x"
        finish(emulator, submit(emulator, image_url=url))
        finish(emulator, submit(emulator, EDIT, image_urls=[uri(plain())] * 4 + [url]))
        finish(emulator, submit(emulator, DEV, image_url=url, num_images=9))

    assert peer.requests == []


# What is wrong with an input


SCRIPTS = {
    "404": (answer(404, "nothing here"), "file_download_error"),
    "403": (answer(403), "file_download_error"),
    "500 with a picture": (answer(500, plain()), "file_download_error"),
    "redirect to nowhere": (answer(302), "file_download_error"),
    "redirect for ever": (answer(302, location="/again"), "file_download_error"),
    "redirect to a file": (answer(302, location="file:///etc/hosts"), "file_download_error"),
    "shorter than declared": (answer(200, plain(), declared=9999), "file_download_error"),
    "declared too long": (answer(200, b"", declared=10**12), "file_too_large"),
    "bad chunk": (
        b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "file_download_error",
    ),
    "not HTTP": (b"NONSENSE\r\ncontent-length: 1\r\n\r\n", "file_download_error"),
    "a page": (answer(200, "<!doctype html>", content_type="image/png"), "image_load_error"),
    "half a picture": (answer(200, plain()[:50]), "image_load_error"),
    "nothing": (answer(200, b""), "image_load_error"),
}


@pytest.mark.parametrize(("script", "kind"), SCRIPTS.values(), ids=SCRIPTS)
def test_an_address_without_a_picture_is_a_422_of_fals_kind(
    emulator: Emulator, script: bytes, kind: str
) -> None:
    with Peer([script]) as peer:
        url = f"{peer.url}/cat.png"
        problem = problem_of(edited(emulator, url))

    assert problem["type"] == kind
    assert problem["loc"] == ["body", "image_url"]
    assert problem["input"] == url
    assert emulator.ledger[0].billable_units == 0


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "ftp://h.example/a.png",
        "http://127.0.0.1:1/a.png",
        "http://[::1",
        "http://a b/",
        "http://h:port/",
        f"http://{'a' * 70}.example/",
        f"{CDN}/files/b/00000000/gone.png",
        "data:image/png;base64,%%%",
        "data:image/png",
        "data:",
    ],
)
def test_an_address_that_cannot_be_fetched_is_a_download_error(
    emulator: Emulator, url: str
) -> None:
    assert problem_of(edited(emulator, url))["type"] == "file_download_error"


LARGEST = {"max_height": 8000, "max_width": 8000}
SUPPORTED = {"supported_formats": [".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif"]}
BODIES = {
    "half a header": (b"GIF89a", "image_load_error", None),
    "text": (b"text", "image_load_error", None),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_load_error", None),
    "bmp": (plain(kind="BMP"), "unsupported_image_format", SUPPORTED),
    "small": (plain(width=7), "image_too_small", {"min_height": 8, "min_width": 8}),
    "large": (huge(9000), "image_too_large", LARGEST),
    "a bomb": (huge(14_000), "image_too_large", LARGEST),  # Pillow alone would not open it
}


@pytest.mark.parametrize(("body", "kind", "ctx"), BODIES.values(), ids=BODIES)
def test_bytes_that_are_no_good_picture_are_named_and_not_sent_back(
    emulator: Emulator, body: bytes, kind: str, ctx: object
) -> None:
    problem = problem_of(edited(emulator, uri(body)))

    assert (problem["type"], problem.get("ctx")) == (kind, ctx)
    assert "input" not in problem


def test_only_the_first_bad_input_is_named_by_its_place(emulator: Emulator) -> None:
    urls = [uri(plain()), "nonsense", "nonsense"]
    result = finish(emulator, submit(emulator, EDIT, image_urls=urls))

    assert problem_of(result)["loc"] == ["body", "image_urls", 1]


def test_a_bad_mask_is_named_too(emulator: Emulator) -> None:
    arguments: dict[str, Any] = {"image_url": uri(plain()), "mask_url": uri(b"x")}
    result = finish(emulator, submit(emulator, INPAINTING, **arguments))

    assert problem_of(result)["loc"] == ["body", "mask_url"]


def test_redirects_are_followed(emulator: Emulator) -> None:
    with Peer([answer(302, location="/there"), answer(200, plain())]) as peer:
        assert edited(emulator, f"{peer.url}/here").status == 200

    assert peer.paths == ["/here", "/there"]


def test_a_host_that_says_nothing_is_given_up() -> None:
    with Peer([b""]) as peer, Emulator(fetch_s=0.05) as emulator:
        assert problem_of(edited(emulator, peer.url))["type"] == "file_download_error"


# While an input is fetched


def test_a_job_runs_until_its_input_has_come(emulator: Emulator) -> None:
    with Peer([b""]) as peer:
        taken = submit(emulator, DEV, image_url=peer.url)
        status = ask(emulator, "GET", taken["status_url"]).json
        early = ask(emulator, "GET", taken["response_url"])
        cancelled = ask(emulator, "PUT", taken["cancel_url"])
        late = ask(emulator, "GET", taken["response_url"])

        assert (status["status"], early.status) == ("IN_PROGRESS", 400)
        assert (cancelled.status, late.status) == (202, 499)
        emulator.stop()  # it does not wait for the download


def test_nothing_is_fetched_for_a_job_that_never_runs(busy: Emulator) -> None:
    with Peer([answer(200, plain())]) as peer:
        taken = submit(busy, DEV, image_url=peer.url)
        headers = {"x-fal-request-start-timeout": "0.0"}
        given_up = submit(busy, DEV, image_url=peer.url, headers=headers)
        ask(busy, "PUT", taken["cancel_url"])

        assert finish(busy, taken).status == 499
        assert finish(busy, given_up).status == 504
    assert peer.requests == []


def test_a_job_that_goes_back_to_the_queue_keeps_its_input() -> None:
    with Emulator(run_s=0.1) as emulator:
        emulator.fault("back-to-queue", on="stream")
        assert edited(emulator, uri(plain())).status == 200


def test_run_waits_for_the_input_and_streams_show_it(emulator: Emulator) -> None:
    arguments = {"prompt": "x", "image_urls": [uri(plain(width=512, height=512))]}
    ran = ask(emulator, "POST", f"{RUN}/{EDIT}", arguments)
    streamed = ask(emulator, "POST", f"{RUN}/{EDIT}/stream", arguments)

    assert ran.status == 200
    for event in streamed.events:
        file = ask(emulator, "GET", event["images"][0]["url"]).body
        with Image.open(io.BytesIO(file)) as picture:
            assert distance(picture.convert("RGB"), RED) < distance(picture.convert("RGB"), BLUE)


@pytest.mark.parametrize("path", ["", "/stream"])
def test_run_and_streams_answer_a_bad_input_with_a_plain_422(emulator: Emulator, path: str) -> None:
    arguments = {"prompt": "x", "image_urls": ["nonsense"]}

    problem_of(ask(emulator, "POST", f"{RUN}/{EDIT}{path}", arguments))
