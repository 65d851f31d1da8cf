"""Events that no caller sent: the tick of a timer, the messages of a queue.

They become requests that nobody asked for, told apart by `Platform.name` alone; their paths are
no routes. Field names: AWS Lambda guide, "Using Lambda with Amazon SQS". Refuses to know what is
done for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import InvalidJson
from ..web import App, Platform, Request
from . import _fields
from ._answers import answered, buffered

SQS = "aws:sqs"


def tick(platform: Platform) -> Request:
    """The request behind a timer's event. Nothing in such an event is an order, so none is read."""
    return Request("POST", "/timer", platform)


def answer_batch(records: list[Any], platform: Platform, app: App) -> dict[str, Any]:
    """Answer each message by itself and name those that SQS must deliver again. Never raises.

    A message is done when its answer's status is below 400. One without a readable id cannot be
    named: the empty name makes SQS deliver the whole batch again.
    """
    failed = [record for record in records if not _is_done(record, platform, app)]
    return {"batchItemFailures": [{"itemIdentifier": _message_id(record)} for record in failed]}


def _is_done(record: object, platform: Platform, app: App) -> bool:
    request_id = _fields.first_request_id(_message_id(record)) or platform.request_id
    own = replace(platform, request_id=request_id)
    return answered(lambda: buffered(app(_message(record, own))), request_id).status < 400


def _message(record: object, platform: Platform) -> Request:
    fields = _fields.table(record)
    text = fields.get("body")
    if fields.get("eventSource") != SQS or not isinstance(text, str):
        raise InvalidJson("The message has no text")
    return Request("POST", "/queue", platform, body=_fields.text_bytes(text))


def _message_id(record: object) -> str:
    return _fields.text(_fields.table(record).get("messageId")) or ""
