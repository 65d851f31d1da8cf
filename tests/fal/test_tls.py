"""Connections over TLS: which are used again, and who vouches for whom."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import urllib3

from fal_image.connections import Pools, Tls, cause
from fal_image.sessions import new_session
from support.front import Front, certified
from support.peer import Peer, answer

TIMEOUT = urllib3.Timeout(connect=5.0, read=5.0)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
AUTHORITY_HASH = "18fe9691.0"  # OpenSSL's, of the name of a test's authority
ELSEWHERE = "https://elsewhere.invalid/"


class TlsPeer(Peer):
    """A peer behind its own certificate; `greeted` is set when all of a handshake was sent."""

    def __init__(self, directory: Path, script: bytes, version: ssl.TLSVersion) -> None:
        super().__init__([script])
        self.greeted = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certified(directory))
        self._context.maximum_version = version

    def __enter__(self) -> TlsPeer:
        super().__enter__()
        return self

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")

    def _serve(self, connection: socket.socket) -> None:
        with suppress(ssl.SSLError):  # of who refuses the certificate
            wrapped = self._context.wrap_socket(connection, server_side=True)
            self.greeted.set()
            super()._serve(wrapped)


def pools_for(peer: TlsPeer, directory: Path) -> Pools:
    authority = str(directory / "authority.pem")
    return Pools(Tls, [peer.url], time.monotonic, authorities=authority)


def ask(pools: Pools, peer: TlsPeer) -> bytes:
    return pools.send("GET", f"{peer.url}/", headers={}, body=None, timeout=TIMEOUT).read()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_opened_early_carries_the_first_request(
    version: ssl.TLSVersion, tmp_path: Path
):
    with TlsPeer(tmp_path, answer(200, b"{}"), version) as peer:
        pools = pools_for(peer, tmp_path)
        pools.connect(f"{peer.url}/", timeout_s=5.0)
        assert peer.greeted.wait(5)  # of TLS 1.3 there are tickets to read now
        pools.connect(f"{peer.url}/", timeout_s=5.0)
        assert [ask(pools, peer), ask(pools, peer)] == [b"{}", b"{}"]
    assert peer.connections == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_what_nobody_asked_for_is_not_the_next_answer(version: ssl.TLSVersion, tmp_path: Path):
    body = b"x" * 20_000  # more than a record, of which the second holds the other answer
    with TlsPeer(tmp_path, answer(200, body) + answer(200, b"[]"), version) as peer:
        pools = pools_for(peer, tmp_path)
        assert [ask(pools, peer), ask(pools, peer)] == [body, body]
    assert peer.connections == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connection_that_was_closed_meanwhile_is_not_used_again(
    version: ssl.TLSVersion, tmp_path: Path
):
    with TlsPeer(tmp_path, answer(200, b"{}"), version) as peer:
        pools, url = pools_for(peer, tmp_path), peer.url
        ask(pools, peer)
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        pools.send("GET", f"{url}/", headers={}, body=None, timeout=TIMEOUT)


def test_whoever_vouches_for_servers_vouches_for_a_proxy(tmp_path: Path):
    with Peer([answer(403)]) as peer, Front(tmp_path) as proxy:
        proxy.to(peer.url)
        pools = Pools(Tls, [], time.monotonic, authorities=str(proxy.ca))
        with pytest.raises(urllib3.exceptions.ProxyError, match="403"):
            pools.send("GET", ELSEWHERE, headers={}, body=None, timeout=TIMEOUT, proxy=proxy.url)
    assert proxy.received.startswith(b"CONNECT elsewhere.invalid:443 ")


def test_whoever_vouches_for_servers_vouches_for_a_sessions_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Peer([answer(403)]) as peer, Front(tmp_path) as proxy:
        proxy.to(peer.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.ca))
        with (
            new_session(Tls, [], time.monotonic) as session,
            pytest.raises(requests.exceptions.ProxyError, match="403"),
        ):
            session.get(ELSEWHERE, proxies={"https": proxy.url}, timeout=5)
    assert proxy.received.startswith(b"CONNECT elsewhere.invalid:443 ")


def test_a_directory_of_authorities_vouches_for_those_who_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with TlsPeer(tmp_path, answer(200, b"{}"), ssl.TLSVersion.TLSv1_3) as peer:
        authorities = tmp_path / "authorities"
        authorities.mkdir()
        authorities.joinpath(AUTHORITY_HASH).symlink_to(tmp_path / "authority.pem")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities))
        with new_session(Tls, [], time.monotonic) as session:
            assert session.get(peer.url, timeout=5).content == b"{}"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(urllib3.exceptions.SSLError, match="certificate verify failed"):
            ask(Pools(Tls, [], time.monotonic), peer)


def test_a_certificate_that_is_refused_is_called_so():
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert cause(refused).startswith("SSLCertVerificationError: ")
