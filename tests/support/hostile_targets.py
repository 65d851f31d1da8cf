"""Targets that the proxy must refuse, as a header names them and as a path of ours does.

Every row is one trick, with what it is refused as. What a table calls a place is the address at
fal without "https://" in front: it goes into both forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from fal_image.errors import AppError, MethodNotAllowed, NotFound, TargetRefused

SCHNELL = "queue.fal.run/fal-ai/flux/schnell"
STATUS = "queue.fal.run/fal-ai/flux/requests/r-1/status"
RUN = "fal.run/fal-ai/flux/schnell"
LONG = 7_500  # about as long as an address gets to us

Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Place:
    """`is_kept`: every gateway hands on all of it; some keep one of two values with one name."""

    place: str
    method: str = "POST"
    query: Query = ()
    error: type[AppError] = TargetRefused
    is_kept: bool = True

    @property
    def url(self) -> str:
        return f"https://{self.place}" + (f"?{urlencode(self.query)}" if self.query else "")


def wrong_method(method: str, place: str) -> Place:
    return Place(place, method, error=MethodNotAllowed)


def asking(*query: tuple[str, str], place: str = SCHNELL, method: str = "POST") -> Place:
    return Place(place, method, query)


HOSTS: Mapping[str, str] = {
    "more in front of the name": "evilfal.run",
    "more behind the name": "fal.run.evil.com",
    "more behind the last letter": "fal.runs",
    "a name below fal's": "evil.queue.fal.run",
    "a dash for the dot": "queue-fal.run",
    "a dot at the end": "queue.fal.run.",
    "a dot in front": ".fal.run",
    "two dots": "queue..fal.run",
    "upper case": "QUEUE.FAL.RUN",
    "mixed case": "Queue.fal.run",
    "punycode": "xn--fl-7kc.run",
    "homograph": "fаl.run",
    "full-width letter": "ｆal.run",
    "circled letter": "ⓕal.run",
    "ideographic full stop": "queue。fal。run",
    "soft hyphen": "queue.fa\xadl.run",
    "zero-width space": "queue.fal\u200b.run",
    "right-to-left mark": "queue.fal.run\u202e",
    "encoded dots": "queue%2Efal%2Erun",
    "encoded letter": "%71ueue.fal.run",
    "encoded NUL at the end": "queue.fal.run%00",
    "encoded slash at the end": "queue.fal.run%2F",
    "two names": "queue.fal.run,fal.run",
    "space": "queue.fal.run evil.com",
    "port": "queue.fal.run:443",
    "port of plain HTTP": "queue.fal.run:80",
    "empty port": "queue.fal.run:",
    "port out of range": "queue.fal.run:65536",
    "port that is no number": "queue.fal.run:evil.com",
    "user": "user@queue.fal.run",
    "user and password": "user:password@fal.run",
    "fal as the user": "queue.fal.run@evil.com",
    "fal as the user, encoded": "queue.fal.run%40evil.com",
    "fal as the password": "https:queue.fal.run@evil.com",
    "empty user": "@fal.run",
    "two users": "queue.fal.run@evil.com@fal.run",
    "backslash behind": "queue.fal.run\\.evil.com",
    "backslash before the user": "evil.com\\@queue.fal.run",
    "backslash in front": "\\queue.fal.run",
    "IPv6": "[::1]",
    "IPv6 with a port": "[::1]:443",
    "IPv4 inside IPv6": "[::ffff:127.0.0.1]",
    "IPv6 with a zone": "[fe80::1%25eth0]",
    "IP": "127.0.0.1",
    "decimal IP": "2130706433",
    "hexadecimal IP": "0x7f000001",
    "octal IP": "0177.0.0.1",
    "short IP": "127.1",
    "zero": "0",
    "this machine": "localhost",
    "this machine's data": "169.254.169.254",
    "fal's site": "fal.ai",
    "fal's platform": "api.fal.ai",
    "fal's media": "v3.fal.media",
    "fal's old media": "fal.media",
    "fal's sockets": "ws.fal.run",
    "fal's alpha": "rest.alpha.fal.ai",
}

PATHS: Mapping[str, str] = {
    "slash in front": "/fal-ai/flux/schnell",
    "two slashes in front": "//fal-ai/flux/schnell",
    "another address": "/https://evil.com/x",
    "empty part": "fal-ai//flux",
    "climbing at the start": "../fal.run/fal-ai/flux",
    "climbing inside": "fal-ai/flux/../../billing/usage",
    "climbing at the end": "fal-ai/flux/..",
    "staying": "fal-ai/./flux",
    "staying at the end": "fal-ai/flux/.",
    "three dots": "fal-ai/.../flux",
    "dot in front": "fal-ai/.flux",
    "encoded climbing": "fal-ai/%2e%2e/billing",
    "half encoded climbing": "fal-ai/.%2E/billing",
    "twice encoded climbing": "fal-ai/%252e%252e/billing",
    "twice encoded slash": "fal-ai%252fflux",
    "encoded NUL": "fal-ai/flux%00",
    "encoded line ends": "fal-ai/flux%0d%0ax-evil:%201",
    "encoded backslash": "fal-ai/flux%5c..%5cx",
    "encoded fragment": "fal-ai/flux%23x",
    "encoded question mark": "fal-ai/flux%3Flogs=1",
    "overlong dot": "fal-ai/%c0%ae%c0%ae/x",
    "percent": "fal-ai/flux%",
    "backslash": "fal-ai\\flux",
    "backslash climbing": "fal-ai/flux\\..\\..\\billing",
    "parameters": "fal-ai/flux;v=1/schnell",
    "climbing with parameters": "fal-ai/..;/billing",
    "user": "fal-ai@evil.com/flux",
    "colon": "fal-ai:443/flux",
    "tab": "fal-ai/flux\t/schnell",
    "tab at the end": "fal-ai/flux\t",
    "line feed": "fal-ai/flux\n",
    "line feed inside": "fal-ai/\nflux",
    "line ends and a header": "fal-ai/flux HTTP/1.1\r\nx-evil: 1",
    "NUL": "fal-ai/flux\0",
    "delete": "fal-ai/flux\x7f",
    "next line": "fal-ai/flux\x85",
    "line separator": "fal-ai/flux\u2028",
    "space inside": "fal-ai/flux schnell",
    "no ASCII": "fal-ai/图",
    "Latin": "fal-ai/flux-é",
    "full-width dots": "fal-ai/．．/flux",
    "full-width slash": "fal-ai／flux",
    "division slash": "fal-ai∕flux",
    "surrogate pair": "fal-ai/flux-🎨",
    "not UTF-8": "fal-ai/flux\ufffd",
    "tilde": "~fal-ai/flux",
    "plus": "fal-ai/flux+schnell",
    "star": "fal-ai/*",
    "comma": "fal-ai/flux,fal-ai/veo3",
    "quote": 'fal-ai/"flux"',
    "no application": "fal-ai",
    "namespace without an application": "workflows/fal-ai",
    "the other namespace without an application": "comfy/fal-ai",
    "model of 201 characters": "fal-ai/" + "a" * 194,
    "path of 4,000 parts": "fal-ai/" + "a/" * 4000 + "b",
    "path as long as may be": "fal-ai/" + "a" * LONG,
}

REQUESTS: Mapping[str, str] = {
    "requests of nobody": "queue.fal.run/requests/r-1",
    "requests of an owner": "queue.fal.run/fal-ai/requests/r-1",
    "requests of a namespace": "queue.fal.run/workflows/fal-ai/requests/r-1",
    "no request": "queue.fal.run/fal-ai/flux/requests",
    "requests of a request": "queue.fal.run/fal-ai/flux/requests/r-1/requests/r-2",
    "requests inside an application": "queue.fal.run/fal-ai/requests/flux/requests/r-1",
    "dots in a request": "queue.fal.run/fal-ai/flux/requests/..",
    "dot in a request": "queue.fal.run/fal-ai/flux/requests/r.1",
    "request of 65 characters": "queue.fal.run/fal-ai/flux/requests/" + "r" * 65,
    "ending that nobody knows": "queue.fal.run/fal-ai/flux/requests/r-1/logs",
    "status in upper case": "queue.fal.run/fal-ai/flux/requests/r-1/STATUS",
    "more behind the status": "queue.fal.run/fal-ai/flux/requests/r-1/status/all",
    "more behind the stream": "queue.fal.run/fal-ai/flux/requests/r-1/status/stream/all",
    "more behind the cancel": "queue.fal.run/fal-ai/flux/requests/r-1/cancel/all",
    "stream without a status": "queue.fal.run/fal-ai/flux/requests/r-1/stream",
    "status behind the response": "queue.fal.run/fal-ai/flux/requests/r-1/response/status",
    "run of a request": "fal.run/fal-ai/flux/requests/r-1",
    "run of a cancel": "fal.run/fal-ai/flux/requests/r-1/cancel",
    "stream of a request": "fal.run/fal-ai/flux/requests/r-1/stream",
    "stream of an owner": "fal.run/fal-ai/stream",
    "stream of nobody": "fal.run/stream",
}

REST: Mapping[str, str] = {
    "CDN token": "rest.fal.ai/storage/auth/token",
    "billing": "rest.fal.ai/billing",
    "keys": "rest.fal.ai/keys",
    "storage": "rest.fal.ai/storage",
    "upload": "rest.fal.ai/storage/upload",
    "upload that nobody knows": "rest.fal.ai/storage/upload/initiate-batch",
    "more behind an upload": "rest.fal.ai/storage/upload/initiate/x",
    "upload in upper case": "rest.fal.ai/storage/upload/Initiate",
    "more behind the tokens": "rest.fal.ai/tokens/all",
    "more behind the realtime tokens": "rest.fal.ai/tokens/realtime/all",
    "tokens in upper case": "rest.fal.ai/Tokens",
    "a model": "rest.fal.ai/fal-ai/flux/schnell",
}

METHODS: Mapping[str, Place] = {
    "reading a submit": wrong_method("GET", SCHNELL),
    "putting a submit": wrong_method("PUT", SCHNELL),
    "posting to a request": wrong_method("POST", "queue.fal.run/fal-ai/flux/requests/r-1"),
    "putting a request": wrong_method("PUT", "queue.fal.run/fal-ai/flux/requests/r-1"),
    "posting to a response": wrong_method("POST", "queue.fal.run/fal-ai/flux/requests/r/response"),
    "posting to a status": wrong_method("POST", STATUS),
    "posting to a status stream": wrong_method("POST", f"{STATUS}/stream"),
    "reading a cancel": wrong_method("GET", "queue.fal.run/fal-ai/flux/requests/r-1/cancel"),
    "posting to a cancel": wrong_method("POST", "queue.fal.run/fal-ai/flux/requests/r-1/cancel"),
    "putting a run": wrong_method("PUT", RUN),
    "reading a stream": wrong_method("GET", f"{RUN}/stream"),
    "putting a stream": wrong_method("PUT", f"{RUN}/stream"),
    "reading an upload": wrong_method("GET", "rest.fal.ai/storage/upload/initiate"),
    "putting an upload": wrong_method("PUT", "rest.fal.ai/storage/upload/initiate"),
    "reading tokens": wrong_method("GET", "rest.fal.ai/tokens/"),
}

QUERIES: Mapping[str, Place] = {
    "token at a submit": asking(("fal_jwt_token", "t")),
    "token at a run": asking(("fal_jwt_token", "t"), place=RUN),
    "token at a run by GET": asking(
        ("prompt", "a cat"), ("fal_jwt_token", "t"), place=RUN, method="GET"
    ),
    "webhook at a run by GET": asking(
        ("fal_webhook", "https://evil.com/"), place=RUN, method="GET"
    ),
    "token at a stream": asking(("fal_jwt_token", "t"), place=f"{RUN}/stream"),
    "token at a status": asking(("fal_jwt_token", "t"), place=STATUS, method="GET"),
    "length of the queue": asking(("fal_max_queue_length", "0")),
    "priority": asking(("priority", "low")),
    "webhook in upper case": asking(("FAL_WEBHOOK", "https://evil.com/")),
    "webhook with a space": asking(("fal_webhook ", "https://evil.com/")),
    "webhook at a run": asking(("fal_webhook", "https://evil.com/"), place=RUN),
    "webhook at a stream": asking(("fal_webhook", "https://evil.com/"), place=f"{RUN}/stream"),
    "webhook at a status": asking(("fal_webhook", "https://evil.com/"), place=STATUS, method="GET"),
    "input at a run": asking(("prompt", "a cat"), place=RUN),
    "logs at a submit": asking(("logs", "1")),
    "logs at a result": asking(
        ("logs", "1"), place="queue.fal.run/fal-ai/flux/requests/r-1", method="GET"
    ),
    "name without a name": asking(("", "1"), place=STATUS, method="GET"),
    "address for a name": asking(("https://evil.com/", ""), place=STATUS, method="GET"),
    "name that is no ASCII": asking(("图", "1"), place=STATUS, method="GET"),
    "other storage": asking(("storage_type", "gcs"), place="rest.fal.ai/storage/upload/initiate"),
    "no storage": asking(("storage_type", ""), place="rest.fal.ai/storage/upload/initiate"),
    "storage at a token": asking(("storage_type", "fal-cdn-v3"), place="rest.fal.ai/tokens/"),
    "logs twice": Place(STATUS, "GET", (("logs", "1"), ("logs", "0")), is_kept=False),
    "webhook twice": Place(
        SCHNELL,
        "POST",
        (("fal_webhook", "https://hooks.example/"), ("fal_webhook", "https://hooks.example/")),
        is_kept=False,
    ),
}


def _places() -> Iterator[tuple[str, Place]]:
    for name, host in HOSTS.items():
        yield f"host, {name}", Place(f"{host}/fal-ai/flux/schnell")
    for name, path in PATHS.items():
        yield f"path, {name}", Place(f"queue.fal.run/{path}")
        yield f"path of a run, {name}", Place(f"fal.run/{path}")
    for name, place in {**REQUESTS, **{f"rest, {key}": it for key, it in REST.items()}}.items():
        yield name, Place(place)
        yield f"{name}, by GET", Place(place, "GET")
        yield f"{name}, by PUT", Place(place, "PUT")
    yield from METHODS.items()
    yield from QUERIES.items()


PLACES: Mapping[str, Place] = dict(_places())

_GOOD = f"https://{SCHNELL}"

# What x-fal-target-url says, as TargetRefused.
HEADERS: Mapping[str, str] = {
    "plain HTTP": f"http://{SCHNELL}",
    "socket": f"wss://{RUN}",
    "plain socket": f"ws://{RUN}",
    "file": "file:///etc/passwd",
    "script": "javascript:alert(1)//queue.fal.run/fal-ai/flux",
    "data": "data:text/plain,https://queue.fal.run/fal-ai/flux",
    "FTP": f"ftp://{SCHNELL}",
    "mail": "mailto:fal@fal.run",
    "scheme with a plus": f"https+x://{SCHNELL}",
    "scheme in upper case": f"HTTPS://{SCHNELL}",
    "scheme in mixed case": f"Https://{SCHNELL}",
    "no scheme": SCHNELL,
    "empty scheme": f"://{SCHNELL}",
    "scheme of whoever asks": f"//{SCHNELL}",
    "three slashes of whoever asks": f"///{SCHNELL}",
    "no slash": f"https:{SCHNELL}",
    "one slash": f"https:/{SCHNELL}",
    "three slashes": f"https:///{SCHNELL}",
    "four slashes": f"https:////{SCHNELL}",
    "backslashes": f"https:\\\\{SCHNELL}",
    "mixed slashes": f"https:/\\{SCHNELL}",
    "encoded slashes": f"https:%2F%2F{SCHNELL}",
    "encoded as a whole": "https%3A%2F%2Fqueue.fal.run%2Ffal-ai%2Fflux",
    "encoded slash": "https://queue.fal.run/fal-ai%2Fflux/schnell",
    "encoded slash in lower case": "https://queue.fal.run/fal-ai%2fflux/schnell",
    "path alone": "/fal-ai/flux/schnell",
    "word": "notaurl",
    "nothing but the scheme": "https://",
    "nothing but the host": "https://fal.run",
    "nothing but a slash": "https://fal.run/",
    "nothing but slashes": "https://fal.run//",
    "nothing but a query": "https://fal.run?logs=1",
    "slashes at the end": f"{_GOOD}//",
    "question mark at the end": f"{_GOOD}?",
    "fragment": f"{_GOOD}#x",
    "empty fragment": f"{_GOOD}#",
    "fragment for a user": "https://queue.fal.run#@evil.com/fal-ai/flux",
    "fragment behind a query": f"https://{STATUS}?logs=1#x",
    "query for a user": "https://queue.fal.run?@evil.com/fal-ai/flux",
    "space in front": f" {_GOOD}",
    "space behind": f"{_GOOD} ",
    "space alone": " ",
    "tab in front": f"\t{_GOOD}",
    "tab behind": f"{_GOOD}\t",
    "tab inside the scheme": f"ht\ttps://{SCHNELL}",
    "line feed in front": f"\n{_GOOD}",
    "line feed behind": f"{_GOOD}\n",
    "line feed inside the host": "https://queue.fal\n.run/fal-ai/flux",
    "return behind": f"{_GOOD}\r",
    "header of its own": f"{_GOOD}\r\nauthorization: Key evil",
    "request of its own": f"{_GOOD} HTTP/1.1\r\nhost: evil.com\r\n\r\n",
    "NUL in front": f"\0{_GOOD}",
    "NUL behind": f"{_GOOD}\0",
    "NUL inside the host": "https://queue.fal.run\0.evil.com/fal-ai/flux",
    "byte order mark": f"\ufeff{_GOOD}",
    "no-break space": f"\xa0{_GOOD}",
    "lone surrogate": f"{_GOOD}\ud800",
    "other lone surrogate": f"https://\udcff{SCHNELL}",
    "bytes that are no UTF-8": f"{_GOOD}\xff\xfe",
    "quotes": f'"{_GOOD}"',
    "angle brackets": f"<{_GOOD}>",
    "template": "https://{host}/fal-ai/flux",
    "two, joined": f"{_GOOD}, {_GOOD}",
    "two, joined without a space": f"{_GOOD},{_GOOD}",
    "two with queries, joined": f"https://{STATUS}?logs=1, https://{STATUS}?logs=1",
    "two with queries, joined without a space": f"https://{STATUS}?logs=1,https://{STATUS}?logs=1",
    "two, apart": f"{_GOOD} {_GOOD}",
    "tail of commas": f"{_GOOD},",
    "control character in the query": f"https://{STATUS}?logs=1\x1f",
    "backslash in the query": f"https://{STATUS}?logs=\\",
    "no ASCII in the query": f"https://{STATUS}?logs=图",
    "2,049 characters": "https://fal.run/fal-ai/flux?prompt=" + "a" * 2014,
    "a long one": "a" * LONG,
    "a long address": f"{_GOOD}?fal_webhook=" + "a" * LONG,
    "many slashes": "https://queue.fal.run" + "/" * LONG,
    "many dots": "https://queue.fal.run/" + "../" * (LONG // 3),
}

# What stands behind /api/fal/proxy/ in a path that is decoded.
BELOW: Mapping[str, tuple[str, type[AppError]]] = {
    "address": (_GOOD, TargetRefused),
    "address of one slash": (f"https:/{SCHNELL}", TargetRefused),
    "slash in front": (f"/{SCHNELL}", TargetRefused),
    "climbing out": ("../../generate", TargetRefused),
    "climbing out of the host": ("queue.fal.run/../../health", TargetRefused),
    "staying": (f"./{SCHNELL}", TargetRefused),
    "question mark": (f"{STATUS}?logs=1", TargetRefused),
    "fragment": (f"{SCHNELL}#x", TargetRefused),
    "header of its own": (f"{SCHNELL}\r\nauthorization: Key evil", TargetRefused),
    "space in front": (f" {SCHNELL}", TargetRefused),
    "space behind": (f"{SCHNELL} ", TargetRefused),
    "host alone": ("queue.fal.run", NotFound),
    "dots alone": ("..", NotFound),
    "the route's own name": ("api/fal/proxy", TargetRefused),
}

# Where fal would be asked to send results.
WEBHOOKS: Mapping[str, str] = {
    "host of nobody": "https://evil.com/hook",
    "more behind the name": "https://hooks.example.evil.com/",
    "more in front of the name": "https://evilhooks.example/",
    "user": "https://hooks.example@evil.com/",
    "user of an allowed host": "https://evil@hooks.example/",
    "port": "https://hooks.example:8443/",
    "plain HTTP": "http://hooks.example/",
    "backslash": "https://hooks.example\\@evil.com/",
    "fragment": "https://hooks.example/#x",
    "upper case": "https://HOOKS.EXAMPLE/",
    "dot at the end": "https://hooks.example./",
    "no scheme": "//hooks.example/",
    "this machine": "https://127.0.0.1/",
    "decimal IP": "https://2130706433/",
    "IPv6": "https://[::1]/",
    "metadata": "http://169.254.169.254/latest/meta-data",
    "line ends": "https://hooks.example/\r\nx-evil: 1",
    "line feed behind": "https://hooks.example/\n",
    "no ASCII": "https://höoks.example/",
    "file": "file:///etc/passwd",
    "fal itself": "https://queue.fal.run/fal-ai/flux",
    "word": "notaurl",
    "nothing": "",
    "a hundred thousand characters": "https://hooks.example/" + "a" * 100_000,
}
# What the body of a call for a token says, which opens nothing but flux here.
TOKENS: Mapping[str, object] = {
    "nothing": {},
    "no application": {"allowed_apps": []},
    "another application": {"allowed_apps": ["fal-ai/minimax"], "token_expiration": 60},
    "one of two": {"allowed_apps": ["fal-ai/flux", "fal-ai/minimax"], "token_expiration": 60},
    "every application": {"allowed_apps": ["*"], "token_expiration": 60},
    "every application of fal": {"allowed_apps": ["fal-ai/*"], "token_expiration": 60},
    "climbing": {"allowed_apps": ["fal-ai/flux/../minimax"], "token_expiration": 60},
    "address": {"allowed_apps": ["https://fal.run/fal-ai/flux"], "token_expiration": 60},
    "empty name": {"allowed_apps": [""], "token_expiration": 60},
    "line ends": {"allowed_apps": ["fal-ai/flux\r\nx-evil: 1"], "token_expiration": 60},
    "number": {"allowed_apps": [7], "token_expiration": 60},
    "text": {"allowed_apps": "fal-ai/flux", "token_expiration": 60},
    "object": {"allowed_apps": {"fal-ai/flux": True}, "token_expiration": 60},
    "list": ["fal-ai/flux"],
}

# What stands behind /api/fal/proxy/ as it was sent; gateways and servers decode it once.
AS_SENT: Mapping[str, str] = {
    "encoded climbing": "queue.fal.run/fal-ai/%2e%2e/billing",
    "half encoded climbing": "queue.fal.run/fal-ai/.%2E/billing",
    "encoded climbing and slashes": "queue.fal.run/fal-ai%2f..%2fbilling",
    "twice encoded climbing": "queue.fal.run/fal-ai/%252e%252e/billing",
    "twice encoded slash": "queue.fal.run/fal-ai%252fflux",
    "encoded staying": "queue.fal.run/fal-ai/%2e/flux",
    "two slashes, one encoded": "queue.fal.run/fal-ai/%2fflux",
    "encoded slash in front": "%2fqueue.fal.run/fal-ai/flux",
    "encoded climbing out": "%2e%2e/%2e%2e/generate",
    "encoded address": "https%3A%2F%2Fqueue.fal.run%2Ffal-ai%2Fflux",
    "encoded user": "user%40queue.fal.run/fal-ai/flux",
    "encoded port": "queue.fal.run%3A443/fal-ai/flux",
    "encoded backslash": "queue.fal.run%5C@evil.com/fal-ai/flux",
    "encoded NUL": "queue.fal.run%00/fal-ai/flux",
    "encoded NUL at the end": "queue.fal.run/fal-ai/flux%00",
    "encoded line ends": "queue.fal.run/fal-ai/flux%0D%0Ax-evil:%201",
    "encoded tab": "queue.fal.run/fal-ai/flux%09",
    "encoded space": "queue.fal.run/fal-ai/flux%20",
    "encoded fragment": "queue.fal.run/fal-ai/flux%23x",
    "encoded question mark": "queue.fal.run/fal-ai/flux%3Ffal_webhook=x",
    "plus for a space": "queue.fal.run/fal-ai/flux+schnell",
    "bytes that are no UTF-8": "queue.fal.run/fal-ai/%ff%fe",
    "lone surrogate": "queue.fal.run/fal-ai/flux\ud800",
    "overlong dots": "queue.fal.run/fal-ai/%c0%ae%c0%ae/billing",
    "half a percent": "queue.fal.run/fal-ai/flux%2",
    "percent of something else": "queue.fal.run/fal-ai/flux%zz",
    "encoded full stop of another script": "queue%E3%80%82fal%E3%80%82run/fal-ai/flux",
    "encoded name in the query": "queue.fal.run/fal-ai/flux?fal%5fjwt%5ftoken=t",
    "name twice": "queue.fal.run/fal-ai/flux?fal_webhook=a&fal%5fwebhook=b",
    "name without a value": "queue.fal.run/fal-ai/flux?fal_jwt_token",
    "address in the query": "queue.fal.run/fal-ai/flux?https://evil.com/",
}
