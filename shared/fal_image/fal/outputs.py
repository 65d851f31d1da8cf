"""Where the pictures are in a model's output. Knows fal's shapes, fetches nothing."""

from __future__ import annotations

from ..jobs import Source


def sources(payload: object) -> tuple[Source, ...] | None:
    """The pictures of an output, in order; () if it names none, None if it is of another kind.

    Pictures stand in `images` (FLUX) or `image` (many others) as objects with a `url`.
    """
    if payload is None:
        return ()
    if not isinstance(payload, dict):
        return None
    if isinstance(payload.get("images"), list):
        items = payload["images"]
    elif isinstance(payload.get("image"), dict):
        items = [payload["image"]]
    else:
        return None
    if any(_is_of_another_kind(item) for item in items):
        return None
    flags = payload.get("has_nsfw_concepts")
    flags = flags if isinstance(flags, list) else []
    urls = [item["url"] for item in items if _has_url(item)]
    return tuple(
        Source(index, url, flags[index] is True if index < len(flags) else None)
        for index, url in enumerate(urls)
    )


def seed(payload: object) -> int | None:
    value = payload.get("seed") if isinstance(payload, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _has_url(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("url"), str) and item["url"] != ""


def _is_of_another_kind(item: object) -> bool:
    kind = item.get("content_type") if isinstance(item, dict) else None
    return isinstance(kind, str) and not kind.startswith("image/")
