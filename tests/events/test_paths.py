from __future__ import annotations

import pytest

from fal_image.events.paths import strip_base_path


@pytest.mark.parametrize(
    ("path", "base", "rest"),
    [
        ("/prod/generate", "/prod", "/generate"),
        ("/prod", "/prod", "/"),
        ("/prod/", "/prod", "/"),
        ("/prod/generate", "/prod/", "/generate"),
        ("/product/1", "/prod", "/product/1"),
        ("/generate", "/prod", "/generate"),
        ("/prod/prod/x", "/prod", "/prod/x"),
        ("/a/b/c", "/a/b", "/c"),
        ("/generate", "", "/generate"),
        ("/generate", "/", "/generate"),
    ],
)
def test_a_base_path_is_cut_on_segment_borders_once(path: str, base: str, rest: str) -> None:
    assert strip_base_path(path, base) == rest
