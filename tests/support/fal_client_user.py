"""What a user of fal-client writes, as a program: fal-client reads its hosts when it is imported.

`python -m support.fal_client_user STORY OPTIONS` carries out one story under the environment it is
given and prints what came of it. It may reach the address in FAL_RUN_HOST and no other. Refuses to
know that fal is not at that address.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

ALLOWED = os.environ["FAL_RUN_HOST"].partition("/")[0]
ELSEWHERE = "https://elsewhere.example.com/hook"
reached: set[str] = set()


class Stray(Exception):
    """Not an OSError, which fal-client would take for a bad line and try again."""


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook; raises Stray."""
    if event == "socket.connect":
        host, port = arguments[1][:2]
        reached.add(f"{host}:{port}")
        if f"{host}:{port}" != ALLOWED:
            raise Stray(f"{host}:{port}")
    if event == "socket.getaddrinfo" and arguments[0] != ALLOWED.partition(":")[0]:
        raise Stray(arguments[0])


sys.addaudithook(watch)

import fal_client  # noqa: E402 - watched from its first line


def run(model: str, arguments: dict[str, Any]) -> object:
    return fal_client.run(model, arguments)


def subscribe(model: str, arguments: dict[str, Any]) -> object:
    enqueued: list[str] = []
    seen: list[fal_client.Status] = []
    result = fal_client.subscribe(
        model, arguments, with_logs=True, on_enqueue=enqueued.append, on_queue_update=seen.append
    )
    return {"enqueued": enqueued, "seen": list(map(shown, seen)), "result": result}


def submit(model: str, arguments: dict[str, Any]) -> object:
    """By the handle, which follows the addresses in the answer, and by the request's id alone."""
    handle = fal_client.submit(model, arguments, priority="low", hint="here", start_timeout=30)
    return {
        "request_id": handle.request_id,
        "urls": [handle.status_url, handle.response_url, handle.cancel_url],
        "events": [shown(status) for status in handle.iter_events(with_logs=True, interval=0.02)],
        "result": handle.get(),
        "status by id": shown(fal_client.status(model, handle.request_id, with_logs=True)),
        "result by id": fal_client.result(model, handle.request_id),
        "late cancel": caught(handle.cancel),
    }


def cancel(model: str, arguments: dict[str, Any]) -> object:
    by_handle = fal_client.submit(model, arguments)
    by_handle.cancel()
    by_id = fal_client.submit(model, arguments | {"seed": 8})
    fal_client.cancel(model, by_id.request_id)
    return {"by handle": caught(by_handle.get), "by id": caught(by_id.get)}


def stream(model: str, arguments: dict[str, Any]) -> object:
    return list(fal_client.stream(model, arguments))


def refusals(model: str, arguments: dict[str, Any], other_key: str) -> object:
    """What each mistake looks like to the one who makes it."""
    too_many = arguments | {"num_images": 9}
    handle = fal_client.submit(model, arguments)
    handle.get()
    stranger = fal_client.SyncClient(key="k-nobody-knows-this-one")
    other = fal_client.SyncClient(key=other_key)
    by_id = (model, handle.request_id)
    return {
        "run": caught(lambda: fal_client.run(model, too_many)),
        "submit": caught(lambda: fal_client.submit(model, too_many)),
        "model": caught(lambda: fal_client.submit("somebody/else", arguments)),
        "webhook": caught(lambda: fal_client.submit(model, arguments, webhook_url=ELSEWHERE)),
        "stranger runs": caught(lambda: stranger.run(model, arguments)),
        "stranger asks": caught(lambda: stranger.status(*by_id)),
        "other asks": caught(lambda: other.status(*by_id)),
        "other takes": caught(lambda: other.result(*by_id)),
        "other cancels": caught(lambda: other.cancel(*by_id)),
    }


def impatient(model: str, arguments: dict[str, Any]) -> object:
    """The id of the request that its caller did not wait for."""
    try:
        fal_client.subscribe(model, arguments, client_timeout=1.5)
    except fal_client.FalClientTimeoutError as error:
        return error.request_id
    raise AssertionError("nobody was impatient")


def elsewhere(model: str, arguments: dict[str, Any]) -> object:
    """What stops the calls whose hosts are fixed in fal-client."""
    told: dict[str, str] = {}
    try:
        fal_client.upload(b"bytes", "text/plain")
    except Stray as error:
        told["upload"] = str(error)
    try:
        with fal_client.realtime(model):
            pass
    except Stray as error:
        told["realtime"] = str(error)
    return told


def refused_run(model: str, arguments: dict[str, Any]) -> object:
    return caught(lambda: fal_client.run(model, arguments))


def asynchronous(model: str, arguments: dict[str, Any]) -> object:
    async def story() -> object:
        client = fal_client.AsyncClient()
        handle = await client.submit(model, arguments)
        return {
            "result": await handle.get(interval=0.02),
            "run": await client.run(model, arguments),
            "subscribe": await client.subscribe(model, arguments, interval=0.02),
            "stream": [event async for event in client.stream(model, arguments)],
        }

    return asyncio.run(story())


def shown(status: fal_client.Status) -> dict[str, Any]:
    return {"state": type(status).__name__, **vars(status)}


def caught(call: Callable[[], object]) -> dict[str, Any]:
    """The error that a call must end in."""
    try:
        answer = call()
    except fal_client.FalClientHTTPError as error:
        headers = error.response_headers
        return {
            "status": error.status_code,
            "message": error.message,
            "type": error.error_type,
            "timed out": headers.get("x-fal-request-timeout-type"),
        }
    raise AssertionError(f"nothing was refused: {answer}")


STORIES: dict[str, Callable[..., object]] = {
    story.__name__: story
    for story in (
        run,
        subscribe,
        submit,
        cancel,
        stream,
        refusals,
        impatient,
        elsewhere,
        refused_run,
        asynchronous,
    )
}

if __name__ == "__main__":
    told = STORIES[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps({"told": told, "reached": sorted(reached)}))
