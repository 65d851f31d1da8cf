"""fal.run's realtime WebSocket: messages in MessagePack, each answered with a model's output.

Knows who may open a socket, how messages wait for their turn, and every frame that fal sends (both
clients' sources; fal's SDK, realtime apps). Frames themselves are the business of `websockets`.
Refuses to know how a picture is made.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from email.message import Message

import msgspec
from websockets.datastructures import Headers
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from ...fal import catalog
from .addresses import FalCall
from .exchange import BLOCK_BYTES, IDLE_CONNECTION_S, Answer, Handover, Reply, json_answer
from .gate import Gate
from .jobs import LOOK_S, Job, Queue
from .models import Endpoint, Order, Outcome, endpoint, unknown
from .pictures import Picture
from .queue_api import MAX_INPUT_BYTES, Route

SUFFIX = "/realtime"
MOST_BUFFERED = 60  # messages that wait while one is worked on (both clients, max_buffering)
IDLE_S = 60.0  # without a message; at fal each app has its own limit (fal's SDK, session_timeout)
GOODBYE_S = 2.0  # for a client to close its side; then it is cut off
UNAUTHORIZED = {"status": "error", "error": "Unauthorized"}
DATA = {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}


def wants_socket(headers: Message) -> bool:
    return headers.get("upgrade", "").strip().lower() == "websocket"


class RealtimeApi:
    def __init__(
        self,
        *,
        queue: Queue,
        gate: Gate,
        accept: Callable[[Job], None],
        data_uri: Callable[[Picture], str],
        run_s: Callable[[], float],
        is_stopped: Callable[[], bool],
    ) -> None:
        """`accept` takes a message as a new job; conversations end soon after `is_stopped`."""
        self._queue = queue
        self._gate = gate
        self._accept = accept
        self._data_uri = data_uri
        self._run_s = run_s
        self._is_stopped = is_stopped

    def route(self, call: FalCall) -> Route | Answer:
        target = endpoint(call.segments)
        if target is None:
            return json_answer(404, {"detail": "Not Found"})
        return "realtime", lambda call: self._open(call, target)

    def _open(self, call: FalCall, target: Endpoint) -> Reply:
        """A bad key is refused before the socket opens; a bad token is told on it, as by fal."""
        token = call.query.get("fal_jwt_token", "")
        refusal = self._refusal(call, target, token)
        if refusal and not token:
            return refusal
        model = catalog.find(target.id.removesuffix(SUFFIX))
        if model is None or not model.realtime or not target.id.endswith(SUFFIX):
            return unknown(target)
        most = _whole_number(call.query.get("max_buffering", str(MOST_BUFFERED)))
        if not 1 <= most <= MOST_BUFFERED:
            text = f"max_buffering must be a whole number from 1 to {MOST_BUFFERED}"
            return json_answer(422, {"detail": text})
        protocol = ServerProtocol(max_size=MAX_INPUT_BYTES)
        if faulty := _shake_hands(protocol, call.headers):
            return faulty
        greeting = b"".join(protocol.data_to_send())
        if refusal:
            return Handover(greeting, lambda *to: _Line(protocol, *to).turn_away())
        begin, heard_at = self._beginning(model, target), self._queue.now()
        return Handover(
            greeting,
            lambda *to: _Conversation(
                _Line(protocol, *to),
                queue=self._queue,
                begin=begin,
                data_uri=self._data_uri,
                is_stopped=self._is_stopped,
                most_waiting=most,
                heard_at=heard_at,
            ).hold(),
        )

    def _refusal(self, call: FalCall, target: Endpoint, token: str) -> Answer | None:
        if self._gate.token_opens(token, target.app):
            return None
        return self._gate.refusal(call.headers, app=target.app)

    def _beginning(self, model: catalog.Model, target: Endpoint) -> Callable[[bytes], Job]:
        """What makes a job of a message, as if its JSON had been posted."""

        def begin(arguments: bytes) -> Job:
            order = Order.of(model, arguments)
            job = Job(
                order,
                target,
                "realtime",
                run_s=0.0 if order.errors else self._run_s(),
                created_at=self._queue.now(),
                has_inputs=not order.wanted,
            )
            self._accept(job)
            return job

        return begin


class _Line:
    """A WebSocket on a connection, used by one thread. It never raises: who is gone is gone."""

    def __init__(self, protocol: ServerProtocol, connection: socket.socket, early: bytes) -> None:
        """`early` is what came together with the handshake."""
        self._protocol = protocol
        self._connection = connection
        self._early = early
        self._parts: list[bytes] = []
        self._is_text = False

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN

    def listen(self, wait_s: float) -> list[bytes | None]:
        """The messages that came within that time; None stands for one of text."""
        if self._early:
            data: bytes | None = self._early
            self._early = b""
        else:
            data = self._receive(wait_s)
        if data:
            self._protocol.receive_data(data)
        elif data is not None:
            self._protocol.receive_eof()
        messages = [m for frame in self._protocol.events_received() for m in self._joined(frame)]
        self._flush()
        return messages

    def send(self, message: bytes) -> None:
        if self.is_open:
            self._protocol.send_binary(message)
            self._flush()

    def tell(self, control: Mapping[str, object]) -> None:
        """Control frames are JSON in text frames."""
        if self.is_open:
            self._protocol.send_text(json.dumps(control, separators=(",", ":")).encode())
            self._flush()

    def close(self, code: CloseCode) -> None:
        if self.is_open:
            self._protocol.send_close(code)
            self._flush()

    def see_off(self) -> None:
        """Let the client close its side: closing first could take our last words from it."""
        leaves_at = time.monotonic() + GOODBYE_S
        while self._protocol.state is State.CLOSING and time.monotonic() < leaves_at:
            self.listen(LOOK_S)

    def turn_away(self) -> None:
        """What a token gets that opens nothing."""
        self.tell(UNAUTHORIZED)
        self.close(CloseCode.POLICY_VIOLATION)
        self.see_off()

    def _joined(self, frame: object) -> list[bytes | None]:
        """The message that a frame completes. Pings and closes are answered already."""
        if not isinstance(frame, Frame) or frame.opcode not in DATA:
            return []
        if frame.opcode is not Opcode.CONT:
            self._parts, self._is_text = [], frame.opcode is Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return []
        return [None if self._is_text else b"".join(self._parts)]

    def _receive(self, wait_s: float) -> bytes | None:
        """None when nothing came, b"" when nothing will come."""
        self._connection.settimeout(wait_s)
        try:
            return self._connection.recv(BLOCK_BYTES)
        except (BlockingIOError, TimeoutError):
            return None
        except ConnectionError:
            return b""

    def _flush(self) -> None:
        self._connection.settimeout(IDLE_CONNECTION_S)
        try:
            for data in self._protocol.data_to_send():
                if data:
                    self._connection.sendall(data)
                else:
                    self._connection.shutdown(socket.SHUT_WR)
        except OSError:  # gone, or so slow that nobody waits for it
            self._protocol.receive_eof()


class _Conversation:
    """Messages on a line, carried out one after the other.

    While one is worked on the next ones wait, at most `most_waiting`; a further one pushes the
    oldest out, which is then never taken. Bad input ends the conversation, as does silence. Who
    leaves cancels the message that is worked on.
    """

    def __init__(
        self,
        line: _Line,
        *,
        queue: Queue,
        begin: Callable[[bytes], Job],
        data_uri: Callable[[Picture], str],
        is_stopped: Callable[[], bool],
        most_waiting: int,
        heard_at: float,
    ) -> None:
        """`heard_at` is when silence began, by the clock of `queue`."""
        self._line = line
        self._queue = queue
        self._begin = begin
        self._data_uri = data_uri
        self._is_stopped = is_stopped
        self._heard_at = heard_at
        self._waiting: deque[bytes] = deque(maxlen=most_waiting)
        self._job: Job | None = None

    def hold(self) -> None:
        """Returns when the connection may be closed."""
        while self._line.is_open:
            if self._is_stopped():
                self._line.close(CloseCode.GOING_AWAY)
                break
            has_moved = self._work()
            for message in self._line.listen(0.0 if has_moved else LOOK_S):
                self._hear(message)
        if self._job:
            self._queue.cancel(self._job)
        self._line.see_off()

    def _hear(self, message: bytes | None) -> None:
        self._heard_at = self._queue.now()
        try:
            if message is None:
                raise TypeError("the message is text, not MessagePack")
            self._waiting.append(msgspec.json.encode(msgspec.msgpack.decode(message)))
        except (ValueError, TypeError, RecursionError) as error:
            self._fail("INTERNAL_ERROR", str(error))

    def _work(self) -> bool:
        """Whether anything could be done now."""
        if self._job is None and self._waiting:
            self._job = self._begin(self._waiting.popleft())
        if self._job is None:
            if self._queue.now() >= self._heard_at + IDLE_S:
                self._fail("TIMEOUT", "no inputs, reconnect when needed!")
            return False
        outcome = self._queue.outcome(self._job)
        if outcome is None:
            return False
        run_s, self._job = self._job.run_s, None
        self._answer(outcome, run_s)
        return True

    def _answer(self, outcome: Outcome, run_s: float) -> None:
        output = json.loads(outcome.body(self._data_uri))
        if outcome.status >= 400 or not isinstance(output, dict):
            self._fail("INTERNAL_ERROR", _reason(output))
            return
        self._line.send(msgspec.msgpack.encode(output))
        self._line.tell({"type": "x-fal-message", "action": "timings", "timing": run_s})

    def _fail(self, error: str, reason: str) -> None:
        self._line.tell({"type": "x-fal-error", "error": error, "reason": reason})
        self._line.close(CloseCode.NORMAL_CLOSURE)


def _shake_hands(protocol: ServerProtocol, headers: Message) -> Answer | None:
    """Accept a handshake whose HTTP was read elsewhere; what to answer if it is a bad one."""
    names = ("connection", "upgrade", "sec-websocket-")
    told = [(name, text) for name, text in headers.items() if name.lower().startswith(names)]
    protocol.receive_data(Request("/", Headers(told)).serialize())
    for request in protocol.events_received():
        assert isinstance(request, Request)
        response = protocol.accept(request)
        if response.status_code == 101:
            protocol.send_response(response)
            return None
        text = bytes(response.body).decode().strip()
        return json_answer(response.status_code, {"detail": text})
    return json_answer(400, {"detail": "Failed to open a WebSocket connection."})


def _whole_number(text: str) -> int:
    """0 for anything else."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _reason(output: object) -> str:
    """What is wrong, in words; fal's own are those of a Python exception."""
    if not isinstance(output, dict):
        return f"Expected a dict or pydantic model as output, got {type(output)}"
    detail = output.get("detail")
    if not isinstance(detail, list):
        return str(detail)
    return "; ".join(f"{'.'.join(map(str, p['loc'][1:]))}: {p['msg']}" for p in detail)
