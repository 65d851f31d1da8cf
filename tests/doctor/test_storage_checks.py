"""The storage: what a small picture of the doctor's own goes through."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fal_image import app, server
from fal_image.doctor.storage import KEY, OTHER, PICTURE
from fal_image.errors import NotFound
from fal_image.images import inspect
from fal_image.seams import Seams
from fal_image.settings import load
from fal_image.storage.base import Link, NotAllowed, StorageError
from support import storages
from support.examined import Found, Odd, environment, found
from support.fake_cloudbase import item_error

ALL = [
    "storage.put",
    "storage.read",
    "storage.create_only",
    "storage.link",
    "storage.private",
    "storage.link_life",
    "storage.delete",
]


def stored(rig: storages.Rig, seams: Seams | None = None, **settings: str) -> Found:
    environ = environment(**{"FAL_IMAGE_STORAGE_URL": rig.url, **rig.environ, **settings})
    return found(environ, only="storage", seams=seams or Seams())


def odd(**ways: Any) -> Seams:
    return Seams(storage=lambda opened: Odd(opened, **ways))


def is_gone(rig: storages.Rig) -> bool:
    """Whether nothing stands under the doctor's key, as another process sees it."""
    try:
        rig.open().head(f"{storages.PREFIX}/{KEY}")
    except NotFound:
        return True
    return False


@pytest.mark.parametrize("path", ["", storages.ENDPOINT_PATH])
def test_a_bucket_of_s3_is_well(moto: str, path: str):
    rig = storages.S3Rig(moto + path)
    seen = stored(rig)
    assert [finding.check for finding in seen.all] == ALL
    assert seen.of("failed") == []
    assert f"{storages.PREFIX}/{KEY}" in seen["storage.put"].said
    assert is_gone(rig)
    assert stored(rig).of("failed") == []


def test_a_bucket_of_cos_is_well():
    with storages.cos_rig() as rig:
        seen = stored(rig, Seams(storage=lambda _: rig.open()))
        assert is_gone(rig)
    assert [finding.check for finding in seen.all] == ALL
    assert seen.of("failed") == []


def test_an_environment_of_cloudbase_is_well():
    with storages.cloudbase_rig() as rig:
        rig.open()
        seen = stored(rig, Seams(detours=rig.fake.detours))
        assert is_gone(rig)
    assert [finding.check for finding in seen.all] == ALL
    assert seen.of("failed") == []
    assert "does not say when" in seen["storage.link_life"].said


def test_a_directory_links_by_its_own_addresses(tmp_path: Path):
    seen = found(environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri()), only="storage")
    assert seen.of("ok") == [*ALL[:3], "storage.delete"]
    assert "FAL_IMAGE_PUBLIC_URL" in seen["storage.link"].said


@contextmanager
def served(directory: Path, **settings: str) -> Iterator[dict[str, str]]:
    """The environment of a server that keeps pictures in a directory."""
    listener = server.bind("127.0.0.1", 0)
    environ = environment(
        FAL_IMAGE_STORAGE_URL=directory.as_uri(),
        FAL_IMAGE_PUBLIC_URL=server.url_of(listener),
        **settings,
    )
    with server.running(app.front(app.compose(load(environ), environ=environ)), listener):
        yield environ


def test_a_directory_behind_a_server_is_well(tmp_path: Path):
    with served(tmp_path) as environ:
        seen = found(environ, only="storage")
    assert seen.of("ok") == ALL


def test_a_link_that_nobody_answers_is_a_failure(tmp_path: Path):
    with served(tmp_path) as environ:
        pass
    seen = found(environ, only="storage")
    assert seen.of("failed") == ["storage.link"]
    assert seen["storage.private"].verdict == "skipped"


def test_a_bucket_that_is_not_there_is_a_failure_with_a_fix(moto: str):
    rig = storages.S3Rig(moto)
    seen = stored(rig, FAL_IMAGE_STORAGE_URL="s3://nobody-made-this-bucket/pictures")
    assert seen.of("failed") == ["storage.put"]
    assert "NoSuchBucket" in seen["storage.put"].said
    assert "AWS_REGION" in str(seen["storage.put"].fix)


def test_what_cannot_be_written_is_a_failure_with_a_fix(tmp_path: Path):
    (tmp_path / "pictures").write_text("a file", encoding="utf-8")
    uri = (tmp_path / "pictures").as_uri()
    seen = found(environment(FAL_IMAGE_STORAGE_URL=uri), only="storage")
    assert seen.of("failed") == ["storage.put"]
    assert "directory" in str(seen["storage.put"].fix)


def test_a_storage_that_replaces_is_found(tmp_path: Path):
    with served(tmp_path) as environ:
        services = app.compose(load(environ), environ=environ)
        opened = services.assets.door.get()

        def put(key: str, file: Any, **more: Any) -> Any:
            return opened.put(key, file, **{**more, "create_only": False})

        seen = found(environ, only="storage", seams=odd(put=put))
    assert "storage.create_only" in seen.of("failed")
    assert "If-None-Match" in str(seen["storage.create_only"].fix)


