"""The clouds' side of an invocation: genuine events out of requests, answers out of replies.

One converter serves `scripts/dev --as aws|cloudbase` and the tests, so the two cannot disagree.
Every event and reply passes through JSON, as it does in the clouds. Imitates formats only: no
size limits, no time-outs, no authorizers, and what a vendor leaves undocumented is marked below.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

from ..events import aws, cloudbase
from ..web import App, Request, Response, json_response

FUNCTION_URL_HOST = "emulated0url0id.lambda-url.eu-west-1.on.aws"
HTTP_API_HOST = "emulatedapi.execute-api.eu-west-1.amazonaws.com"
REST_API_HOST = "emulatedrest.execute-api.eu-west-1.amazonaws.com"
ALB_HOST = "emulated-balancer.eu-west-1.elb.amazonaws.com"
CLOUDBASE_HOST = "emulated-env.service.tcloudbase.com"
TIMEOUT_S = 120.0

# Bodies of other types arrive as base64, those without a type too (API Gateway, payload 2.0).
_PLAIN = re.compile(r"text/.*|application/(json|xml|javascript)")


class LambdaContext:
    """What Lambda hands over beside the event; `clock` is seconds on any monotonic scale."""

    function_name = "fal-image"
    function_version = "$LATEST"
    memory_limit_in_mb = "512"  # a string in the real one as well

    def __init__(
        self, request_id: str, *, timeout_s: float = TIMEOUT_S, clock: Callable[[], float]
    ) -> None:
        self.aws_request_id = request_id
        self._clock = clock
        self._ends_at = clock() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends_at - self._clock()) * 1000))


def function_url_event(request: Request, *, at: datetime) -> dict[str, Any]:
    """The event that a Function URL without IAM auth makes of a request received `at`."""
    path = _as_sent(request.path)
    event = _payload_v2(request, at, host=FUNCTION_URL_HOST, path=path, stage="$default")
    event["requestContext"]["accountId"] = "anonymous"
    cookie = request.headers.get("cookie")
    if cookie:  # a Function URL sends cookies in both places
        event["headers"]["cookie"] = cookie
    return event


def http_api_event(request: Request, *, at: datetime, stage: str = "$default") -> dict[str, Any]:
    """The event that an API Gateway HTTP API (payload format 2.0) makes of a request."""
    path = request.path if stage == "$default" else f"/{stage}{request.path}"
    return _payload_v2(request, at, host=HTTP_API_HOST, path=path, stage=stage)


def rest_event(request: Request, *, at: datetime, stage: str = "dev") -> dict[str, Any]:
    """The event that an API Gateway REST API (payload format 1.0) makes of a request.

    As if its `binaryMediaTypes` named everything that is not text.
    """
    path, query = _as_sent(request.path), _listed(request.query)
    headers = _listed([pair for pair in request.headers if pair[0] != "host"])
    headers |= {"Host": [REST_API_HOST], "X-Forwarded-For": [_client_ip(request)]}
    event: dict[str, Any] = {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path[1:]},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "emulatedrest",
            "domainName": REST_API_HOST,
            "domainPrefix": "emulatedrest",
            "extendedRequestId": "emulated=",
            "httpMethod": request.method,
            "identity": {
                "sourceIp": _client_ip(request),
                "userAgent": request.headers.get("user-agent"),
            },
            "path": f"/{stage}{path}",
            "protocol": "HTTP/1.1",
            "requestId": request.platform.request_id,
            "requestTime": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "requestTimeEpoch": int(at.timestamp() * 1000),
            "resourceId": "emul8d",
            "resourcePath": "/{proxy+}",
            "stage": stage,
        },
    }
    return event | {"body": None, "isBase64Encoded": False} | _event_body(request)


def alb_event(request: Request, *, has_lists: bool = False) -> dict[str, Any]:
    """The event that an Application Load Balancer makes of a request.

    `has_lists` is its target group's attribute `lambda.multi_value_headers.enabled`; without it
    the last of repeated headers and query keys is kept, and the others are lost.
    """
    hops = [*request.headers.get_all("x-forwarded-for"), _client_ip(request)]
    headers = _listed([pair for pair in request.headers if pair[0] != "host"]) | {
        "host": [ALB_HOST],
        "x-amzn-trace-id": ["Root=1-6920ae00-emulated"],
        "x-forwarded-for": [", ".join(hops)],
        "x-forwarded-port": ["443"],
        "x-forwarded-proto": ["https"],
    }
    query = _listed([(quote_plus(name), quote_plus(value)) for name, value in request.query])
    event: dict[str, Any] = {
        "requestContext": {
            "elb": {
                "targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:"
                "targetgroup/emulated/6d0ecf831eec9f09"
            }
        },
        "httpMethod": request.method,
        "path": _as_sent(request.path),
    }
    if has_lists:
        event |= {"multiValueQueryStringParameters": query, "multiValueHeaders": headers}
    else:
        event |= {
            "queryStringParameters": {name: values[-1] for name, values in query.items()},
            "headers": {name: values[-1] for name, values in headers.items()},
        }
    return event | {"body": "", "isBase64Encoded": False} | _event_body(request)


def read_lambda_reply(reply: object) -> Response:
    """What a Function URL or HTTP API sends for a function's return value.

    Without `statusCode` the value itself is the JSON answer; what cannot be read is a 502.
    """
    if not isinstance(reply, dict) or "statusCode" not in reply:
        return json_response(200, reply)
    body = _reply_body(reply)
    headers, cookies = reply.get("headers", {}), reply.get("cookies", [])
    if body is None or type(reply["statusCode"]) is not int or not _are_strings(headers):
        return _malformed()
    set_cookies = tuple(("set-cookie", cookie) for cookie in cookies)
    return Response(reply["statusCode"], body, (*headers.items(), *set_cookies))


def read_rest_reply(reply: object) -> Response:
    """What a REST API sends for a function's return value; what cannot be read is a 502."""
    if not isinstance(reply, dict) or type(reply.get("statusCode")) is not int:
        return _malformed()
    body, single, lists = _reply_body(reply), reply.get("headers"), reply.get("multiValueHeaders")
    if body is None or not _are_strings(single or {}) or not _are_lists(lists or {}):
        return _malformed()
    several = lists or {}
    alone = [(name, value) for name, value in (single or {}).items() if name not in several]
    return Response(reply["statusCode"], body, (*alone, *_unlisted(several)))


