"""`scripts/dev`: the whole thing on one machine, with no key, no cloud and no money.

Starts the fal emulator and the server, makes one picture through the real route and serves until
Ctrl-C. Opens the endpoint to everybody, which is why it listens on loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from .. import app, server
from ..keyring import KeyUnavailable
from ..settings import FAL_KEY_NAMES, PREFIX, Settings, load
from ..uploads import largest_by_type
from ..web import App
from .emulator import Emulator
from .home import kept_secret
from .platforms import DISGUISES

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[3]
DEFAULT_PROMPT = "a calico cat sitting on a window sill at sunset, soft light"
QUEUE_S, RUN_S = 0.3, 1.0
MAX_PORTS_TRIED = 50


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    data = ROOT / ".fal-image"
    listener = _listen(options.port)
    with ExitStack() as running:
        url = server.url_of(listener)
        emulator_url = None if options.live else _emulator(running)
        settings = load(_environment(os.environ, data, url, emulator_url))
        dressed = _dressed(settings, options.platform)
        largest = max(largest_by_type(settings.max_image_bytes).values())
        running.enter_context(server.running(dressed, listener, max_upload_bytes=largest))
        _say(_banner(url, options))
        worked = _first_picture(url, options.once or DEFAULT_PROMPT, data)
        if options.once or not worked:
            return 0 if worked else 1
        _say(f"\nserving on {url} until Ctrl-C; try:\n{_curl(url)}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            _say("\nstopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/dev", description=__doc__.partition("\n")[0])
    parser.add_argument("--once", metavar="PROMPT", help="make one picture and exit")
    parser.add_argument("--port", type=int, help="the port (default: 9000 or the next free one)")
    parser.add_argument(
        "--as",
        dest="platform",
        choices=sorted(DISGUISES),
        default="wsgi",
        help="the platform whose genuine events every request is turned into",
    )
    parser.add_argument("--live", action="store_true", help="use fal and FAL_KEY: this costs money")
    return parser


def _listen(port: int | None) -> socket.socket:
    """A listening socket: an explicit port or none; else 9000 or the next free one."""
    if port is not None:
        try:
            return server.bind(HOST, port)
        except (OSError, OverflowError) as error:
            _give_up(f"cannot listen on port {port} ({error}); leave --port out to take a free one")
    for candidate in range(server.DEFAULT_PORT, server.DEFAULT_PORT + MAX_PORTS_TRIED):
        try:
            return server.bind(HOST, candidate)
        except OSError:
            continue
    return server.bind(HOST, 0)


def _emulator(running: ExitStack) -> str:
    emulator = running.enter_context(Emulator(queue_s=QUEUE_S, run_s=RUN_S))
    return emulator.url


def _environment(
    environ: Mapping[str, str], data: Path, url: str, emulator_url: str | None
) -> dict[str, str]:
    """The settings of a development server; with the emulator nothing outside has a say."""
    own = {
        "FAL_IMAGE_PUBLIC_URL": url,
        "FAL_IMAGE_ALLOW_ANONYMOUS": "1",
        "FAL_IMAGE_SECRET": kept_secret(data),
        "FAL_IMAGE_STORAGE_URL": (data / "pictures").as_uri(),
        "FAL_IMAGE_DATABASE_URL": (data / "jobs.db").as_uri().replace("file:", "sqlite:", 1),
        "FAL_IMAGE_LOG_LEVEL": "WARNING",
    }
    if emulator_url is None:
        if not any(environ.get(name) for name in FAL_KEY_NAMES):
            _give_up("--live needs FAL_KEY: a key from fal.ai/dashboard/keys")
        theirs = {k: v for k, v in environ.items() if k in FAL_KEY_NAMES or k.startswith(PREFIX)}
        return own | theirs
    return own | {"FAL_KEY": "emulator:no-money", "FAL_IMAGE_EMULATOR_URL": emulator_url}


def _dressed(settings: Settings, platform: str) -> App:
    """The app behind a platform's genuine events, there and back."""
    try:
        services = app.compose(settings, environ=os.environ)
    except KeyUnavailable as error:
        _give_up(str(error))
    if services.settings.problems:
        _give_up("\n".join(services.settings.problems))
    return DISGUISES[platform](app.front(services))


def _banner(url: str, options: argparse.Namespace) -> str:
    money = "fal itself, WITH MONEY" if options.live else "emulator, no money"
    moved = options.port is None and not url.endswith(f":{server.DEFAULT_PORT}")
    taken = f" (port {server.DEFAULT_PORT} is taken)" if moved else ""
    return f"fal-image on {url}{taken} · {money} · events: {options.platform}"


def _first_picture(url: str, prompt: str, data: Path) -> bool:
    """Make one picture through the real route and print everything about it."""
    request = urllib.request.Request(
        f"{url}/",
        data=json.dumps({"prompt": prompt}).encode(),
        headers={"content-type": "application/json"},
    )
    # The way to ourselves never leads through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        _say(error.read().decode("utf-8", "replace"))
        return False
    print(json.dumps(answer, indent=2, ensure_ascii=False))  # noqa: T201
    if answer["state"] != "done":
        _say(f"no picture yet; the job is kept: GET /jobs/{answer['jobId']}")
        return False
    _say(f"link    {answer['tempFileURL']}")
    file_id = str(answer["fileID"])
    if file_id.startswith("file:///"):
        _say(f"picture {data / 'pictures' / file_id.removeprefix('file:///')}")
    return True


def _curl(url: str) -> str:
    body = '{"prompt": "a calico cat at sunset", "image_size": "landscape_16_9"}'
    return f"curl -X POST '{url}' -H 'Content-Type: application/json' -d '{body}'"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _give_up(message: str) -> NoReturn:
    print(f"scripts/dev: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main())
