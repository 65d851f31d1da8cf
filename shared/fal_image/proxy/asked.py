"""One proxied call, and what of it goes on to fal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from msgspec import Struct

from ..errors import UnsupportedMediaType
from ..fal import catalog, refusals
from ..generate import Turn
from ..inputs import Order, field_error, parse_object
from ..tickets import Ticket
from ..web import Headers
from .targets import Target, request_url

# Wishes that are the caller's to have (fal docs, platform headers). Who is told of results, what is
# kept at fal and who may see it, what is tried again and what comes first are the owner's.
_PASSED = (
    "x-fal-request-start-timeout",
    "x-fal-request-timeout",
    "x-fal-runner-hint",
    "x-fal-no-retry",
    "x-fal-tags",
    "x-app-fal-disable-fallback",
)
_LIFETIME = "x-fal-object-lifecycle"
_VALUE = re.compile(r"[ -~]{1,1024}")


class Asked(Struct, frozen=True):
    """`base` is our address in front of fal's hosts, where callers take our URLs for fal's: the
    answer's URLs then start with it. `can_stream` says that an answer may leave in pieces, and
    `job_id` is where the caller's Idempotency-Key leads."""

    target: Target
    method: str
    headers: Headers
    body: bytes
    caller: str
    ticket: Ticket | None
    turn: Turn
    public_url: str | None
    base: str | None
    can_stream: bool
    job_id: str | None
    note: Callable[..., None]

    def order(self) -> Order:
        """The model and its input. Raises InvalidJson, UnsupportedMediaType."""
        if self.method == "GET":
            return Order(self.target.model, self._query_as_input())
        return Order(self.target.model, self.json())

    def json(self) -> dict[str, object]:
        """The body as a JSON object. Raises InvalidJson, UnsupportedMediaType."""
        content_type = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise UnsupportedMediaType(
                f"the body is declared as {content_type[:100] or 'nothing'}, not JSON"
            )
        return parse_object(self.body)

    def wishes(self) -> dict[str, str]:
        """The headers that go on to a model. Raises InvalidInput for one that cannot be sent."""
        return self._values(_PASSED)

    def lifetime(self) -> dict[str, str]:
        """How long fal should keep an uploaded file. Raises InvalidInput for any other wish, such
        as who may see it."""
        given = self._values((_LIFETIME,)).get(_LIFETIME)
        if given is None:
            return {}
        wish = refusals.parse_json(given.encode())
        fields = wish if isinstance(wish, dict) else {}
        seconds = fields.get("expiration_duration_seconds")
        if not isinstance(seconds, int) or isinstance(seconds, bool) or len(fields) != 1:
            raise field_error(
                _LIFETIME, 'may only be {"expiration_duration_seconds": a whole number}'
            )
        return {_LIFETIME: json.dumps(fields)}

    def url_of(self, app: str, request_id: str) -> str:
        """Where the caller asks after a request: at fal, or at our address that stands for it."""
        if self.base is None:
            return request_url(app, request_id)
        return request_url(app, request_id, f"{self.base}/queue.fal.run")

    def _values(self, names: tuple[str, ...]) -> dict[str, str]:
        values = {name: value for name in names if (value := self.headers.get(name)) is not None}
        for name, value in values.items():
            if not _VALUE.fullmatch(value):
                raise field_error(name, "must be 1 to 1024 printable characters of ASCII")
        return values

    def _query_as_input(self) -> dict[str, object]:
        """The query of a run by GET, all of it text: numbers and truth values are such again."""
        model = catalog.find(self.target.model)
        found: dict[str, object] = {}
        for name, text in self.target.query.items():
            field = model.fields.get(name) if model else None
            found[name] = text
            if field and field.type in {"integer", "number", "boolean"}:
                found[name] = _plain(text)
        return found


def _plain(text: str) -> object:
    value = refusals.parse_json(text.encode("utf-8", "replace"))
    return value if isinstance(value, (bool, int, float)) else text