def read_alb_reply(reply: object, *, has_lists: bool = False) -> Response:
    """What a load balancer sends for a function's return value; what cannot be read is a 502.

    Headers in the form that the target group does not want are not sent at all.
    """
    if not isinstance(reply, dict) or type(reply.get("statusCode")) is not int:
        return _malformed()
    body = _reply_body(reply)
    headers = reply.get("multiValueHeaders" if has_lists else "headers", {})
    if body is None or not (_are_lists(headers) if has_lists else _are_strings(headers)):
        return _malformed()
    pairs = _unlisted(headers) if has_lists else tuple(headers.items())
    return Response(reply["statusCode"], body, pairs)


def cloudbase_context(
    request_id: str,
    *,
    client_ip: str | None = None,
    timeout_s: float = TIMEOUT_S,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What CloudBase hands over beside the event (Tencent Cloud, document 583/9210).

    `variables` are more of this invocation's, such as who calls and credentials.
    """
    environment = {"TCB_ENV": "emulated-env", "TCB_SOURCE_IP": client_ip or ""} | dict(
        variables or {}
    )
    return {
        "memory_limit_in_mb": 512,
        "time_limit_in_ms": int(timeout_s * 1000),
        "request_id": request_id,
        "environment": json.dumps(environment),
        "environ": ";".join(f"{name}={value}" for name, value in environment.items()),
        "function_version": "$LATEST",
        "function_name": "fal-image",
        "namespace": "emulated-env",
        "tencentcloud_region": "ap-shanghai",
        "tencentcloud_appid": "123456789",
        "tencentcloud_uin": "123456789",
    }


def cloudbase_event(request: Request) -> dict[str, Any]:
    """The integrated request that the HTTP access service makes of a request.

    Not documented: which types arrive as base64, which value of a repeated query key wins, and
    whether the path is still as it was sent.
    """
    several = _listed(request.headers) | {"host": [CLOUDBASE_HOST]}
    event: dict[str, Any] = {
        "path": _as_sent(request.path),
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in several.items()},
        "multiValueHeaders": several,
        "queryStringParameters": dict(request.query),
        "requestContext": {
            "requestId": request.platform.request_id,
            "envId": "emulated-env",
            "appId": 123456789,
            "uin": 123456789,
        },
    }
    return event | {"body": "", "isBase64Encoded": False} | _event_body(request)


def read_cloudbase_reply(reply: object) -> Response:
    """What the HTTP access service sends for a function's return value.

    Raises ValueError for values that CloudBase does not document.
    """
    if isinstance(reply, (str, int, float)) and not isinstance(reply, bool):
        return Response(200, str(reply).encode(), (("content-type", "text/plain; charset=utf-8"),))
    if not isinstance(reply, dict):
        raise ValueError(f"CloudBase does not say what it makes of a {type(reply).__name__}")
    if "statusCode" not in reply:
        return json_response(200, reply, media_type="application/json; charset=utf-8")
    body, headers = _reply_body(reply), reply.get("headers", {})
    if body is None or type(reply["statusCode"]) is not int or not _are_strings(headers):
        raise ValueError("CloudBase does not say what it makes of this integrated response")
    return Response(reply["statusCode"], body, tuple(headers.items()))


@dataclass(frozen=True)
class Gateway:
    """One way into a Lambda function: its event for a request, its answer for a return value."""

    event: Callable[..., dict[str, Any]]
    read_reply: Callable[[object], Response]


GATEWAYS: Mapping[str, Gateway] = {
    "function-url": Gateway(function_url_event, read_lambda_reply),
    "http-api": Gateway(http_api_event, read_lambda_reply),
    "rest-api": Gateway(rest_event, read_rest_reply),
    "alb": Gateway(lambda request, at: alb_event(request), read_alb_reply),
    "alb-lists": Gateway(
        lambda request, at: alb_event(request, has_lists=True),
        lambda reply: read_alb_reply(reply, has_lists=True),
    ),
}


def as_lambda(
    app: App, *, gateway: str = "function-url", clock: Callable[[], float] = time.monotonic
) -> App:
    """`app` behind one of GATEWAYS: a request goes in as an event and comes out of a reply."""
    way = GATEWAYS[gateway]

    def serve(request: Request) -> Response:
        event = _through_json(way.event(request, at=datetime.now(timezone.utc)))
        context = LambdaContext(request.platform.request_id, clock=clock)
        return way.read_reply(_through_json(aws.handle(event, context, app, clock=clock)))

    return serve


def as_cloudbase(app: App, *, clock: Callable[[], float] = time.monotonic) -> App:
    """`app` behind CloudBase's HTTP access service."""

    def serve(request: Request) -> Response:
        event = _through_json(cloudbase_event(request))
        request_id, client_ip = request.platform.request_id, request.platform.client_ip
        context = cloudbase_context(request_id, client_ip=client_ip)
        return read_cloudbase_reply(
            _through_json(cloudbase.handle(event, context, app, clock=clock))
        )

    return serve


def as_wsgi(app: App) -> App:
    """`app` as it is: the development server speaks WSGI already."""
    return app


DISGUISES: Mapping[str, Callable[[App], App]] = {
    "aws": as_lambda,
    "cloudbase": as_cloudbase,
    "wsgi": as_wsgi,
}


def _as_sent(path: str) -> str:
    return quote(path, safe="/-._~!$&'()*+,;=:@")


def _client_ip(request: Request) -> str:
    return request.platform.client_ip or "127.0.0.1"


def _payload_v2(
    request: Request, at: datetime, *, host: str, path: str, stage: str
) -> dict[str, Any]:
    client_ip = _client_ip(request)
    headers = [pair for pair in request.headers if pair[0] not in {"cookie", "host"}]
    cookies = [part.strip() for part in (request.headers.get("cookie") or "").split(";")]
    domain_prefix = host.partition(".")[0]
    route_key = "$default"
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": urlencode(request.query),
        "headers": {
            **_joined(headers),
            "host": host,
            "x-forwarded-for": client_ip,
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": domain_prefix,
            "domainName": host,
            "domainPrefix": domain_prefix,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": client_ip,
                "userAgent": request.headers.get("user-agent") or "",
            },
            "requestId": request.platform.request_id,
            "routeKey": route_key,
            "stage": stage,
            "time": at.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(at.timestamp() * 1000),
        },
        "isBase64Encoded": False,
    }
    if request.query:
        event["queryStringParameters"] = _joined(request.query)
    if any(cookies):
        event["cookies"] = [cookie for cookie in cookies if cookie]
    return event | _event_body(request)


