"""Two hundred callers at once who wait for their pictures, on one server."""

from __future__ import annotations

import json
from statistics import quantiles
from tempfile import TemporaryDirectory

from support.entrypoints import KEY

from . import contenders, load, servers, world
from .report import Figure, figure

CALLERS = 200
FAL_S = 3.0
RUNS = 2
GOAL = "<= 3.9 s"
BODY = {**world.CAT, "image_size": {"width": 512, "height": 512}}


def crowd(most: int) -> list[Figure]:
    """`fal-image serve` with a thread for each caller and the sink, as the recipe without a
    database; then with one on SQLite, where fal's webhooks come in beside the callers. An answer
    without a stored picture is an error, and its time counts nowhere; the
    program stops where hardly any has one."""
    kept = _crowd(most, ", with SQLite and webhooks", has_database=True)
    return [*_crowd(most, "", has_database=False), *kept]


def _crowd(most: int, words: str, *, has_database: bool) -> list[Figure]:
    took_ms: list[float] = []
    errors: list[float] = []
    late_s: list[float] = []
    used_ms: list[float] = []
    with world.emulator(FAL_S) as fal, world.sink() as sink, TemporaryDirectory() as home:
        environ = {**contenders.surroundings(home, fal), **contenders.bucket(sink)}
        serving = servers.fal_image(home, environ, threads=CALLERS, has_database=has_database)
        with serving as (url, pid):
            content = load.request(
                "POST", url, {"authorization": f"Bearer {KEY}"}, json.dumps(BODY).encode()
            )
            load.answers(url, content, clients=1)
            for _ in range(min(RUNS, most)):
                before_ms = contenders.cpu_ms(pid)
                answers = load.answers(url, content, clients=CALLERS)
                used_ms.append((contenders.cpu_ms(pid) - before_ms) / CALLERS)
                took = [answer.took_ms for answer in answers if _has_picture(answer)]
                if len(took) < 2:
                    raise SystemExit(f"no pictures: {answers[0]}")
                errors.append(len(answers) - len(took))
                took_ms += took
                late_s.append(quantiles(took, n=100)[98] / 1000)
            peak_mb = contenders.peak_mb(pid)
    words = f"{CALLERS} callers at once, fal at {FAL_S:.0f} s{words}"
    return [
        figure(f"{words}: each", "ms", took_ms),
        figure(f"{words}: 99th percentile", "s", late_s, goal=GOAL),
        figure(f"{words}: the server's CPU a job", "ms", used_ms),
        figure(f"{words}: errors", "", [sum(errors)], goal="<= 0"),
        figure(f"{words}: peak memory", "MB", [peak_mb], goal="<= 150 MB"),
    ]


def _has_picture(answer: load.Answer) -> bool:
    return answer.status == 200 and bool(json.loads(answer.body)["images"])
