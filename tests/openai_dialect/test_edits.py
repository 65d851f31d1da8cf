"""OpenAI's package makes pictures of pictures, which come in a form."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from support import pictures
from support.emulator import ask
from support.instances import OTHER_KEY, Server
from support.storages import S3Rig

Serve = Callable[..., tuple[Server, openai.OpenAI]]
EDIT = "fal-ai/flux-2/edit"
INPAINTING = "fal-ai/flux-lora/inpainting"
ONE_PICTURE = "fal-ai/flux/dev/image-to-image"


def sent(fal: Emulator) -> dict[str, Any]:
    given: Any = fal.ledger[-1].input
    return dict(given)


def read_by(fal: Emulator, url: str) -> bytes:
    """What fal reads at an address of an input."""
    return ask(fal, "GET", url, key=None).body


def refused(client: openai.OpenAI, **wishes: Any) -> openai.APIStatusError:
    given = {"image": pictures.png(), "prompt": "a hat on it"} | wishes
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.edit(**given)
    return caught.value


def with_hole(width: int = 8, height: int = 8) -> bytes:
    """A picture of which the left half is clear."""
    image = Image.new("RGBA", (width, height), (10, 20, 30, 255))
    image.paste((0, 0, 0, 0), (0, 0, width // 2, height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_picture_and_words_become_a_picture(client: openai.OpenAI, fal: Emulator):
    answer = client.images.edit(image=pictures.png(), prompt="a hat on it", user="canary")
    assert answer.data
    assert answer.data[0].url
    given = sent(fal)
    (url,) = given.pop("image_urls")
    assert read_by(fal, url) == pictures.png()
    assert fal.ledger[-1].model == EDIT
    assert given == {"prompt": "a hat on it"}


def test_several_pictures_keep_their_order_and_numbers_are_numbers(
    client: openai.OpenAI, fal: Emulator
):
    both = [("b.png", pictures.png()), ("a.jpg", pictures.jpeg())]
    answer = client.images.edit(
        image=both,
        prompt="both",
        n=2,
        size="512x512",
        response_format="b64_json",
        extra_body={"seed": 7, "guidance_scale": 2.5, "enable_prompt_expansion": False},
    )
    assert [bool(picture.b64_json) for picture in answer.data or ()] == [True, True]
    given = sent(fal)
    assert [read_by(fal, url) for url in given.pop("image_urls")] == [
        pictures.png(),
        pictures.jpeg(),
    ]
    assert given == {
        "prompt": "both",
        "num_images": 2,
        "image_size": {"width": 512, "height": 512},
        "seed": 7,
        "guidance_scale": 2.5,
        "enable_prompt_expansion": False,
    }


def test_what_a_mask_leaves_clear_is_white_for_the_model(client: openai.OpenAI, fal: Emulator):
    client.images.edit(image=with_hole(), mask=with_hole(), prompt="a hat")
    assert fal.ledger[-1].model == INPAINTING
    with Image.open(io.BytesIO(read_by(fal, sent(fal)["mask_url"]))) as mask:
        shades = [mask.convert("L").getpixel((x, 4)) for x in range(8)]
    assert shades == [255] * 4 + [0] * 4
    assert read_by(fal, sent(fal)["image_url"]) == with_hole()


def test_a_mask_without_clear_parts_goes_to_the_model_as_it_is(
    client: openai.OpenAI, fal: Emulator
):
    client.images.edit(image=pictures.png(), mask=pictures.png(), prompt="a hat")
    assert read_by(fal, sent(fal)["mask_url"]) == pictures.png()


@pytest.mark.parametrize(
    ("wishes", "param", "says"),
    [
        ({"model": "fal-ai/flux/schnell"}, "model", "words alone"),
        ({"model": ONE_PICTURE, "image": [pictures.png()] * 2}, "image", "one picture"),
        ({"image": [pictures.png()] * 5}, "image", "at most 4"),
        ({"image": [pictures.png()] * 17}, "image", "more than 16"),
        ({"image": b"no picture"}, "image", "text, not a picture"),
        ({"image": pictures.png()[:-3]}, "image", "cut short"),
        ({"image": b""}, "image", "no bytes"),
        ({"mask": pictures.png(), "model": EDIT}, "mask", INPAINTING),
        ({"mask": pictures.png(width=9)}, "mask", "21 x 13, not 9 x 13"),
        ({"mask": b"no mask"}, "mask", "text, not a picture"),
        ({"model": INPAINTING}, "mask", "required"),
        ({"n": 9}, "n", "less than or equal to 4"),
        ({"size": "64x64", "model": ONE_PICTURE}, "size", "the input"),
        ({"input_fidelity": "high"}, "input_fidelity", EDIT),
        ({"prompt": " "}, "prompt", "blank"),
        ({"extra_body": {"markup": "x"}}, "markup", EDIT),
        ({"extra_body": {"stream": True}}, "stream", "whole"),
        ({"extra_body": {"seed": "x"}}, "seed", "integer"),
        ({"extra_body": {"transforms": {"crop": {"x": "a"}}}}, "transforms.crop", "transforms"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_stored_or_sent(
    client: openai.OpenAI,
    fal: Emulator,
    tmp_path: Path,
    wishes: dict[str, Any],
    param: str,
    says: str,
):
    error = refused(client, **wishes)
    assert isinstance(error, openai.BadRequestError)
    assert (error.param or "").startswith(param)
    assert says in error.message
    assert fal.calls.total() == 0
    assert not list((tmp_path / "pictures").rglob("uploads"))


def test_a_file_in_any_other_field_is_refused(client: openai.OpenAI, fal: Emulator):
    error = refused(client, markup=pictures.png())
    assert error.param == "markup"
    assert fal.calls.total() == 0


def test_a_default_that_the_owner_does_not_allow_must_be_replaced(serve: Serve, fal: Emulator):
    _, client = serve(FAL_IMAGE_MODELS=ONE_PICTURE)
    error = refused(client)
    assert error.param == "model"
    assert EDIT in error.message
    assert client.images.edit(image=pictures.png(), prompt="p", model=ONE_PICTURE).data
    assert fal.calls["submit"] == 1


def test_a_picture_that_is_here_already_is_named_by_its_id_and_only_by_its_owner(
    serve: Serve, tmp_path: Path
):
    server, client = serve()
    file_id = server.http("POST", "/generate", {"prompt": "a calico cat"}).json["fileID"]
    body = {"image": file_id, "prompt": "a hat on it"}
    answer = server.http("POST", "/v1/images/edits", body)
    assert answer.status == 200, answer.body
    stranger = server.http("POST", "/v1/images/edits", body, key=OTHER_KEY)
    assert (stranger.status, stranger.json["error"]["code"]) == (404, "not_found")
    client.images.edit(image=pictures.png(), prompt="p")
    folder = tmp_path / "pictures"
    (upload,) = (path for path in folder.rglob("uploads/*/*.png") if path.is_file())
    named = {"image": f"file:///{upload.relative_to(folder).as_posix()}", "prompt": "p"}
    assert server.http("POST", "/v1/images/edits", named).status == 200
    assert server.http("POST", "/v1/images/edits", named, key=OTHER_KEY).status == 404


def test_the_same_picture_is_stored_once(client: openai.OpenAI, tmp_path: Path):
    for _ in range(2):
        client.images.edit(image=pictures.png(), prompt="p")
    kept = [path for path in (tmp_path / "pictures").rglob("uploads/*/*") if path.is_file()]
    assert len(kept) == 1


def test_without_a_secret_pictures_go_to_fal_and_nowhere_else(
    serve: Serve, fal: Emulator, tmp_path: Path
):
    _, client = serve(FAL_IMAGE_DATABASE_URL=None, FAL_IMAGE_SECRET=None, FAL_IMAGE_PUBLIC_URL=None)
    client.images.edit(image=pictures.png(), prompt="p")
    (url,) = sent(fal)["image_urls"]
    assert url.startswith("data:image/png;base64,")
    assert not list((tmp_path / "pictures").rglob("uploads"))


def test_neither_prompt_nor_user_is_in_the_log(
    client: openai.OpenAI, capfd: pytest.CaptureFixture[str]
):
    given: dict[str, Any] = {"prompt": "canary of the prompt", "user": "canary-user"}
    client.images.edit(image=("canary.png", pictures.png()), **given)
    refused(client, n=9, **given)
    assert "canary" not in capfd.readouterr().err


@pytest.mark.timeout(60)  # moto is slow, on a machine that may be busy
def test_in_a_bucket_a_picture_is_an_upload_of_its_caller_that_fal_reads_by_a_link(
    serve: Serve, fal: Emulator, moto: str, monkeypatch: pytest.MonkeyPatch
):
    rig = S3Rig(moto)
    for name, value in rig.environ.items():
        monkeypatch.setenv(name, value)
    server, client = serve(FAL_IMAGE_STORAGE_URL=rig.url, **rig.environ)
    assert client.images.edit(image=pictures.png(), prompt="p").data
    (url,) = sent(fal)["image_urls"]
    key = urlsplit(url).path.partition(f"/{rig.bucket}/")[2]
    assert "/uploads/" in key
    assert rig.fetch(url) == pictures.png()
    named = {"image": f"{rig.start}{key}", "prompt": "p"}
    assert server.http("POST", "/v1/images/edits", named).status == 200
    assert server.http("POST", "/v1/images/edits", named, key=OTHER_KEY).status == 404
