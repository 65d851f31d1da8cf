"""Calls that change nothing of ours: to fal with the owner's key, and its answer back.

Refuses to know what the answer means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from ..errors import AppError, FalAuthFailed, FalFailed
from ..fal import refusals
from ..fal.client import CALL_TIMEOUT_S, Fal
from ..wire import Answer, WireError
from .asked import Asked

JSON = {"content-type": "application/json"}
_UNPRINTABLE = re.compile(r"[^ -~]+")


class Passing(Struct, frozen=True):
    fal: Fal

    def ask(
        self,
        method: str,
        url: str,
        asked: Asked,
        *,
        headers: Mapping[str, str] = {},
        body: bytes | None = None,
    ) -> Answer:
        """fal's whole answer, whatever its status. Safe to repeat where fal's own is.

        Raises FalFailed if none came, FalAuthFailed if fal refused the owner's key.
        """
        accept = asked.headers.get("accept") or "application/json"
        try:
            answer = self.fal.wire.call(
                method,
                url,
                key=self.key(),
                timeout_s=min(CALL_TIMEOUT_S, asked.turn.answer_by - self.fal.clock()),
                headers={"accept": printable(accept), **headers},
                body=body,
            )
        except WireError as error:
            raise FalFailed(
                f"fal could not be reached ({error.reason})",
                hint="Ask again: this call costs nothing.",
                retryable=True,
            ) from error
        refuse_key(answer)
        return answer

    def key(self) -> str:
        """The owner's key. Raises FalAuthFailed."""
        if not self.fal.key:
            raise FalAuthFailed("FAL_KEY is not set")
        return self.fal.key


def refuse_key(answer: Answer) -> None:
    """Raises FalAuthFailed for an answer that speaks of the owner's key or account: it is nothing a
    caller could mend, and none of a caller's business."""
    if answer.status in {401, 403}:
        raise refused_key(answer)


def refused_key(answer: Answer) -> AppError:
    refusal = refusals.read(answer.status, answer.headers, answer.body)
    return refusals.explain(refusal, "", request_id=None)


def printable(value: str) -> str:
    """A header's value that can be sent, whatever the caller's was."""
    return _UNPRINTABLE.sub("", value)[:1024] or "*/*"
