"""What a round trip through a storage takes in memory: `python -m support.memory URL MB MB…`.

A program of its own, so that what the tests and their servers hold is not counted. Prints the peak
of each size in bytes, as Python's allocator saw it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import tracemalloc

from fal_image.storage.base import ObjectStorage

from .storages import PREFIX, open_anywhere


def peak_bytes(store: ObjectStorage, megabytes: int, name: str) -> int:
    chunk, digest = bytes(2**20), hashlib.sha256()
    key = f"{PREFIX}/{name}.png"
    with tempfile.TemporaryFile() as file:
        for _ in range(megabytes):
            file.write(chunk)
            digest.update(chunk)
        tracemalloc.start()
        stored = store.put(key, file, content_type="image/png", sha256=digest.hexdigest())
        with store.open(key) as chunks:
            read_bytes = sum(map(len, chunks))
        found = store.head(key)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if not stored.created or not read_bytes == stored.bytes == found.bytes == megabytes * 2**20:
        raise SystemExit(f"the round trip of {name} failed")
    return peak


def main(url: str, *sizes: str) -> None:
    store = open_anywhere(url, os.environ)
    peak_bytes(store, 1, "warm")  # what is imported and built once is not the picture's
    peaks = [str(peak_bytes(store, int(size), f"{size}-mb")) for size in sizes]
    sys.stdout.write(" ".join(peaks))


if __name__ == "__main__":
    main(*sys.argv[1:])
