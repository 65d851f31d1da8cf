"""Who in front of the function hangs up first decides when the answer must be ready."""

import pytest

from fal_image.routes import answer_by
from fal_image.web import Platform


@pytest.mark.parametrize(
    ("ends_at", "gateway_s", "max_wait_s", "answer_at"),
    [
        (None, None, 55, 1055.0),
        (1010.0, None, 55, 1008.0),
        (1900.0, 29.0, 55, 1027.0),
        (1900.0, 55.0, 20, 1020.0),
        (1003.0, 29.0, 55, 1001.0),
    ],
)
def test_the_nearest_limit_counts_with_two_seconds_kept_back(
    ends_at: float | None, gateway_s: float | None, max_wait_s: int, answer_at: float
):
    platform = Platform("aws", "r-1", ends_at=ends_at, gateway_s=gateway_s)
    assert answer_by(platform, started_at=1000.0, max_wait_s=max_wait_s) == answer_at
