"""Masks that would need much memory: one at a time, and none that is too large."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

import openai
import pytest
from PIL import Image

from fal_image.dev.emulator import Emulator
from fal_image.openai import masks
from fal_image.processing.pixels import one_at_a_time
from support import pictures


def clear(width: int, height: int) -> bytes:
    """A mask of which nothing is opaque, in few bytes."""
    file = io.BytesIO()
    Image.new("RGBA", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_a_mask_waits_while_another_picture_is_worked_on():
    with ThreadPoolExecutor(1) as pool:
        with one_at_a_time:
            made = pool.submit(masks.for_flux, clear(8, 8), "a picture elsewhere")
            with pytest.raises(FutureTimeout):
                made.result(timeout=0.2)
        with Image.open(io.BytesIO(made.result(timeout=10))) as mask:
            assert mask.getextrema() == (255, 255)


def test_a_mask_that_cannot_be_read_keeps_nobody_waiting(client: openai.OpenAI):
    broken = bytearray(clear(64, 64))
    broken[50] ^= 0xFF
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=pictures.png(width=64, height=64), mask=bytes(broken), prompt="p")
    assert caught.value.param == "mask"
    assert not one_at_a_time.locked()


def test_a_mask_of_too_many_pixels_is_refused_by_its_header(client: openai.OpenAI, fal: Emulator):
    mask = (
        pictures.png_header(width=4001, height=3000) + pictures.png()[33:]
    )  # and not one row of them
    with one_at_a_time, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=mask, mask=mask, prompt="a hat")
    assert (caught.value.param, caught.value.code) == ("mask", "invalid_input")
    assert "at most 12000000 pixels, not 4001 x 3000" in caught.value.message
    assert fal.calls.total() == 0


def test_a_mask_of_as_many_pixels_as_may_be_is_made():
    assert masks.for_flux(clear(4000, 3000), "a picture elsewhere")