def test_a_storage_that_does_not_know_conditions_is_found(tmp_path: Path):
    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    opened = app.compose(load(environ), environ=environ).assets.door.get()

    def put(key: str, file: Any, **more: Any) -> Any:
        if more["create_only"]:
            raise StorageError("HTTP 501 NotImplemented")
        return opened.put(key, file, **more)

    seen = found(environ, only="storage", seams=odd(put=put))
    assert seen.of("failed") == ["storage.create_only"]


def test_a_link_to_something_else_is_found(tmp_path: Path):
    with served(tmp_path) as environ:
        url = f"{environ['FAL_IMAGE_PUBLIC_URL']}/health?sig=x"
        seen = found(environ, only="storage", seams=odd(link=lambda key, ttl_s: Link(url, None)))
    assert seen.of("failed") == ["storage.link"]
    assert "something else" in seen["storage.link"].said


def test_a_link_that_is_refused_is_found(tmp_path: Path):
    with served(tmp_path) as environ:
        url = f"{environ['FAL_IMAGE_PUBLIC_URL']}/files/x?exp=1&sig=canary"
        seen = found(environ, only="storage", seams=odd(link=lambda key, ttl_s: Link(url, None)))
    assert "HTTP 404" in seen["storage.link"].said
    assert "canary" not in str(seen.all)


def test_a_bucket_that_everybody_may_read_is_a_warning(tmp_path: Path):
    with served(tmp_path) as environ:
        base = environ["FAL_IMAGE_PUBLIC_URL"]
        open_link = odd(link=lambda key, ttl_s: Link(f"{base}/health", None))
        seen = found(environ, only="storage", seams=open_link)
        assert seen["storage.private"].verdict == "warning"
        meant = found({**environ, "FAL_IMAGE_LINK_BASE_URL": base}, only="storage")
        assert meant["storage.private"].verdict == "skipped"


def refusing(error: StorageError) -> Seams:
    def delete(key: str) -> None:
        raise error

    return odd(delete=delete)


def test_rights_without_a_delete_are_well_and_the_picture_stays(moto: str):
    rig = storages.S3Rig(moto)
    for _ in range(2):  # the next examination finds it there
        seen = stored(rig, refusing(NotAllowed("HTTP 403 AccessDenied")))
        assert [finding.check for finding in seen.all] == ALL
        assert seen.of("failed") == []
        assert seen["storage.delete"].verdict == "ok"
        assert f"stays under {storages.PREFIX}/{KEY}" in seen["storage.delete"].said
    assert storages.read(rig.open(), f"{storages.PREFIX}/{KEY}") == PICTURE


def test_rights_of_cloudbase_without_a_delete_are_well():
    with storages.cloudbase_rig() as rig:
        rig.open()
        rig.fake.faults["delete-objects"] = [item_error("STORAGE_EXCEED_AUTHORITY")]
        seen = stored(rig, Seams(detours=rig.fake.detours))["storage.delete"]
    assert (seen.verdict, "stays under" in seen.said) == ("ok", True)


def test_a_delete_that_fails_otherwise_is_a_failure_with_a_fix(tmp_path: Path):
    environ = environment(FAL_IMAGE_STORAGE_URL=tmp_path.as_uri())
    seen = found(environ, only="storage", seams=refusing(StorageError("HTTP 503 SlowDown")))
    assert seen.of("failed") == ["storage.delete"]
    assert "HTTP 503 SlowDown" in seen["storage.delete"].said
    assert f"{storages.PREFIX}/{KEY}" in str(seen["storage.delete"].fix)


def test_links_of_temporary_keys_end_with_them(moto: str):
    rig = storages.S3Rig(moto)
    unknown = stored(rig)["storage.link_life"]
    assert unknown.verdict == "warning"
    assert "not known" in unknown.said
    soon = stored(rig, AWS_CREDENTIAL_EXPIRATION="2026-01-01T00:00:00Z")["storage.link_life"]
    assert (soon.verdict, "2026-01-01T00:00:00" in soon.said) == ("warning", True)
    late = stored(rig, AWS_CREDENTIAL_EXPIRATION="2999-01-01T00:00:00Z")["storage.link_life"]
    assert late.verdict == "ok"


def test_links_of_lasting_keys_live_as_long_as_they_say(moto: str):
    found = stored(storages.S3Rig(moto), FAL_IMAGE_LINK_TTL_S="600", AWS_SESSION_TOKEN="")
    seen = found["storage.link_life"]
    assert seen.verdict == "ok"
    assert "for 600 s" in seen.said or "for 599 s" in seen.said


def test_what_is_put_are_whole_pictures():
    for content in (PICTURE, OTHER):
        assert inspect(io.BytesIO(content)).content_type == "image/png"
    assert len(PICTURE) < 100
