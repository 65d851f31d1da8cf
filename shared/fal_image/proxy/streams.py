"""Answers of fal that come event by event: a request's statuses, and a model that shows its work.

The one call that really goes to fal.run is here. No queue stands behind it, so its job is
`submitting` until the last event, which is the result, has come; if it is cut before, nobody can
say what became of it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack

from msgspec import Struct
from msgspec.structs import replace

from ..errors import AppError, FalFailed, SubmitUnknown
from ..fal import outputs, refusals
from ..fal.client import SILENCE_S, result_of, submit_error, submit_loss
from ..generate import Generator as House
from ..generate import outcomes
from ..inputs import field_error
from ..jobs import Job
from ..logs import logger
from ..web import Event, Headers, Response, decode_events, encode_event
from ..wire import MAX_ANSWER_BYTES, Answer, Reply, WireError
from .answers import encoded, headers_of, in_pieces, passed_on, with_urls
from .asked import Asked
from .intake import Intake
from .keeping import Keeping
from .passing import JSON, Passing, refuse_key
from .results import concluded

# Two ends of lines in a row end an event (HTML standard, "Server-sent events").
_BLANK = re.compile(rb"(\r\n|\n|\r(?!\n))(\r\n|\n|\r)")
_LONGEST_BLANK = 4

FOLLOW_S = 600.0  # of one connection; whoever follows for longer asks again
STREAM_SILENCE_S = 60.0  # a model that shows its work says nothing until it has begun


class Streams(Struct, frozen=True):
    intake: Intake
    passing: Passing
    keeping: Keeping

    def follow(self, asked: Asked, urls: str | None) -> Response:
        """The statuses of a request as they change. Raises FalFailed, FalAuthFailed."""
        try:
            ends_at = asked.turn.answer_by
            if asked.can_stream:
                ends_at = self.passing.fal.clock() + FOLLOW_S
            answer, close = self._opened("GET", asked, ends_at, SILENCE_S)
        except WireError as error:
            raise _not_reached(error) from error
        if isinstance(answer, Answer):
            refuse_key(answer)
            return passed_on(answer, urls=urls)
        pieces = Flow(_statuses(answer, asked, urls), close)
        return in_pieces(answer.status, headers_of(answer.headers), pieces)

    def run(self, asked: Asked) -> Response:
        """Pay for a stream and pass it on. What fal refuses is passed on too, and costs nothing.

        Raises SubmitUnknown if fal may have begun, any other AppError if it certainly has not.
        """
        if asked.job_id is not None:
            raise field_error("Idempotency-Key", "cannot be kept for a stream: use the queue")
        house, order = self.intake.house(), self.intake.order(asked)
        job, arguments = house.begin(order, asked.turn, self.intake.wish(asked))
        asked.note(jobId=job.job_id)
        asked, headers = self._with_time(asked), asked.wishes() | JSON
        try:
            answer, close = self._opened(
                "POST",
                asked,
                asked.turn.answer_by,
                STREAM_SILENCE_S,
                headers,
                encoded(arguments),
            )
        except WireError as error:
            failure = submit_loss(error).adding(jobId=job.job_id)
            house.steps.not_submitted(job, failure)
            raise failure from error
        shown = _Shown(job, asked, house, self.keeping, answer.headers)
        if isinstance(answer, Reply):
            flow = Flow(shown.pieces(answer.chunks), close)
            # Of an answer that goes out whole, a cut can be told as the error that it is.
            body = flow if asked.can_stream else b"".join(flow)
            return in_pieces(answer.status, headers_of(answer.headers), body)
        if answer.status < 300:  # a model that shows nothing on the way
            return Response(200, shown.result(answer.body), headers_of(answer.headers))
        return shown.refused(answer)

    def _with_time(self, asked: Asked) -> Asked:
        """A stream that leaves in pieces was answered long before it is over: what comes after it
        has the time of the whole turn."""
        if not asked.can_stream:
            return asked
        return replace(asked, turn=replace(asked.turn, answer_by=asked.turn.ends_at))

    def _opened(
        self,
        method: str,
        asked: Asked,
        ends_at: float,
        silence_s: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[Reply | Answer, Callable[[], None]]:
        """fal's answer, open if it is a stream, whole if it is not; and what drops it. Raises
        WireError."""
        fal = self.passing.fal
        with ExitStack() as stack:
            reply = stack.enter_context(
                fal.wire.stream(
                    method,
                    asked.target.url,
                    key=self.passing.key(),
                    timeout_s=ends_at - fal.clock(),
                    silence_s=silence_s,
                    headers=headers,
                    body=body,
                )
            )
            media_type = (reply.headers.get("content-type") or "").partition(";")[0].strip()
            if reply.status == 200 and media_type == "text/event-stream":
                return reply, stack.pop_all().close
            return Answer(reply.status, reply.headers, _whole(reply.chunks)), _nothing_open


class Flow:
    """Pieces of an answer, and what must be closed when nobody wants any more of them.

    The first piece is waited for here: what fails before it can still be told as an error.
    """

    def __init__(self, pieces: Generator[bytes, None, None], close: Callable[[], None]) -> None:
        self._pieces = pieces
        self._close = close
        self._first: bytes | None = None
        self._first = next(self, b"")

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._pieces)
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        try:
            self._pieces.close()
        finally:
            self._close()


class _Shown(Struct, frozen=True):
    """A paid stream on its way, and what its end means for the job."""

    job: Job
    asked: Asked
    house: House
    keeping: Keeping
    headers: Headers

    def pieces(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """fal's bytes as they come; then, where pictures are kept, the result once more with links
        to them, for the last event is the result.

        A cut raises SubmitUnknown, after an event that says so: some clients take the end of a
        connection for the end of the stream, and nobody shall take a half-done picture for the
        result.
        """
        last, has_begun = _LastEvent(), False
        try:
            for chunk in chunks:
                last.feed(chunk)
                if not self.keeping.tells_all_last:
                    has_begun = True
                    yield chunk
            why = "the stream ended without a result"
        except WireError as error:
            last.data, why = None, f"the stream was cut ({error.reason})"
        except GeneratorExit:
            self._lost("the caller hung up before the stream was over")
            raise
        if last.data is None:
            lost = self._lost(why)
            if has_begun:
                # No JSON: @fal-ai/client takes any for a picture, whatever its event is called.
                told = f"{lost.code}: {lost.detail} (job {self.job.job_id})"
                yield b"\n\n" + encode_event(Event(told, "error"))
            raise lost
        if _is_error(last.data):
            self._lost("fal ended the stream with an error")
            if self.keeping.tells_all_last:
                yield encode_event(Event(last.data.decode()))
            return
        kept = self.result(last.data)
        if kept != last.data or self.keeping.tells_all_last:
            yield encode_event(Event(kept.decode()))

    def result(self, body: bytes) -> bytes:
        """Write down what fal made, act on it, and give the result as the caller gets it."""
        found = result_of(self.headers, body)
        request_id = self.headers.get("x-fal-request-id") or self.job.job_id
        job = concluded(self.job, request_id, outcomes.of_result(found), self.asked, self.house)
        if not isinstance(found.payload, dict):
            return body
        kept = self.keeping.shown(job, found.payload, self.asked, self.house)
        return body if kept is found.payload else encoded(kept)

    def refused(self, answer: Answer) -> Response:
        """What fal answered instead of a stream."""
        error = submit_error(answer, self.job.model)
        self.house.steps.not_submitted(self.job, error)
        if isinstance(error, SubmitUnknown):
            raise error.adding(jobId=self.job.job_id)
        refuse_key(answer)
        return passed_on(answer)

    def _lost(self, why: str) -> SubmitUnknown:
        error = SubmitUnknown(why, jobId=self.job.job_id)
        try:
            self.house.steps.not_submitted(self.job, error)
        except AppError as failure:  # its lease ends, and whoever finds it comes to the same end
            logger.error("job %s is lost unseen: %s", self.job.job_id, failure.detail)
        return error


class _Blocks:
    """The events and comments of a stream, each as soon as its blank line is there. No byte is
    looked at twice: a picture inside an event has millions."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """What has ended with this chunk. Raises WireError for an event that is too long."""
        seen = max(0, len(self._rest) - _LONGEST_BLANK)
        self._rest += chunk
        if len(self._rest) > MAX_ANSWER_BYTES:
            raise WireError(f"an event is longer than {MAX_ANSWER_BYTES} bytes", sent=True)
        ends = [0, *(blank.end() for blank in _BLANK.finditer(self._rest, seen))]
        ended = [bytes(self._rest[start:end]) for start, end in itertools.pairwise(ends)]
        del self._rest[: ends[-1]]
        return ended


class _LastEvent:
    """What the last event of a stream says, so far."""

    def __init__(self) -> None:
        self.data: bytes | None = None
        self._blocks = _Blocks()

    def feed(self, chunk: bytes) -> None:
        """Raises WireError for an event that is too long."""
        for event in decode_events(self._blocks.feed(chunk)):
            self.data = event.data.encode()


def _is_error(data: bytes) -> bool:
    """Whether an event is fal's error and no output; its `detail` is what every error has."""
    payload = refusals.parse_json(data)
    return isinstance(payload, dict) and "detail" in payload and not outputs.sources(payload)


def _statuses(reply: Reply, asked: Asked, urls: str | None) -> Generator[bytes, None, None]:
    """The statuses as they come. Where they cannot leave in pieces, those there were by the time
    the answer was due."""
    try:
        if urls is None:
            yield from reply.chunks
            return
        blocks = _Blocks()
        for chunk in reply.chunks:
            for block in blocks.feed(chunk):
                yield _relinked(block, urls)
    except WireError as error:
        if asked.can_stream:
            raise _not_reached(error) from error


def _relinked(block: bytes, urls: str) -> bytes:
    """A status whose addresses lead to `urls`; a comment as it is."""
    events = decode_events([block])
    told = [Event(with_urls(event.data.encode(), urls).decode(), event.name) for event in events]
    return b"".join(map(encode_event, told)) or block


def _whole(chunks: Iterator[bytes]) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise WireError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", sent=True)
    return bytes(body)


def _nothing_open() -> None:
    """A whole answer has nothing that could be closed."""


def _not_reached(error: WireError) -> AppError:
    return FalFailed(f"fal could not be reached ({error.reason})", retryable=True)
