"""The table in docs/events.md, held against the published payloads and the adapters.

Every place that the table names is bent, and the field must follow; what the table says is
constant or absent must be so in each published payload.
"""

from __future__ import annotations

import copy
import io
import json
import re
from dataclasses import fields
from typing import Any

import msgspec
import pytest

from fal_image.dev.docs import FIELDS
from fal_image.dev.platforms import cloudbase_context
from fal_image.events import aws, cloudbase
from fal_image.events.wsgi import wsgi_app
from fal_image.web import Headers, Platform, Request
from support.events import Recorder, frozen, published

TABLE = json.loads(FIELDS.read_text(encoding="utf-8"))
PAYLOADS: dict[str, list[str]] = {one["id"]: one["payloads"] for one in TABLE["entrances"]}
PLACES = [
    (field, entrance, number)
    for field, sources in TABLE["fields"].items()
    for entrance, places in sources.items()
    for number, place in enumerate(places)
    if not place.startswith(("=", "https:"))
]
CONSTANTS = [
    (field, entrance, name)
    for field in TABLE["fields"]
    for entrance, names in PAYLOADS.items()
    for name in names
    if all(place.startswith("=") for place in TABLE["fields"][field].get(entrance, []))
]
CLOUDBASE = {"cloudbase_http", "cloudbase_call", "cloudbase_timer"}
ABSENT = {
    "Request.query": (),
    "Request.headers": [],
    "Request.body": b"",
    "Request.file_bytes": 0,
    "Platform.identities": (),
    "Platform.environment": {},
}

LONG_PUT = {"REQUEST_METHOD": "PUT", "CONTENT_LENGTH": str(7 * 1024 * 1024)}
BODY = io.BytesIO(b"probe")

# What is written into a place, and what the field must say then.
Probe = tuple[object, object]
PROBES: dict[str, Probe] = {
    "method": ("PATCH", "PATCH"),
    "path": ("/probe", "/probe"),
    "query": ({"probe": "1"}, (("probe", "1"),)),
    "headers": ({"probe": "1"}, ("probe", "1")),
    "body": ("probe", b"probe"),
    "request_id": ("probe", "probe"),
    "client_ip": ("192.0.2.1", "192.0.2.1"),
    "ends_at": (2000, frozen() + 2.0),
    "identities": ("probe", (("jwt", "jwt:probe"),)),
    "environment": ('{"PROBE":"1"}', {"PROBE": "1"}),
}
SPECIAL: dict[tuple[str, str], Probe] = {
    ("method", "route"): ("PATCH /probe", "PATCH"),
    ("path", "route"): ("PATCH /probe", "/probe"),
    ("query", "rawQueryString"): ("probe=1", (("probe", "1"),)),
    ("query", "QUERY_STRING"): ("probe=1", (("probe", "1"),)),
    ("query", "multiValueQueryStringParameters"): ({"probe": ["1"]}, (("probe", "1"),)),
    ("headers", "multiValueHeaders"): ({"probe": ["1"]}, ("probe", "1")),
    ("headers", "cookies"): (["probe=1"], ("cookie", "probe=1")),
    ("headers", "HTTP_*"): ("1", ("probe", "1")),
    ("body", "wsgi.input"): (io.BytesIO(b"probe"), b"probe"),
    ("file", "wsgi.input"): (BODY, BODY),
    ("file_bytes", "CONTENT_LENGTH"): (LONG_PUT["CONTENT_LENGTH"], 7 * 1024 * 1024),
    ("body", "*"): ({"prompt": "probe"}, b'{"prompt": "probe"}'),
    ("environment", "context.environ"): ("PROBE=1", {"PROBE": "1"}),
    ("client_ip", "multiValueHeaders.x-forwarded-for"): (["10.0.0.1, 192.0.2.1"], "192.0.2.1"),
    ("client_ip", "headers.x-forwarded-for"): ("10.0.0.1, 192.0.2.1", "192.0.2.1"),
    ("client_ip", "context.environment.TCB_SOURCE_IP"): ("192.0.2.1", "192.0.2.1"),
    ("identities", "context.environment.WX_OPENID"): ("probe", (("wechat", "wx:probe"),)),
    ("identities", "context.environment.TCB_UUID"): ("probe", (("cloudbase", "tcb:probe"),)),
    ("identities", "requestContext.authorizer.iam.userArn"): ("probe", (("iam", "iam:probe"),)),
    ("identities", "requestContext.identity.userArn"): ("probe", (("iam", "iam:probe"),)),
}


class AwsContext:
    """Lambda's context, with attributes that can be taken away."""

    def __init__(self) -> None:
        self.aws_request_id: object = "lambda-id"
        self.get_remaining_time_in_millis: object = lambda: 60_000


def context_of(entrance: str) -> Any:
    return cloudbase_context("scf-id") if entrance in CLOUDBASE else AwsContext()


def received(entrance: str, event: Any, context: Any) -> Request:
    app = Recorder()
    if entrance == "wsgi":
        environ = {"wsgi.input": io.BytesIO(b"x" * 25)} | event
        wsgi_app(app, new_id=lambda: "new")(environ, lambda *_: print)
    else:
        platform = cloudbase if entrance in CLOUDBASE else aws
        platform.handle(event, context, app, clock=frozen, new_id=lambda: "new")
    return app.request


def value_of(request: Request, field: str) -> Any:
    owner, _, name = field.partition(".")
    value = getattr(request.platform if owner == "Platform" else request, name)
    return list(value) if isinstance(value, Headers) else value


