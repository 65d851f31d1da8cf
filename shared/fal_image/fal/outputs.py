"""Where the pictures are in a model's output. Knows fal's shapes, fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping

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


def with_urls(payload: dict[str, object], urls: Mapping[int, str | None]) -> dict[str, object]:
    """The output with these URLs in place of its pictures' own, by the index `sources` gives.

    A picture whose URL is None is left out, and its flag with it: clients take every URL for one.
    """
    images, single = payload.get("images"), payload.get("image")
    if not isinstance(images, list):
        if not isinstance(single, dict) or 0 not in urls:
            return payload
        return payload | {"image": None if urls[0] is None else single | {"url": urls[0]}}
    index, shown, hidden = 0, [], set()
    for place, item in enumerate(images):
        if _has_url(item):
            url = urls.get(index, item["url"])
            item = item | {"url": url}
            hidden |= {place} if url is None else set()
            index += 1
        shown.append(item)
    flags = payload.get("has_nsfw_concepts")
    changed: dict[str, object] = {"images": _without(shown, hidden)}
    if isinstance(flags, list):
        changed["has_nsfw_concepts"] = _without(flags, hidden)
    return payload | changed


def seed(payload: object) -> int | None:
    value = payload.get("seed") if isinstance(payload, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _without(items: list[object], places: set[int]) -> list[object]:
    return [item for place, item in enumerate(items) if place not in places]


def _has_url(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("url"), str) and item["url"] != ""


def _is_of_another_kind(item: object) -> bool:
    kind = item.get("content_type") if isinstance(item, dict) else None
    return isinstance(kind, str) and not kind.startswith("image/")
