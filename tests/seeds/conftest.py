"""fal, our endpoint and a web page's own server: one of each for a module, all on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fal_image.app import build_app
from fal_image.dev.emulator import Emulator
from fal_image.server import bind, running, url_of
from fal_image.settings import Settings
from support.instances import Server
from support.instances import serving as our_server
from support.seeds import Endpoint

PAGE = Path(__file__).with_name("recipe.html")


@pytest.fixture(scope="module")
def fal() -> Iterator[Emulator]:
    """fal without any delay."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def endpoint(fal: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """Open to everybody, and to web pages from `site` only; its site serves the recipe's page."""
    with bind("127.0.0.1", 0) as listener:
        url = f"{url_of(listener)}/fal-image-gen"
        with serving(recipe_page(url)) as site:
            settings = Settings(
                fal_key="id:secret",
                emulator_url=fal.url,
                storage_url=tmp_path_factory.mktemp("pictures").as_uri(),
                public_url=url,
                secrets=("s" * 32,),
                allow_anonymous=True,
                cors_origins=(site,),
                base_path="/fal-image-gen",
            )
            with running(build_app(settings, environ={}), listener):
                yield Endpoint(url, site, fal)


@pytest.fixture(scope="module")
def proxy(fal: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Our endpoint with a database, whose proxy is at /api/fal/proxy of the pages' own site.

    Who shows no key is somebody: what the printed lines leave to the site's own server.
    """
    folder = tmp_path_factory.mktemp("proxy")
    with our_server(fal, folder, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server:
        yield server


def recipe_page(url: str) -> bytes:
    """The page as it is printed, but for the address of the function."""
    printed = "https://your-env.service.tcloudbase.com/fal-image-gen"
    html = PAGE.read_text(encoding="utf-8")
    assert html.count(printed) == 1
    return html.replace(printed, url).encode()


@contextmanager
def serving(html: bytes) -> Iterator[str]:
    """One page at every address; gives its origin."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(html)))
            self.end_headers()
            self.wfile.write(html)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
