"""What is remembered of batches between two looks at the database."""

from fal_image.batches.store import Recent


def test_what_was_used_last_is_kept_as_far_as_it_fits():
    recent: Recent[str] = Recent(5)
    recent.put("a", "A", 2)
    recent.put("b", "B", 2)
    assert recent.get("a") == "A"
    recent.put("c", "C", 2)
    assert [recent.get(name) for name in "abc"] == ["A", None, "C"]


def test_what_is_kept_anew_counts_once():
    recent: Recent[str] = Recent(5)
    for size in (5, 1, 4):
        recent.put("a", f"{size}", size)
    recent.put("b", "B", 1)
    assert (recent.get("a"), recent.get("b")) == ("4", "B")


def test_what_never_fits_is_not_kept():
    recent: Recent[str] = Recent(5)
    recent.put("a", "A", 6)
    assert recent.get("a") is None
    recent.put("b", "B", 5)
    assert recent.get("b") == "B"
