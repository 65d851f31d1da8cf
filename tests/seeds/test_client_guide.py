"""fal's guides to @fal-ai/client and to Next.js: what they get from fal, and from us."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fal_image.dev.emulator import Emulator
from fal_image.extend import Hooks
from fal_image.web import Request, Response, json_response
from support.emulator import QUEUE, SCHNELL, ask
from support.entrypoints import FAL_KEY
from support.frontend import COOKIE, ROUTERS, ROUTES, call_in, lay_out, shown
from support.instances import CAT, Server, extended, serving
from support.node import FOLDER, call, call_in_page
from support.proxied import WatchedFal
from support.seeds import Endpoint, assert_ours_is_the_same, ordered, size_px

SEED = 6252023
PROXY = "node_modules/@fal-ai/server-proxy"  # the package whose place we take

pytestmark = pytest.mark.needs("node >= 20")


def guide(function: str, *arguments: object, fal: Emulator) -> Any:
    """What a reader has after a snippet of the guide."""
    called = call("seeds/client_guide.mjs", function, *arguments, emulator=fal)
    assert called.threw is None
    return called.returned


def assert_four_pictures(endpoint: Endpoint, result: Any) -> None:
    """The result is of the newest request, and our endpoint gives the same."""
    assert result["requestId"] == endpoint.fal.ledger[-1].request_id
    output = result["data"]
    assert output["seed"] == SEED
    assert [size_px(image) for image in output["images"]] == [(1024, 768)] * 4
    assert_ours_is_the_same(endpoint, output)


def test_subscribe(endpoint: Endpoint) -> None:
    assert_four_pictures(endpoint, guide("subscribe", fal=endpoint.fal))


def test_subscribe_prints_the_logs_of_work_in_progress() -> None:
    with Emulator(run_s=0.8) as slow:
        printed = call("seeds/client_guide.mjs", "subscribe", emulator=slow).printed
    assert printed
    assert {line.split()[0] for line in printed} <= {"25%", "50%", "75%", "100%"}


def test_queue_submit_with_a_webhook() -> None:
    with Emulator(queue_s=3600) as busy:
        request_id = guide("submit", fal=busy)
        [taken] = busy.ledger
    assert taken.request_id == request_id
    assert taken.webhook_url == "https://optional.webhook.url/for/results"


def test_queue_status_and_result_of_an_earlier_request(endpoint: Endpoint) -> None:
    fal = endpoint.fal
    earlier = guide("subscribe", fal=fal)

    status = guide("status", earlier["requestId"], fal=fal)
    assert status["status"] == "COMPLETED"
    assert [line["message"] for line in status["logs"]] == ["25%", "50%", "75%", "100%"]
    result = guide("result", earlier["requestId"], fal=fal)
    assert result == earlier
    assert_four_pictures(endpoint, result)


def test_storage_upload(fal: Emulator) -> None:
    uploaded = ask(fal, "GET", guide("upload", fal=fal), key=None)
    assert uploaded.body == b"Hello, World!"
    assert uploaded.headers["content-type"] == "text/plain"


def test_stream_ends_with_what_our_endpoint_gives(endpoint: Endpoint) -> None:
    seen = guide("stream", fal=endpoint.fal)

    assert len(seen["events"]) > 1
    assert seen["result"] == seen["events"][-1]
    assert_ours_is_the_same(endpoint, seen["result"])


def test_run(endpoint: Endpoint) -> None:
    assert_four_pictures(endpoint, guide("run", fal=endpoint.fal))
    assert endpoint.fal.ledger[-2].via == "run"


def test_the_new_client_wraps_what_the_old_one_returned(fal: Emulator) -> None:
    arguments = {"prompt": "a cat", "seed": SEED}
    seen = guide("migrate", "fal-ai/flux/dev", arguments, fal=fal)

    assert list(seen["before"]) == list(seen["data"])
    assert seen["before"]["seed"] == seen["data"]["seed"] == SEED
    assert seen["requestId"] == fal.ledger[-1].request_id
    assert ordered(fal) == ("fal-ai/flux/dev", arguments)


def test_without_await_the_printed_lines_of_the_migration_give_nothing(fal: Emulator) -> None:
    seen = guide("migrateAsPrinted", "fal-ai/flux/dev", {"prompt": "a cat"}, fal=fal)
    assert seen == {"data": None, "requestId": None}


def test_realtime_connect(proxy: Server, fal: Emulator) -> None:
    """As a page does it: the token comes through our proxy."""
    called = call_in_page(
        "seeds/client_guide.mjs", "realtime", "/api/fal/proxy", site=proxy.url, fal=fal
    )
    assert called.returned["seed"] == SEED
    assert [size_px(image) for image in called.returned["images"]] == [(1024, 768)] * 4
    assert fal.ledger[-1].via == "realtime"


def page(function: str, *arguments: object, proxy: Server, fal: Emulator) -> Any:
    """What a page of the guide to Next.js has after a call."""
    called = call_in_page("seeds/next.mjs", function, *arguments, site=proxy.url, fal=fal)
    assert called.threw is None
    return called


def test_the_page_subscribes_through_the_proxy(proxy: Server, endpoint: Endpoint) -> None:
    called = page("generate", "a calico cat", proxy=proxy, fal=endpoint.fal)
    assert any("queue update" in line for line in called.printed)
    result = called.returned
    assert result["requestId"] == endpoint.fal.ledger[-1].request_id
    assert size_px(result["data"]["images"][0]) == (1024, 1024)
    assert_ours_is_the_same(endpoint, result["data"])


def test_the_printed_image_url_is_where_the_old_client_had_it(proxy: Server, fal: Emulator) -> None:
    seen = page("generateAsPrinted", "a cat", proxy=proxy, fal=fal)
    assert seen.returned == {"error": "TypeError"}


def test_the_key_of_the_environment_is_our_endpoints(tmp_path: Path) -> None:
    """The page has none, and fal is shown the endpoint's."""
    fal = WatchedFal()
    with fal, serving(fal, tmp_path, FAL_IMAGE_ALLOW_ANONYMOUS="1") as server:
        page("generate", "a cat", proxy=server, fal=fal)
    assert {value for name, value in fal.shown if name == "authorization"} == {f"Key {FAL_KEY}"}


