"""Cutting prefixes off paths. Knows nothing of where a prefix comes from."""

from __future__ import annotations


def strip_base_path(path: str, base: str) -> str:
    """`path` without `base` (such as "/prod", blank for none), cut on segment borders only.

    "/product" keeps its "/prod"; a path that does not start with `base` comes back unchanged,
    because gateways differ in whether they strip a prefix themselves.
    """
    base = base.rstrip("/")
    if base and (path == base or path.startswith(f"{base}/")):
        return path[len(base) :] or "/"
    return path