def steps(place: str) -> list[Any]:
    """The way to a place: names, and 0 for the first of a list."""
    return [
        0 if step == "[]" else step.rstrip("?") for step in re.sub(r"\[\]", ".[]", place).split(".")
    ]


def bend(place: str, event: Any, context: Any, value: object) -> None:
    """Put a value where the table points to; None takes away what is there."""
    if place == "*":
        event.clear()
        event.update(value or {})
        return
    if place in ("wsgi.input", "HTTP_*"):
        event[place.replace("*", "PROBE")] = value
        event["CONTENT_LENGTH"] = "5"
        return
    first, *rest = steps(place)
    if first == "context" and isinstance(context, AwsContext):
        is_method = rest[0].startswith("get_")
        setattr(context, rest[0], (lambda: value) if is_method and value is not None else value)
        return
    if place.startswith("context.environment."):
        variable = place.rpartition(".")[2]
        context["environment"] = json.dumps({variable: value} if value else {})
        return
    spot, names = (context, rest) if first == "context" else (event, [first, *rest])
    for name in names[:-1]:
        if isinstance(spot, dict) and not isinstance(spot.get(name), (dict, list)):
            spot[name] = {}
        spot = spot[name]
    if value is None:
        spot.pop(names[-1], None)
    else:
        spot[names[-1]] = value


def probe_of(field: str, place: str) -> Probe:
    name = field.partition(".")[2]
    return SPECIAL.get((name, place.rstrip("?"))) or PROBES[name]


@pytest.mark.parametrize(("field", "entrance", "number"), PLACES)
def test_a_field_follows_each_place_that_the_table_names(
    field: str, entrance: str, number: int
) -> None:
    places = TABLE["fields"][field][entrance]
    event, context = copy.deepcopy(published(PAYLOADS[entrance][0])), context_of(entrance)
    for earlier in places[:number]:
        bend(earlier, event, context, None)
    probe, expected = probe_of(field, places[number])
    bend(places[number], event, context, probe)
    if field.startswith("Request.file"):
        event |= LONG_PUT
    value = value_of(received(entrance, event, context), field)
    assert expected in value if field == "Request.headers" else value == expected


@pytest.mark.parametrize(("field", "entrance", "name"), CONSTANTS)
def test_what_no_event_decides_is_what_the_table_says(field: str, entrance: str, name: str) -> None:
    (constant,) = TABLE["fields"][field].get(entrance) or ["-"]
    value = value_of(received(entrance, published(name), context_of(entrance)), field)
    if constant == "-":
        assert value == ABSENT.get(field)
    else:
        assert str(value).removesuffix(".0") == constant.removeprefix("=")


@pytest.mark.parametrize(
    "entrance", [one for one in PAYLOADS if TABLE["fields"]["Platform.public_url"].get(one)]
)
def test_the_public_url_is_put_together_as_the_table_says(entrance: str) -> None:
    (template,) = TABLE["fields"]["Platform.public_url"][entrance]
    event, context = published(PAYLOADS[entrance][0]), context_of(entrance)
    domain = "probe.lambda-url.x" if entrance == "function_url" else "probe.execute-api.x"
    parts = {"requestContext.domainName": domain, "requestContext.stage": "probe"}
    expected = template
    for place, value in parts.items():
        if place in template:
            bend(place, event, context, value)
        expected = expected.replace(f"{{{place}}}", value)
    assert received(entrance, event, context).platform.public_url == expected


@pytest.mark.parametrize(
    ("entrance", "fallback"),
    [
        (entrance, place)
        for field in ("Platform.request_id",)
        for entrance, places in TABLE["fields"][field].items()
        for place in places
        if place == "=new"
    ],
)
def test_without_any_id_a_new_one_is_made(entrance: str, fallback: str) -> None:
    event, context = published(PAYLOADS[entrance][0]), context_of(entrance)
    for place in TABLE["fields"]["Platform.request_id"][entrance]:
        if place != fallback:
            bend(place, event, context, None)
    assert received(entrance, event, context).platform.request_id == "new"


@pytest.mark.parametrize(("field", "entrance", "number"), PLACES)
def test_a_place_of_the_table_is_in_a_published_payload(
    field: str, entrance: str, number: int
) -> None:
    place = TABLE["fields"][field][entrance][number]
    if place.startswith("context.") or place in ("*", "wsgi.input", "HTTP_*"):
        return  # not a member of the event
    found = [_is_in(published(name), steps(place)) for name in PAYLOADS[entrance]]
    assert any(found) is not place.endswith("?")


def _is_in(payload: Any, names: list[Any]) -> bool:
    spot = payload
    for name in names:
        has = name < len(spot) if isinstance(spot, list) else name in (spot or {})
        if not has:
            return False
        spot = spot[name]
    return True


def test_the_table_has_a_row_for_every_field() -> None:
    requests = {f"Request.{field.name}" for field in msgspec.structs.fields(Request)}
    requests -= {"Request.platform", "Request.fault"}  # whose fields follow; what nothing says
    platforms = {f"Platform.{field.name}" for field in fields(Platform)}
    assert set(TABLE["fields"]) == requests | platforms


def test_every_published_payload_that_is_served_has_a_column() -> None:
    known = {name for names in PAYLOADS.values() for name in names}

    files = {path.stem for path in FIELDS.parent.glob("events/*.json")}
    assert files - known == {"aws_lattice", "cloudbase_http_shaped_call"}
