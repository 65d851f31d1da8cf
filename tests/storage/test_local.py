"""What only a directory can get wrong: crashes, symbolic links, links that we check ourselves."""

from __future__ import annotations

import base64
import hmac
import io
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fal_image.errors import Misconfigured, NotFound
from fal_image.storage.base import StorageError
from support.storages import KEY, PREFIX, PUBLIC_URL, SECRETS, LocalRig, put, read, sha256

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
NOON_S = NOON.timestamp()
OTHER_SECRET = "second-secret-of-at-least-32-characters"


@pytest.fixture
def rig(tmp_path: Path) -> LocalRig:
    return LocalRig(tmp_path / "data")


def signed(rig: LocalRig, *, ttl_s: int = 60, key: str = KEY) -> tuple[str, str]:
    """`exp` and `sig` of a link that was signed at noon."""
    query = parse_qs(urlsplit(rig.open(now=lambda: NOON).link(key, ttl_s).url).query)
    return query["exp"][0], query["sig"][0]


def refusal(rig: LocalRig, key: str, exp: str, sig: str, now_s: float = NOON_S) -> str:
    with pytest.raises(NotFound) as caught:
        rig.open().verify_link(key, exp, sig, now_s)
    return caught.value.detail


def files(rig: LocalRig) -> list[str]:
    return [
        path.relative_to(rig.directory).as_posix()
        for path in sorted(rig.directory.rglob("*"))
        if not path.is_dir()
    ]


def test_nothing_is_made_before_the_first_put(rig: LocalRig):
    rig.open().link(KEY, 60)

    assert not rig.directory.exists()


def test_an_object_is_a_file_of_its_key_and_nothing_else_stays(rig: LocalRig):
    put(rig.open(), b"first")
    put(rig.open(), b"second")
    put(rig.open(), b"third", create_only=False)

    assert files(rig) == [KEY]
    assert (rig.directory / KEY).read_bytes() == b"third"


def test_a_put_that_breaks_off_leaves_nothing(rig: LocalRig):
    class TornFile(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise OSError("the disk is gone")
            return super().read(3)

    with pytest.raises(StorageError, match="the disk is gone"):
        rig.open().put(
            KEY, TornFile(b"0123456789"), content_type="image/png", sha256=sha256(b"0123456789")
        )

    assert files(rig) == []


def test_what_a_crash_left_behind_is_no_object(rig: LocalRig):
    put(rig.open(), b"x")
    (rig.directory / ".incoming" / "tmpcrashed").write_bytes(b"half")

    with pytest.raises(NotFound):
        rig.open().head(".incoming/tmpcrashed")


def test_the_content_type_is_that_of_the_extension(rig: LocalRig):
    for extension, content_type in (
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("bin", "application/octet-stream"),
    ):
        put(rig.open(), b"x", key=f"{PREFIX}/x.{extension}")
        assert rig.open().head(f"{PREFIX}/x.{extension}").content_type == content_type


def test_a_key_under_an_object_is_refused(rig: LocalRig):
    put(rig.open(), b"x")

    with pytest.raises(StorageError):
        put(rig.open(), b"y", key=f"{KEY}/y.png")
    with pytest.raises(NotFound):
        rig.open().head(f"{KEY}/y.png")


def test_a_key_that_is_a_directory_is_refused(rig: LocalRig):
    put(rig.open(), b"x")

    with pytest.raises(StorageError):
        put(rig.open(), b"y", key=KEY.rpartition("/")[0])


def test_a_directory_that_cannot_be_written_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageError):
        put(LocalRig(tmp_path / "file" / "data").open(), b"x")


def test_a_delete_leaves_the_directories(rig: LocalRig):
    put(rig.open(), b"x")
    rig.open().delete(KEY)

    assert files(rig) == []
    assert (rig.directory / KEY).parent.is_dir()


