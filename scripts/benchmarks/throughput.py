"""The proxy beside fal's own for Express: what each adds to a call, and how many calls each takes.

Both stand in front of the same emulator, as servers in processes of their own: `fal-image serve`
with a database on SQLite, and `@fal-ai/server-proxy` on Express. The client is no SDK, so that the
servers are what is measured. Before each kind of call is measured both have answered it for some
seconds, by turns: Node's compiler learns for as long.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fal_image.server import DEFAULT_THREADS
from support.entrypoints import FAL_KEY, KEY

from . import contenders, load, servers, world
from .contenders import OURS
from .report import COMPARED, Figure, figure

RUNS = 300
CLIENTS = 32
ROUNDS = 9
ROUND_S = 0.8
WARM_UP_ROUNDS = 9
UNFINISHED_S = 3600.0  # the emulator must not paint on the same cores
EXPRESS, DIRECT = "Express", "direct"
SUBMIT = "https://queue.fal.run/fal-ai/flux/schnell"
STATUS = "https://queue.fal.run/fal-ai/flux/requests/{}/status"
CAT = json.dumps({"prompt": "a calico cat at sunset", "seed": 7}).encode()


class Call(NamedTuple):
    """A prepared request, and the server that it goes to."""

    url: str
    content: bytes

    def client(self) -> load.Client:
        return load.Client(self.url, self.content)


def throughput(most: int) -> list[Figure]:
    with _servers() as urls:
        submits = {name: _call(name, url, "POST", SUBMIT, CAT) for name, url in urls.items()}
        client = submits[OURS].client()
        job = json.loads(client.ask()[1])["request_id"]  # which its caller may ask for
        client.close()
        statuses = {name: _call(name, url, "GET", STATUS.format(job)) for name, url in urls.items()}
        return [
            *_measured("a status", "statuses", statuses, most),
            *_measured("a submit", "submits", submits, most),
        ]


def _measured(one: str, several: str, calls: Mapping[str, Call], most: int) -> list[Figure]:
    _by_turns({name: calls[name] for name in (OURS, EXPRESS)}, min(WARM_UP_ROUNDS, most))
    return [
        *_added(one, calls, min(RUNS, most)),
        *_rates(several, calls, min(ROUNDS, most)),
    ]


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        fal = stack.enter_context(world.emulator(UNFINISHED_S))
        sink = stack.enter_context(world.sink())
        home = stack.enter_context(TemporaryDirectory())
        environ = {**contenders.surroundings(home, fal), **contenders.bucket(sink)}
        threads = DEFAULT_THREADS
        ours, _ = stack.enter_context(servers.fal_image(home, environ, threads=threads))
        express, _ = stack.enter_context(servers.express(environ))
        yield {DIRECT: fal, OURS: ours, EXPRESS: express}


def _call(name: str, url: str, method: str, target: str, body: bytes = b"") -> Call:
    """The same call of fal's: straight to it, or through a proxy. Express's knows no callers, and
    would hand on whatever key it is sent."""
    if name == DIRECT:
        address = f"{url}/{target.removeprefix('https://')}"
        key = {"authorization": f"Key {FAL_KEY}"}
        return Call(url, load.request(method, address, key, body))
    headers = {"x-fal-target-url": target, "user-agent": "bench"}
    if name == OURS:
        headers["authorization"] = f"Key {KEY}"
    return Call(url, load.request(method, f"{url}/api/fal/proxy", headers, body))


def _added(words: str, calls: Mapping[str, Call], runs: int) -> list[Figure]:
    """One client, by turns: each proxied call less the direct one's median."""
    took_ms: dict[str, list[float]] = defaultdict(list)
    clients = {name: call.client() for name, call in calls.items()}
    for _ in range(runs):
        for name, client in clients.items():
            taken, _ = client.ask()
            took_ms[name].append(taken)
    for client in clients.values():
        client.close()
    base_ms = median(took_ms.pop(DIRECT))
    added = {name: [taken - base_ms for taken in found] for name, found in took_ms.items()}
    return _beside_express(
        f"{words}, 1 client, added to a direct one's {base_ms:.1f} ms", "ms", added, "<= 1.0"
    )


def _rates(words: str, calls: Mapping[str, Call], rounds: int) -> list[Figure]:
    found = _by_turns(calls, rounds)
    direct = found.pop(DIRECT)
    return [
        *_beside_express(f"{words}, {CLIENTS} clients", "/s", found, ">= 1.0"),
        figure(f"{words}, {CLIENTS} clients: the emulator alone", "/s", direct),
    ]


def _by_turns(calls: Mapping[str, Call], rounds: int) -> dict[str, list[float]]:
    """The answers a second of each, a round at a time."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, call in calls.items():
            answers_s = load.rate(call.url, call.content, clients=CLIENTS, seconds=ROUND_S)
            found[name].append(answers_s)
    return found


def _beside_express(
    words: str, unit: str, values: Mapping[str, list[float]], bound: str
) -> list[Figure]:
    return [
        figure(
            f"{words}: {OURS}",
            unit,
            values[OURS],
            goal=f"{bound} x {EXPRESS}",
            beside=(EXPRESS, values[EXPRESS]),
        ),
        figure(f"{words}: {EXPRESS}", unit, values[EXPRESS], goal=COMPARED),
    ]
