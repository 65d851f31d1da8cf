"""One imitated fal from its first call to its last: its parts, its counts and its faults.

Knows which part answers a call and what every answer has in common. Refuses to know sockets and
what any host of fal answers.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from .addresses import CDN, PLATFORM, QUEUE, REST, RUN, FalCall
from .errands import Errands
from .exchange import Answer, Flow, Handover, HangUp, Reply, json_answer
from .faults import Fault, Script
from .files_api import CdnApi, RestApi
from .gate import Gate
from .jobs import Job, Queue
from .media import Media, Upload
from .models import Outcome, fulfilled, rejected
from .pictures import Studio
from .platform_api import PlatformApi
from .queue_api import QueueApi, Route
from .realtime import RealtimeApi, wants_socket
from .run_api import RunApi
from .supply import MOST_BYTES, Supplier
from .webhooks import Postman, Signer

# A browser may call from anywhere and read these headers, which @fal-ai/client wants.
CORS = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "x-fal-request-id, x-fal-error-type, "
    "x-fal-request-timeout-type, x-fal-billable-units",
}
REASONS = {
    "408": "Request Timeout",
    "409": "Conflict",
    "429": "Too Many Requests",
    "500": "Internal Server Error",
    "503": "Service Unavailable",
}
NGINX = {"502-nginx": "502 Bad Gateway", "504-nginx": "504 Gateway Time-out"}
SPOILING = {"lost", "slow", "cut", "no-request-id"}  # the call is carried out as ever
NGINX_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True)
class Conduct:
    """How the imitation behaves; Emulator says what each means."""

    queue_s: float
    run_s: Callable[[], float]
    require_key: bool
    revoked_key_ids: frozenset[str]
    locked_key_ids: frozenset[str]
    webhook_backoff_s: float
    comment_s: float
    fetch_s: float
    detours: Mapping[str, str]
    clock: Callable[[], float]


@dataclass(frozen=True)
class Entry:
    """One submit, run, stream or realtime message that was taken, by the door `via`.

    `run_s` is how long its model runs; `billable_units` is None until it has ended.
    """

    request_id: str
    model: str
    input: object
    via: str
    submitted_at: str
    run_s: float
    is_cancelled: bool
    billable_units: int | None
    webhook_url: str | None
    webhook_answers: tuple[int | str, ...]


class Imitation:
    def __init__(self, conduct: Conduct, studio: Studio, signer: Signer) -> None:
        self.script = Script(conduct.clock)
        self._conduct = conduct
        self._studio = studio
        self._media = Media()
        self._queue = Queue(self._complete, conduct.clock)
        self._errands = Errands()
        self._postman = Postman(
            queue=self._queue,
            signer=signer,
            errands=self._errands,
            script=self.script,
            data_uri=studio.data_uri,
            backoff_s=conduct.webhook_backoff_s,
            detours=conduct.detours,
        )
        self._supplier = Supplier(
            errands=self._errands,
            find=self._file,
            keep=self._media.keep,
            timeout_s=conduct.fetch_s,
        )
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        gate = Gate(
            require_key=conduct.require_key,
            revoked_key_ids=conduct.revoked_key_ids,
            locked_key_ids=conduct.locked_key_ids,
            clock=conduct.clock,
        )
        self._hosts: Mapping[str, QueueApi | RunApi | RestApi | CdnApi | PlatformApi] = {
            QUEUE: QueueApi(
                queue=self._queue,
                gate=gate,
                script=self.script,
                accept=self._accept,
                data_uri=studio.data_uri,
                run_s=conduct.run_s,
                comment_s=conduct.comment_s,
                pause=self._stopped.wait,
            ),
            RUN: RunApi(
                queue=self._queue,
                gate=gate,
                accept=self._accept,
                publish=self._media.publish,
                data_uri=studio.data_uri,
                run_s=conduct.run_s,
            ),
            REST: RestApi(gate=gate, media=self._media, jwks=signer.jwks),
            CDN: CdnApi(gate=gate, media=self._media, studio=studio),
            PLATFORM: PlatformApi(gate=gate),
        }

        self._realtime = RealtimeApi(
            queue=self._queue,
            gate=gate,
            accept=self._accept,
            data_uri=studio.data_uri,
            run_s=conduct.run_s,
            is_stopped=self._stopped.is_set,
        )

    def respond(self, call: FalCall) -> Reply:
        if call.method == "OPTIONS":
            return _preflight(call)
        is_realtime = call.host == RUN and wants_socket(call.headers)
        api = self._realtime if is_realtime else self._hosts[call.host]
        route = api.route(call)
        if isinstance(route, Answer):
            return _dressed(call, route)
        return self._carry_out(call, route)

    def calls(self) -> Counter[str]:
        """How many calls of each kind came in, whatever became of them."""
        with self._lock:
            return self._calls.copy()

    def ledger(self) -> list[Entry]:
        return [self._entry(job) for job in self._queue.jobs()]

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ends every wait, stream and webhook, and drops all files."""
        self._stopped.set()
        self._queue.stop()
        self._errands.stop()
        self._media.clear()

    def _carry_out(self, call: FalCall, route: Route) -> Reply:
        name, handler = route
        with self._lock:
            self._calls[name] += 1
        fault = self.script.take(name)
        if fault is None:
            return _dressed(call, handler(call))
        if fault.kind == "reset":
            return HangUp(reset=True)
        if fault.kind in NGINX:
            title = NGINX[fault.kind]
            body = NGINX_PAGE.format(title).encode()
            return Answer(int(title[:3]), body, {"content-type": "text/html"})
        if fault.kind in REASONS:
            return _dressed(call, json_answer(int(fault.kind), {"detail": REASONS[fault.kind]}))
        if fault.kind in SPOILING:
            return self._spoil(fault, _dressed(call, handler(call)))
        return _dressed(call, handler(replace(call, fault=fault)))

    def _spoil(self, fault: Fault, reply: Reply) -> Reply:
        """What reaches the caller of a call that was carried out."""
        if fault.kind == "lost":
            return HangUp()
        if fault.kind == "slow" and self._stopped.wait(fault.options["seconds"]):
            return HangUp()
        if fault.kind == "cut" and isinstance(reply, (Answer, Handover)):
            return replace(reply, cut=True)
        if fault.kind == "cut" and isinstance(reply, Flow):
            first = next(iter(reply.chunks), b"")
            return replace(reply, chunks=[first[: len(first) // 2]], hang_up=True)
        if fault.kind == "no-request-id" and isinstance(reply, Answer):
            body = json.loads(reply.body)
            body.pop("request_id", None)
            return json_answer(reply.status, body, CORS)
        return reply

    def _accept(self, job: Job) -> None:
        self._queue.take(job, queue_s=self._conduct.queue_s if job.via == "queue" else 0.0)
        if job.webhook_url:
            self._postman.expect(job)
        if job.has_inputs:
            self._draw_ahead(job)
        else:
            self._errands.send(partial(self._supply, job))

    def _supply(self, job: Job) -> None:
        """Fetch what the job works on, as soon as it runs."""
        if self._queue.wait_to_run(job):
            self._queue.supply(job, self._supplier.supplied(job.order))
            self._draw_ahead(job)

    def _draw_ahead(self, job: Job) -> None:
        """The files of fal exist when its job is done, so they are drawn while it "runs"."""
        if job.run_s and not job.order.errors:
            for picture in job.order.pictures():
                self._studio.draw_ahead(picture)

    def _file(self, path: str) -> bytes | None:
        """A file of the CDN, at most one byte more than a model takes."""
        content = self._media.find(path)
        if isinstance(content, Upload):
            with content.file.open("rb") as stream:
                return stream.read(MOST_BYTES + 1)
        return self._studio.file_of(content) if content else None

    def _complete(self, job: Job) -> Outcome:
        if job.order.errors:
            return rejected(job.order)
        fault = self.script.take("result", "completion", armed_by=job.ends_at)
        return fulfilled(job.order, self._media.publish, job.run_s, fault)

    def _entry(self, job: Job) -> Entry:
        outcome = self._queue.outcome(job)
        return Entry(
            job.request_id,
            job.order.model.id,
            job.order.input,
            job.via,
            job.born.isoformat(),
            job.run_s,
            job.is_cancelled,
            outcome.billable_units if outcome else None,
            job.webhook_url,
            tuple(job.webhook_answers),
        )


def _preflight(call: FalCall) -> Answer:
    """What a browser asks before it sends headers of fal's from another origin."""
    wanted = call.headers.get("access-control-request-headers", "*")
    allowed = {
        "access-control-allow-methods": "GET, HEAD, POST, PUT, OPTIONS",
        "access-control-allow-headers": wanted,
        "access-control-max-age": "600",
    }
    return Answer(204, b"", CORS | allowed)


def _dressed(call: FalCall, reply: Reply) -> Reply:
    """Model hosts name every answer; browsers may read all of them."""
    if isinstance(reply, (HangUp, Handover)):
        return reply
    name = {"x-fal-request-id": str(uuid.uuid4())} if call.host in {QUEUE, RUN} else {}
    return replace(reply, headers={**CORS, **name, **reply.headers})