def test_a_delete_that_the_disk_refuses_is_a_storage_error(tmp_path: Path):
    store = LocalRig(tmp_path).open()
    put(store, b"x", key=f"{PREFIX}/x.png")
    with pytest.raises(StorageError, match="deleting"):
        store.delete(f"{PREFIX}/{'x' * 300}.png")  # longer than a file's name may be


def test_the_directory_itself_may_be_a_symbolic_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    rig = LocalRig(tmp_path / "link")
    put(rig.open(), b"x")

    assert read(rig.open()) == b"x"


def test_no_symbolic_link_leads_out_of_the_directory(rig: LocalRig, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (rig.directory / PREFIX).mkdir(parents=True)
    (rig.directory / PREFIX / "out").symlink_to(outside)
    (rig.directory / PREFIX / "file.png").symlink_to(outside / "secret.png")

    for key in (f"{PREFIX}/out/secret.png", f"{PREFIX}/file.png"):
        with pytest.raises(NotFound):
            rig.open().head(key)
        with pytest.raises(NotFound):
            rig.open().delete(key)
        with pytest.raises(StorageError):
            put(rig.open(), b"x", key=key)
    with pytest.raises(StorageError):
        put(rig.open(), b"x", key=f"{PREFIX}/out/deeper/new.png", create_only=False)

    assert [path.name for path in outside.iterdir()] == ["secret.png"]
    assert (outside / "secret.png").read_bytes() == b"secret"


def test_a_link_is_a_signed_address_of_the_files_route(rig: LocalRig):
    exp = int(NOON_S) + 60
    message = f"GET /files/{KEY}?exp={exp}".encode()
    digest = hmac.digest(SECRETS[0].encode(), message, "sha256")
    sig = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    url = rig.open(now=lambda: NOON).link(KEY, 60).url

    assert url == f"{PUBLIC_URL}/files/{KEY}?exp={exp}&sig={sig}"


def test_a_link_is_good_until_its_last_second(rig: LocalRig):
    exp, sig = signed(rig, ttl_s=60)

    rig.open().verify_link(KEY, exp, sig, NOON_S + 59.9)
    refusal(rig, KEY, exp, sig, NOON_S + 60)


def test_a_link_opens_no_other_file(rig: LocalRig):
    exp, sig = signed(rig)

    refusal(rig, KEY.replace("-0.png", "-1.png"), exp, sig)


def test_the_end_of_a_link_cannot_be_moved(rig: LocalRig):
    exp, sig = signed(rig)

    refusal(rig, KEY, str(int(exp) + 1), sig)
    refusal(rig, KEY, f"0{exp}", sig)


@pytest.mark.parametrize("exp", ["", "0", "-1", "1e9", "9" * 400, "١٢٣", "\ud800", "1\n", " 1"])
def test_an_end_that_is_no_time_is_not_found(rig: LocalRig, exp: str):
    refusal(rig, KEY, exp, signed(rig)[1])


@pytest.mark.parametrize("sig", ["", "x", "\ud800", "é" * 43, "A" * 43, "A" * 5000])
def test_a_signature_that_is_none_is_not_found(rig: LocalRig, sig: str):
    refusal(rig, KEY, signed(rig)[0], sig)


@pytest.mark.parametrize("key", ["", "../x", "\ud800", "ai-images//x.png"])
def test_a_link_to_a_key_that_cannot_exist_is_not_found(rig: LocalRig, key: str):
    refusal(rig, key, *signed(rig))


def test_a_changed_character_anywhere_breaks_a_signature(rig: LocalRig):
    exp, sig = signed(rig)

    for at, letter in enumerate(sig[:-1]):
        refusal(rig, KEY, exp, sig[:at] + ("A" if letter != "A" else "B") + sig[at + 1 :])
    refusal(rig, KEY, exp, sig + "=")


def test_forged_and_old_links_are_refused_in_the_same_words(rig: LocalRig):
    exp, sig = signed(rig)

    assert refusal(rig, KEY, exp, "forged") == refusal(rig, KEY, exp, sig, NOON_S + 9999)


def test_a_rotated_secret_still_opens_old_links(rig: LocalRig):
    exp, sig = signed(rig)

    LocalRig(rig.directory, (OTHER_SECRET, *SECRETS)).open().verify_link(KEY, exp, sig, NOON_S)
    refusal(LocalRig(rig.directory, (OTHER_SECRET,)), KEY, exp, sig)


def test_the_first_secret_signs(rig: LocalRig):
    both = LocalRig(rig.directory, (OTHER_SECRET, *SECRETS))

    assert signed(both) == signed(LocalRig(rig.directory, (OTHER_SECRET,)))
    assert signed(both) != signed(rig)


@pytest.mark.parametrize(("secrets", "public_url"), [((), PUBLIC_URL), (SECRETS, None)])
def test_without_a_secret_or_an_address_a_link_is_the_file_itself(
    tmp_path: Path, secrets: tuple[str, ...], public_url: str | None
):
    store = LocalRig(tmp_path / "my pictures", secrets, public_url).open()
    put(store, b"x")
    link = store.link(KEY, 60)

    assert link.url == (tmp_path / "my pictures" / KEY).resolve().as_uri()
    assert link.expires_at is None


def upload_query(rig: LocalRig, *, size: int = 5) -> tuple[str, str]:
    """`exp` and `sig` of an upload link that was signed at noon for a PNG."""
    link = rig.open(now=lambda: NOON).upload_link(
        KEY, content_type="image/png", bytes=size, ttl_s=60
    )
    query = parse_qs(urlsplit(link.url).query)
    return query["exp"][0], query["sig"][0]


def verify_upload(
    rig: LocalRig,
    exp: str,
    sig: str,
    *,
    now_s: float = NOON_S,
    content_type: str = "image/png",
    size: int = 5,
) -> None:
    rig.open().verify_upload(KEY, exp, sig, now_s, content_type=content_type, bytes=size)


def test_an_upload_link_is_good_until_its_last_second(rig: LocalRig):
    exp, sig = upload_query(rig)

    verify_upload(rig, exp, sig, now_s=NOON_S + 59.9)
    with pytest.raises(NotFound):
        verify_upload(rig, exp, sig, now_s=NOON_S + 60)


@pytest.mark.parametrize("bent", [{"size": 6}, {"content_type": "image/png' 5"}, {"size": 0}])
def test_an_upload_link_signs_type_and_length(rig: LocalRig, bent: dict[str, Any]):
    with pytest.raises(NotFound):
        verify_upload(rig, *upload_query(rig), **bent)


def test_a_changed_character_anywhere_breaks_an_upload_link(rig: LocalRig):
    exp, sig = upload_query(rig)

    for at, letter in enumerate(sig[:-1]):
        with pytest.raises(NotFound):
            verify_upload(rig, exp, sig[:at] + ("A" if letter != "A" else "B") + sig[at + 1 :])


def test_links_to_read_and_to_upload_are_not_each_other(rig: LocalRig):
    with pytest.raises(NotFound):
        verify_upload(rig, *signed(rig))
    refusal(rig, KEY, *upload_query(rig))


@pytest.mark.parametrize(
    ("secrets", "public_url", "name"),
    [((), PUBLIC_URL, "FAL_IMAGE_SECRET"), (SECRETS, None, "FAL_IMAGE_PUBLIC_URL")],
)
def test_without_a_secret_or_an_address_there_is_no_upload_link(
    tmp_path: Path, secrets: tuple[str, ...], public_url: str | None, name: str
):
    with pytest.raises(Misconfigured, match=name):
        upload_query(LocalRig(tmp_path, secrets, public_url))


def test_what_breaks_off_while_it_arrives_leaves_nothing(rig: LocalRig):
    def torn() -> Iterator[bytes]:
        yield b"0123"
        raise OSError("the caller is gone")

    with pytest.raises(StorageError, match="the caller is gone"):
        rig.open().receive(KEY, torn())

    assert files(rig) == []


def test_without_a_secret_no_link_is_good(rig: LocalRig):
    refusal(LocalRig(rig.directory, ()), KEY, *signed(rig))
