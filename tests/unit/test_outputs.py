import pytest

from fal_image.fal.outputs import seed, sources
from fal_image.jobs import Source


def test_images_come_in_order_with_their_flags():
    payload = {
        "images": [{"url": "https://a"}, {"url": "https://b", "content_type": "image/png"}],
        "has_nsfw_concepts": [False, True],
    }
    assert sources(payload) == (Source(0, "https://a", False), Source(1, "https://b", True))


def test_a_single_image_is_one_picture_of_unknown_innocence():
    assert sources({"image": {"url": "https://a"}}) == (Source(0, "https://a", None),)


@pytest.mark.parametrize("payload", [None, {"images": []}, {"images": [{}, None, {"url": ""}]}])
def test_an_output_that_should_have_pictures_and_has_none(payload: object):
    assert sources(payload) == ()


@pytest.mark.parametrize(
    "payload",
    [
        {"text": "hello"},
        {"video": {"url": "https://a"}},
        {"images": "many"},
        {"images": [{"url": "https://a", "content_type": "video/mp4"}]},
        ["https://a"],
        "text",
    ],
)
def test_an_output_of_another_kind_has_no_pictures_to_miss(payload: object):
    assert sources(payload) is None


def test_the_seed_is_told_if_it_is_a_number():
    assert seed({"seed": 7}) == 7
    assert seed({"seed": "7"}) is None
    assert seed(None) is None
