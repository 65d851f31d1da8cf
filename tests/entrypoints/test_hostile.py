"""Thousands of events nobody should send, through the real functions and the real app."""

import time
from collections.abc import Callable

import pytest

from fal_image.dev.platforms import LambdaContext
from support import entrypoints, fuzz
from support.hostile import STATUSES, status_of

Configure = Callable[..., None]
EVENTS = 2000


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cloud", ["aws", "cloudbase"])
def test_no_event_makes_a_function_raise_or_answer_out_of_its_table(
    configured: Configure, cloud: str, capfd: pytest.CaptureFixture[str]
):
    configured(FAL_IMAGE_ALLOW_ANONYMOUS="1", FAL_IMAGE_LOG_LEVEL="ERROR")
    main = entrypoints.load(cloud)
    context: object = LambdaContext("r-1", clock=time.monotonic) if cloud == "aws" else {}
    seen = {status_of(main(event, context)) for event in fuzz.events(seed=2026, count=EVENTS)}
    assert seen <= STATUSES
    assert {200, 400, 404} <= seen
    assert "Traceback" not in capfd.readouterr().err