@pytest.fixture
def nextjs(tmp_path: Path) -> Path:
    """A Next.js app as the guide has it; in place of fal's proxy the files of our page about it."""
    ours = shown()
    files = {
        **ours,
        f"{PROXY}/package.json": '{"exports": {"./nextjs": "./index.mjs"}}',
        f"{PROXY}/index.mjs": (
            'export { route } from "../../../lib/fal-image.js";\n'
            'export { default as handler } from "../../../ours/api/fal/proxy.js";\n'
        ),
        "ours/api/fal/proxy.js": ours[ROUTES["page"]],
        **{ROUTES[router]: printed(f"next_{router}_route.js") for router in ROUTERS},
    }
    return lay_out(tmp_path / "nextjs", files)


def printed(name: str) -> str:
    return (FOLDER / "seeds" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("router", ROUTERS)
def test_the_printed_handlers_with_ours_in_place_of_fals(
    nextjs: Path, proxy: Server, fal: Emulator, router: str
) -> None:
    called = call_in(nextjs, "paint", router, COOKIE, url=proxy.url)
    painted = called.outcome["returned"]
    assert painted["requestId"] == fal.ledger[-1].request_id
    assert ask(fal, "GET", painted["url"], key=None).body.startswith(b"\xff\xd8")


def test_the_printed_app_router_leaves_cancel_out(nextjs: Path, proxy: Server) -> None:
    called = call_in(nextjs, "answered", "app", COOKIE, ["PUT"], url=proxy.url)
    assert called.outcome["returned"] == [405]


def test_own_logic_around_the_handler(nextjs: Path, proxy: Server, fal: Emulator) -> None:
    (nextjs / ROUTES["app"]).write_text(printed("next_own_logic.js"), encoding="utf-8")
    taken = len(fal.ledger)
    seen = call_in(nextjs, "limited", COOKIE, 2, url=proxy.url).outcome["returned"]
    assert seen["statuses"] == [200, 200, 429]
    tracked = {"event": "fal.ai request", "targetUrl": f"{QUEUE}/{SCHNELL}", "userId": "ada"}
    assert seen["tracked"] == [tracked] * 3
    assert len(fal.ledger) == taken + 2


def test_own_logic_around_our_endpoint(fal: Emulator, tmp_path: Path) -> None:
    """The same two thoughts, where no server of the site's is in between."""
    tracked: list[tuple[str | None, str | None, int]] = []
    posts: Counter[str | None] = Counter()

    def before(request: Request, caller: str | None) -> Response | None:
        posts[caller] += request.method == "POST"
        if request.method == "POST" and posts[caller] > 1:
            return json_response(429, {"error": "Too many requests"})
        return None

    def after(request: Request, response: Response, caller: str | None) -> Response:
        target = request.headers.get("x-fal-target-url")
        tracked.append((target, caller, response.status))
        return response

    one = extended(fal, tmp_path, Hooks(before, after))
    submit, taken = f"{QUEUE}/{SCHNELL}", len(fal.ledger)

    def through(method: str, target: str, body: object = None) -> Any:
        return one.ask(method, "/api/fal/proxy", body, x_fal_target_url=target)

    first, second = (through("POST", submit, CAT) for _ in range(2))
    assert (first.status, second.status) == (200, 429)
    assert second.json == {"error": "Too many requests"}
    result = first.json["response_url"]
    assert through("GET", result).status == 200
    assert tracked == [(submit, "web", 200), (submit, "web", 429), (result, "web", 200)]
    assert len(fal.ledger) == taken + 1
