"""What stands before a server on this machine: it hands bytes on, both ways, and keeps what it got.

With a certificate it speaks TLS to its callers, as a cloud's entrance does for a function. Refuses
to know what the bytes say.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .clocks import utc_now

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
FAREWELL_S = 0.5


class Front:
    """A context manager. It listens from the start, so that a server can be told its `url` before
    that server exists; `to` says where callers are led, and they come after that.

    `directory`: its own authority is made there, in `ca`, and callers who trust it speak TLS.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.ca = directory and directory / "authority.pem"
        self._tls = directory and _context(certified(directory))
        self._target = ("", 0)
        self._received: list[bytearray] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Front:
        self._thread.start()
        start = asyncio.start_server(self._serve, HOST, 0, ssl=self._tls or None)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(5)
        self.netloc = "{}:{}".format(*self._server.sockets[0].getsockname())
        self.url = f"{'https' if self._tls else 'http'}://{self.netloc}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped: Future[None] = asyncio.run_coroutine_threadsafe(self._stop(), self._loop)
        stopped.result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def to(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self._target = (parts.hostname, parts.port)

    @property
    def received(self) -> bytes:
        """Every byte that callers sent so far, one connection after the other, in the clear."""
        return b"".join(self._received)

    async def _serve(self, caller: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        kept = bytearray()
        self._received.append(kept)
        writers = [back]
        with suppress(OSError, asyncio.CancelledError):
            server, there = await asyncio.open_connection(*self._target)
            writers.append(there)
            pumps = {
                asyncio.create_task(_pump(caller, there, kept)),
                asyncio.create_task(_pump(server, back)),
            }
            # Whichever side hangs up first, the other one is hung up on.
            _, open_pumps = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in open_pumps:
                pump.cancel()
            await asyncio.wait(pumps)
        for writer in writers:
            writer.close()
        for writer in writers:
            with suppress(OSError, asyncio.TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), FAREWELL_S)
            writer.transport.abort()  # whoever does not hang up in turn over TLS

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=2)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray | None = None
) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            if kept is not None:
                kept += chunk
            writer.write(chunk)
            await writer.drain()


def certified(directory: Path, *names: str) -> Path:
    """A key and certificate for this machine, also by these names, in one file. Who trusts
    authority.pem, made beside it, believes it for an hour."""
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("a test's authority", authority, "a test's authority", authority)
    leaf = _certificate(HOST, server, "a test's authority", authority, names)
    directory.joinpath("authority.pem").write_bytes(root)
    chain = directory / "server.pem"
    chain.write_bytes(
        server.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + leaf
    )
    return chain


def _context(chain: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: Sequence[str] = (),
) -> bytes:
    """With all extensions that Python asks for since 3.13 (ssl.VERIFY_X509_STRICT)."""
    is_authority = key is issuer_key
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(hours=1))
        .not_valid_after(utc_now() + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_id, critical=False)
        .add_extension(_usage(signs_certificates=is_authority), critical=True)
    )
    if not is_authority:
        here = x509.SubjectAlternativeName(
            [x509.IPAddress(IPv4Address(HOST)), *map(x509.DNSName, names)]
        )
        builder = builder.add_extension(here, critical=False)
    signed = builder.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
