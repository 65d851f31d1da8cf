"""Whether an answer is one that the endpoint's own document describes.

The document is asked of the app itself, as any reader would. Refuses to know why an answer came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from jsonschema_rs import Draft202012Validator, Registry

from fal_image.web import App, Headers, Platform, Request, Response

# What the front refuses before it looks for a route, and what it answers where there is none.
ANYWHERE = {400, 404, 413, 414, 431, 500}
NO_PART_OF_IT = {"OPTIONS", "HEAD"}

_HERE = "urn:document"
_LONG = {"key", "path"}  # parameters that take the rest of a path


def document_of(app: App, base_path: str = "") -> dict[str, Any]:
    """The document as a stranger gets it."""
    asked = Request("GET", f"{base_path}/openapi.json", Platform("wsgi", "r-document"))
    answer = app(asked)
    assert answer.status == 200, answer.read()
    found: dict[str, Any] = json.loads(answer.read())
    return found


class Contract:
    """What the document says of every answer; `seen` are the answers that were held against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._registry = Registry([(_HERE, document)])
        self._paths = [(_pattern(path), path) for path in document["paths"]]
        self._validators: dict[str, Draft202012Validator] = {}
        self.seen: set[tuple[str, str, int]] = set()

    def check(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Raises AssertionError for an answer that is not as described."""
        where, path = f"{method} {path} {status}", path.rstrip("/") or "/"
        name = next((name for pattern, name in self._paths if pattern.fullmatch(path)), "")
        operation = self._document["paths"].get(name, {}).get(method.lower())
        if operation is None:
            assert status in (ANYWHERE | {405} if name else ANYWHERE), f"{where}: is not described"
            return
        responses = operation["responses"]
        key = str(status) if str(status) in responses else "default"
        assert key in responses, f"{where}: the status is not described: {body[:300]!r}"
        self.seen.add((method, name, status))
        place = responses[key].get(
            "$ref", _pointer("paths", name, method.lower(), "responses", key)
        )
        answer = self._followed(responses[key])
        said = {header.lower(): value for header, value in headers.items()}
        for header, about in answer.get("headers", {}).items():
            if self._followed(about).get("required"):
                assert header.lower() in said, f"{where}: {header} is missing"
        self._check_body(where, place, answer.get("content"), said.get("content-type", ""), body)

    def _check_body(self, where: str, place: str, content: Any, given: str, body: bytes) -> None:
        if content is None:
            assert body == b"", f"{where}: a body, and none is described"
            return
        media_type = given.partition(";")[0]
        names = {name.partition(";")[0]: name for name in content}
        is_any = "*/*" in names
        assert is_any or media_type in names, f"{where}: {given} is none of {[*names]}"
        if not media_type.endswith("json") or media_type not in names:
            return
        try:
            value = json.loads(body)
        except ValueError:
            assert is_any, f"{where}: is not JSON: {body[:300]!r}"
            return
        schema = f"{place}{_pointer('content', names[media_type], 'schema')[1:]}"
        wrong = [f"{one.message} at {one.instance_path}" for one in self._errors(schema, value)]
        assert not wrong, f"{where}: {'; '.join(wrong)[:500]} of {body[:2000]!r}"

    def _errors(self, schema: str, value: Any) -> Any:
        validator = self._validators.get(schema)
        if validator is None:
            validator = Draft202012Validator({"$ref": _HERE + schema}, registry=self._registry)
            self._validators[schema] = validator
        return validator.iter_errors(value)

    def _followed(self, found: Any) -> Any:
        while "$ref" in found:
            inner: Any = self._document
            for part in found["$ref"].removeprefix("#/").split("/"):
                inner = inner[part]
            found = inner
        return found


def conforming(app: App, contract: Contract | None = None) -> App:
    """The app, with every answer held against its own document; what is sent in pieces by its
    status and headers alone."""
    held = contract or Contract(document_of(app))

    def checked(request: Request) -> Response:
        answer = app(request)
        is_event = request.platform.name in ("timer", "queue")
        if is_event or request.method in NO_PART_OF_IT:
            return answer
        body = answer.body if isinstance(answer.body, bytes) else b"{}"
        headers = dict(Headers(answer.headers))
        held.check(request.method, request.path, answer.status, headers, body)
        return answer

    return checked


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", path)
    written = [
        (".+" if part in _LONG else "[^/]*") if place % 2 else re.escape(part)
        for place, part in enumerate(parts)
    ]
    return re.compile("".join(written), re.DOTALL)


def _pointer(*parts: str) -> str:
    """A JSON pointer as the fragment of an address."""
    steps = (part.replace("~", "~0").replace("/", "~1") for part in parts)
    return "#" + "".join("/" + quote(step, safe="~") for step in steps)