def _event_body(request: Request) -> dict[str, Any]:
    """The members that carry a body, none for an empty one."""
    if not request.body:
        return {}
    media_type = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
    if _PLAIN.fullmatch(media_type):
        with suppress(UnicodeDecodeError):  # no vendor says what happens then; base64 is lossless
            return {"body": request.body.decode(), "isBase64Encoded": False}
    return {"body": base64.b64encode(request.body).decode("ascii"), "isBase64Encoded": True}


def _reply_body(reply: Mapping[str, Any]) -> bytes | None:
    """The bytes of a reply's body, None when it is malformed."""
    body = reply.get("body", "")
    if not isinstance(body, str):
        return None
    if not reply.get("isBase64Encoded"):
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return None


def _malformed() -> Response:
    return json_response(502, {"message": "Internal Server Error"})


def _are_strings(headers: object) -> bool:
    return isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values())


def _are_lists(headers: object) -> bool:
    return isinstance(headers, dict) and all(
        isinstance(values, list) and all(isinstance(value, str) for value in values)
        for values in headers.values()
    )


def _listed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for name, value in pairs:
        lists.setdefault(name, []).append(value)
    return lists


def _unlisted(lists: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, values in lists.items() for value in values)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One value per name, later ones appended after a bare comma."""
    merged: dict[str, str] = {}
    for name, value in pairs:
        merged[name] = f"{merged[name]},{value}" if name in merged else value
    return merged


def _through_json(value: object) -> Any:
    return json.loads(json.dumps(value))
