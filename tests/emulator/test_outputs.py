from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from support.emulator import CDN, Reply, ask, finish, picture_url, submit

FLUX_2 = "fal-ai/flux-2"


def made(emulator: Emulator, model: str = "fal-ai/flux/schnell", **arguments: Any) -> Reply:
    result = finish(emulator, submit(emulator, model, **arguments))
    assert result.status == 200, result.body
    return result


def fetched(emulator: Emulator, url: str) -> Reply:
    assert url.startswith(f"{CDN}/files/")
    reply = ask(emulator, "GET", url, key=None)
    assert reply.status == 200
    assert int(reply.headers["content-length"]) == len(reply.body)
    return reply


@pytest.mark.parametrize(
    ("model", "format", "kind"),
    [
        ("fal-ai/flux/dev", "jpeg", "JPEG"),
        ("fal-ai/flux/dev", "png", "PNG"),
        (FLUX_2, "webp", "WEBP"),
    ],
)
def test_a_picture_is_a_real_file_of_the_format_and_size_asked_for(
    emulator: Emulator, model: str, format: str, kind: str
) -> None:
    size = {"width": 640, "height": 512}
    result = made(emulator, model, output_format=format, image_size=size)
    item = result.json["images"][0]
    file = fetched(emulator, item["url"])

    with Image.open(io.BytesIO(file.body)) as picture:
        picture.load()
        assert (picture.format, picture.size) == (kind, (640, 512))
    assert (item["width"], item["height"]) == (640, 512)
    assert item["content_type"] == file.headers["content-type"] == f"image/{format}"
    assert item["url"].endswith(f".{format}")


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(emulator: Emulator) -> None:
    urls = [picture_url(made(emulator, seed=seed, image_size="square")) for seed in (7, 7, 8)]
    first, again, other = (fetched(emulator, url).body for url in urls)

    assert len(set(urls)) == 3
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    "changed", [{"prompt": "a dog"}, {"image_size": {"width": 256, "height": 200}}]
)
def test_the_prompt_and_the_size_change_the_picture(
    emulator: Emulator, changed: dict[str, Any]
) -> None:
    small: dict[str, Any] = {"image_size": {"width": 256, "height": 256}}
    one = made(emulator, **small)
    other = made(emulator, **{**small, **changed})

    one_file, other_file = (fetched(emulator, picture_url(made_)) for made_ in (one, other))
    assert one_file.body != other_file.body


def test_the_model_changes_the_picture(emulator: Emulator) -> None:
    one = picture_url(made(emulator, "fal-ai/flux/schnell", image_size="square"))
    other = picture_url(made(emulator, "fal-ai/flux/dev", image_size="square"))

    assert fetched(emulator, one).body != fetched(emulator, other).body


def test_a_seed_that_is_not_given_is_drawn_and_told(emulator: Emulator) -> None:
    seeds = {made(emulator, seed=None).json["seed"] for _ in range(3)}

    assert len(seeds) == 3


def test_num_images_gives_that_many_different_pictures_and_bills_each(emulator: Emulator) -> None:
    result = made(emulator, num_images=3, image_size="square")
    files = {fetched(emulator, item["url"]).body for item in result.json["images"]}

    assert len(files) == 3
    assert result.json["has_nsfw_concepts"] == [False] * 3
    assert result.headers["x-fal-billable-units"] == "3"


def test_units_are_whole_megapixels_where_the_price_is_per_megapixel(emulator: Emulator) -> None:
    result = made(emulator, image_size={"width": 2048, "height": 1024}, num_images=2)

    assert result.headers["x-fal-billable-units"] == "4"


def test_the_short_output_holds_only_images_and_seed(emulator: Emulator) -> None:
    result = made(emulator, "fal-ai/flux-2-pro")

    assert set(result.json) == {"images", "seed"}
    assert result.json["images"][0]["file_name"].endswith(".jpeg")


@pytest.mark.parametrize(
    ("ratio", "wide"), [("16:9", True), ("9:16", False), ("1:1", None), ("whatever", None)]
)
def test_an_aspect_ratio_shapes_the_picture(
    emulator: Emulator, ratio: str, wide: bool | None
) -> None:
    item = made(emulator, "fal-ai/flux-pro/v1.1-ultra", aspect_ratio=ratio).json["images"][0]

    assert (item["width"] > item["height"]) is (wide is True)
    assert (item["width"] < item["height"]) is (wide is False)


def test_sync_mode_answers_the_picture_itself(emulator: Emulator) -> None:
    asked: dict[str, Any] = {"image_size": "square", "output_format": "png"}
    plain = fetched(emulator, picture_url(made(emulator, **asked)))
    kind, _, data = picture_url(made(emulator, sync_mode=True, **asked)).partition(",")

    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == plain.body


@pytest.mark.parametrize("width", [1, 2, 16])
@pytest.mark.parametrize("height", [1, 3, 700])
def test_the_smallest_pictures_can_be_drawn(emulator: Emulator, width: int, height: int) -> None:
    size = {"width": width, "height": height}
    file = fetched(emulator, picture_url(made(emulator, image_size=size, prompt="x")))

    with Image.open(io.BytesIO(file.body)) as picture:
        assert picture.size == (width, height)


@pytest.mark.parametrize("prompt", ["\ud800", "猫\x00", "", "a" * 10_000])
def test_any_prompt_can_be_drawn(emulator: Emulator, prompt: str) -> None:
    fetched(emulator, picture_url(made(emulator, prompt=prompt, image_size="square")))


def test_every_palette_and_shape_of_land_can_be_drawn(emulator: Emulator) -> None:
    for seed in range(60):
        small = {"width": 96, "height": 64}
        fetched(emulator, picture_url(made(emulator, seed=seed, image_size=small)))


def test_an_unknown_file_is_404(emulator: Emulator) -> None:
    assert ask(emulator, "GET", f"{CDN}/files/b/0000/nothing.png").status == 404


def test_head_of_a_picture_tells_its_length_without_the_body(emulator: Emulator) -> None:
    url = picture_url(made(emulator, image_size="square"))
    head = ask(emulator, "HEAD", url)

    assert head.body == b""
    assert int(head.headers["content-length"]) == len(fetched(emulator, url).body)
