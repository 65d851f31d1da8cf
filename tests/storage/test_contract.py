"""What every storage must do. This suite is the definition of the port."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import pytest

from fal_image.errors import NotFound
from fal_image.storage.base import (
    MAX_LINK_S,
    ObjectStorage,
    StorageError,
    StoredObject,
    UploadLink,
)
from support.storages import AWS_ENVIRON, KEY, PREFIX, SECRETS, Rig, put, read, sha256
from support.values import replace

CONTENT = b"\x89PNG and more"
OTHER_KEY = KEY.replace("-0.png", "-1.png")
REFUSED = {400, 403, 404}
NOON = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=timezone.utc)
HOSTILE_KEYS = [
    "",
    "/",
    "..",
    "../secret.png",
    f"{PREFIX}/../../etc/passwd",
    f"/{PREFIX}/x.png",
    f"{PREFIX}//x.png",
    f"{PREFIX}/.hidden.png",
    f"{PREFIX}/x.png\n",
    f"{PREFIX}/x%2e.png",
    f"{PREFIX}/\N{CJK UNIFIED IDEOGRAPH-56FE}.png",
    f"{PREFIX}/\ud800.png",
    f"{PREFIX}/x.png\0",
    f"{PREFIX}/{'x' * 900}",
]
FOREIGN_IDS = [
    "",
    KEY,
    f"s3://somebody-elses-bucket/{KEY}",
    f"file://{KEY}",
    f"file://host/{KEY}",
    f"cos://bucket-1250000000/{KEY}",
    f"cloud://env.bucket/{KEY}",
    f"https://pictures.example.com/{KEY}",
    f" file:///{KEY}",
]


def test_a_put_gives_the_facts_of_the_object(store: ObjectStorage, rig: Rig):
    content = b"\x89PNG and more"

    assert put(store, content) == StoredObject(
        KEY, rig.start + KEY, len(content), sha256(content), "image/png", created=True
    )


def test_another_instance_reads_what_was_put(rig: Rig):
    put(rig.open(), b"the bytes")

    assert read(rig.open()) == b"the bytes"


def test_head_tells_the_facts_without_creating(store: ObjectStorage):
    stored = put(store, b"the bytes")
    found = store.head(KEY)

    assert not found.created
    assert (found.key, found.file_id, found.bytes) == (KEY, stored.file_id, 9)
    assert (found.sha256, found.content_type) == (sha256(b"the bytes"), "image/png")


def test_a_file_is_stored_from_its_start_wherever_it_stands(store: ObjectStorage):
    file = io.BytesIO(b"0123456789")
    file.seek(7)

    store.put(KEY, file, content_type="image/png", sha256=sha256(b"0123456789"))

    assert read(store) == b"0123456789"


def test_nothing_is_stored_too(store: ObjectStorage):
    assert put(store, b"").bytes == 0
    assert read(store) == b""


def test_reading_starts_where_it_is_told_to(store: ObjectStorage):
    put(store, b"0123456789")

    assert [read(store, start=start) for start in (0, 4, 9)] == [b"0123456789", b"456789", b"9"]


def test_reading_from_the_end_on_gives_nothing(store: ObjectStorage):
    put(store, b"0123456789")

    assert [read(store, start=start) for start in (10, 1000)] == [b"", b""]


def test_an_object_may_be_left_half_read(store: ObjectStorage):
    put(store, bytes(1_000_000))

    with store.open(KEY) as chunks:
        assert next(chunks)


def test_a_second_put_changes_nothing_and_tells_the_facts_of_the_first(store: ObjectStorage):
    first = put(store, b"first")
    second = put(store, b"the second, which is longer")

    assert not second.created
    assert (second.bytes, second.sha256) == (first.bytes, first.sha256)
    assert (second.key, second.file_id) == (first.key, first.file_id)
    assert read(store) == b"first"


def test_a_put_that_may_replace_does(store: ObjectStorage):
    put(store, b"first")

    assert put(store, b"second", create_only=False).created
    assert read(store) == b"second"


def test_of_many_writers_one_creates_and_all_tell_its_facts(store: ObjectStorage):
    contents = [f"writer {number}".encode() * (number + 1) for number in range(6)]

    with ThreadPoolExecutor(len(contents)) as pool:
        results = list(pool.map(lambda content: put(store, content), contents))

    (winner,) = [
        content for content, result in zip(contents, results, strict=True) if result.created
    ]
    assert {result.sha256 for result in results} == {sha256(winner)}
    assert read(store) == winner


def test_bytes_that_are_not_those_of_the_digest_are_refused(store: ObjectStorage):
    with pytest.raises(StorageError):
        store.put(KEY, io.BytesIO(b"cut"), content_type="image/png", sha256=sha256(b"whole"))

    with pytest.raises(NotFound):
        store.head(KEY)


def test_what_was_never_put_is_not_found(store: ObjectStorage):
    with pytest.raises(NotFound):
        store.head(KEY)
    with pytest.raises(NotFound), store.open(KEY):
        pass


def test_a_deleted_object_is_gone_for_everybody(store: ObjectStorage, rig: Rig):
    put(store, b"the bytes")
    put(store, b"another", key=OTHER_KEY)

    store.delete(KEY)

    for instance in (store, rig.open()):
        with pytest.raises(NotFound):
            instance.head(KEY)
        with pytest.raises(NotFound), instance.open(KEY):
            pass
    assert read(store, OTHER_KEY) == b"another"


def test_deleting_what_is_not_there_is_no_error(store: ObjectStorage):
    store.delete(KEY)
    put(store, b"the bytes")

    store.delete(KEY.rpartition("/")[0])
    store.delete(f"{KEY}/below.png")
    assert read(store) == b"the bytes"
    for _ in range(2):
        store.delete(KEY)


def test_a_deleted_key_takes_an_object_again(store: ObjectStorage):
    put(store, b"first")
    store.delete(KEY)

    assert put(store, b"second").created
    assert read(store) == b"second"


def test_a_prefix_of_a_key_is_no_object(store: ObjectStorage):
    put(store, b"x")

    with pytest.raises(NotFound):
        store.head(PREFIX)
    with pytest.raises(NotFound):
        store.head(KEY.rpartition("/")[0])


def test_a_hostile_key_finds_nothing_and_writes_nothing(store: ObjectStorage):
    for key in HOSTILE_KEYS:
        with pytest.raises(NotFound):
            store.head(key)
        with pytest.raises(NotFound):
            store.delete(key)
        with pytest.raises(NotFound), store.open(key):
            pass
        with pytest.raises(ValueError, match="not a storage key"):
            put(store, b"x", key=key)
        with pytest.raises(ValueError, match="not a storage key"):
            store.link(key, 60)


def test_a_file_id_leads_back_to_its_key(store: ObjectStorage, rig: Rig):
    assert store.file_id(KEY) == rig.start + KEY
    assert store.key(store.file_id(KEY)) == KEY


def test_a_file_id_outside_the_prefix_is_not_found(store: ObjectStorage, rig: Rig):
    for key in (*HOSTILE_KEYS, PREFIX, f"{PREFIX}-2/x.png", "other/x.png"):
        with pytest.raises(NotFound):
            store.key(rig.start + key)


def test_a_file_id_of_another_storage_is_not_found(store: ObjectStorage):
    for file_id in FOREIGN_IDS:
        with pytest.raises(NotFound):
            store.key(file_id)


def test_a_link_gives_the_bytes_to_who_has_nothing_else(store: ObjectStorage, rig: Rig):
    put(store, b"the bytes")

    assert rig.fetch(store.link(KEY, 60).url) == b"the bytes"


def test_a_link_says_when_it_ends(rig: Rig):
    link = rig.open(now=lambda: NOON).link(KEY, 90)

    assert link.expires_at == datetime(2026, 11, 21, 12, 1, 30, tzinfo=timezone.utc)
    assert link.expires_at.utcoffset() == timedelta(0)


def test_a_link_lives_no_longer_than_the_ceiling(rig: Rig):
    link = rig.open(now=lambda: NOON).link(KEY, 7 * 24 * 3600)

    assert link.expires_at == NOON.replace(microsecond=0) + timedelta(seconds=MAX_LINK_S)


def test_a_link_is_signed_without_looking_for_the_object(store: ObjectStorage):
    assert KEY in store.link(KEY, 60).url


def an_upload(store: ObjectStorage, *, key: str = KEY, ttl_s: int = 60) -> UploadLink:
    return store.upload_link(key, content_type="image/png", bytes=len(CONTENT), ttl_s=ttl_s)


def stored(store: ObjectStorage) -> list[str]:
    """Which of the two keys an upload can have been sent to exist."""
    found = []
    for key in (KEY, OTHER_KEY):
        with suppress(NotFound), store.open(key):
            found.append(key)
    return found


def test_an_upload_link_stores_what_is_put_there(store: ObjectStorage, rig: Rig):
    assert rig.send(an_upload(store), CONTENT) == 200

    assert read(rig.open()) == CONTENT
    assert rig.fetch(store.link(KEY, 60).url) == CONTENT


def test_an_upload_link_says_when_it_ends(rig: Rig):
    store = rig.open(now=lambda: NOON)

    assert an_upload(store, ttl_s=90).expires_at == NOON.replace(microsecond=0) + timedelta(
        seconds=90
    )
    assert an_upload(store, ttl_s=90_000).expires_at == NOON.replace(microsecond=0) + timedelta(
        seconds=MAX_LINK_S
    )


def test_an_upload_link_stores_nothing_by_itself(store: ObjectStorage):
    an_upload(store)

    assert stored(store) == []


def test_a_hostile_key_gets_no_upload_link(store: ObjectStorage):
    for key in HOSTILE_KEYS:
        with pytest.raises(ValueError, match="not a storage key"):
            an_upload(store, key=key)


def test_an_upload_link_is_good_for_no_other_key(store: ObjectStorage, rig: Rig):
    link = an_upload(store)

    assert rig.send(replace(link, url=link.url.replace(KEY, OTHER_KEY)), CONTENT) in REFUSED
    assert stored(store) == []


def test_an_upload_link_is_good_for_no_other_type(store: ObjectStorage, rig: Rig):
    link = an_upload(store)
    bent = replace(link, headers=link.headers | {"content-type": "text/html"})

    assert rig.send(bent, CONTENT) in REFUSED
    assert stored(store) == []


def test_an_upload_link_is_good_for_no_other_length(store: ObjectStorage, rig: Rig):
    for content in (CONTENT[:-1], CONTENT + b"+"):
        assert rig.send(an_upload(store), content) in REFUSED
    assert stored(store) == []


def test_an_upload_link_works_once(store: ObjectStorage, rig: Rig):
    link = an_upload(store)
    rig.send(link, CONTENT)

    assert rig.send(link, bytes(len(CONTENT))) in {404, 409, 412}
    assert read(store) == CONTENT


def test_memory_does_not_grow_with_the_picture(rig: Rig):
    run = subprocess.run(
        [sys.executable, "-m", "support.memory", rig.url, "1", "50"],
        env={**os.environ, **rig.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert run.returncode == 0, run.stderr
    small, large = map(int, run.stdout.split())
    assert large - small < 1_000_000, "bytes more for 50 MB than for 1 MB"


def test_secrets_appear_in_no_error_and_no_repr(store: ObjectStorage):
    told = [repr(store), str(store)]
    for key in (KEY, "../x"):
        for call in (store.head, store.key):
            with pytest.raises(NotFound) as missing:
                call(key)
            told += [str(missing.value), repr(missing.value)]
    with pytest.raises(StorageError) as refused:
        store.put(KEY, io.BytesIO(b"cut"), content_type="image/png", sha256=sha256(b"whole"))
    told += [str(refused.value), repr(refused.value), repr(refused.value.__cause__)]

    secrets = [*SECRETS, *(value for name, value in AWS_ENVIRON.items() if "ACCESS" in name)]
    secrets.append(AWS_ENVIRON["AWS_SESSION_TOKEN"])
    assert not [secret for secret in secrets if secret in "\n".join(told)]
