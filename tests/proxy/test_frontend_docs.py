"""What `docs/frontend.md` shows is run: in Node, in Chromium, in front of our server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fal_image.dev import platforms
from fal_image.dev.emulator import Emulator
from fal_image.server import bind, running, url_of
from fal_image.web import Request, Response, json_response
from support.emulator import ask
from support.entrypoints import KEY, clear_environment, load
from support.frontend import COOKIE, ROUTERS, call_in, client_module, lay_out, shown
from support.instances import NOWHERE, Server, environment, serving
from support.node import run

ENDPOINT = "https://pictures.example.com"

# What each block's first line names, and the test that runs it, or why none can.
RUN = {
    "lib/fal-image.js": "test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket",
    "app/api/fal/proxy/route.js": "test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket",
    "pages/api/fal/proxy.js": "test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket",
    "lib/fal.js": "test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket",
    "lib/fal-server.js": "test_a_server_asks_for_itself",
    "index.html": "test_the_page_without_a_server_shows_the_picture",
    "events.js": "test_a_job_is_followed_to_its_end",
    "follow.html": "test_the_page_that_follows_a_job_shows_its_picture",
    "stream.js": "test_the_stream_of_a_model_is_read_without_its_client",
    "cloudfunctions/pictures/index.js": "test_the_mini_program_paints_through_its_cloud_function",
    "miniprogram/pictures.js": "test_the_mini_program_paints_through_its_cloud_function",
    "miniprogram/proxy.js": "test_the_mini_program_asks_the_server_of_the_site",
}
NOT_RUN = {
    ".env.local": "names the two variables that every test of a site sets",
    "vite.config.js": "Vite is not installed here; test_vite_shows_the_key reads it",
    "once": "esbuild is not installed here; tests/node/bundle.mjs makes the same file",
}

pytestmark = pytest.mark.needs("node >= 20")
chromium = pytest.mark.needs("chromium")
routers = pytest.mark.parametrize("router", ROUTERS)


def test_every_block_is_run_or_says_why_not():
    assert sorted(shown()) == sorted(RUN | NOT_RUN)
    assert set(RUN.values()) <= set(globals())


@pytest.fixture(scope="module")
def script() -> str:
    return client_module()


@pytest.fixture
def project(tmp_path: Path, script: str) -> Path:
    """A reader's folder with all files of the page, and what the reader adds."""
    return lay_out(tmp_path / "project", {**shown(), "fal.js": script})


@pytest.fixture
def site(project: Path) -> Iterator[str]:
    """The reader's folder as a static site; gives its origin."""
    handler = partial(Quiet, directory=str(project))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def fal() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def endpoint(fal: Emulator, site: str, tmp_path: Path) -> Iterator[Server]:
    """Our server, which keeps the pictures of proxied calls, and which the site's pages may ask."""
    with serving(
        fal, tmp_path, FAL_IMAGE_PROXY_STORE_IMAGES="1", FAL_IMAGE_CORS_ORIGINS=site
    ) as server:
        yield server


@pytest.fixture
def call(project: Path) -> Callable[..., Any]:
    """Call a function of tests/node/frontend/site.mjs on the reader's folder."""

    def called(function: str, *arguments: object, url: str = NOWHERE, of: str = "site") -> Any:
        return call_in(project, function, *arguments, url=url, of=of).outcome

    return called


@routers
def test_a_visitor_who_is_signed_in_gets_a_picture_from_the_bucket(
    call: Callable[..., Any], endpoint: Server, fal: Emulator, router: str
):
    painted = call("paint", router, COOKIE, url=endpoint.url)["returned"]
    assert painted["seen"][-1] == "COMPLETED"
    assert painted["requestId"] == fal.ledger[-1].request_id
    assert painted["fileID"].startswith("file:///ai-images/")
    assert painted["url"].startswith(f"{endpoint.url}/files/ai-images/")
    path = painted["url"].removeprefix(endpoint.url)
    assert endpoint.http("GET", path).body.startswith(b"\xff\xd8")


@routers
def test_a_stranger_is_refused_before_the_endpoint_is_asked(call: Callable[..., Any], router: str):
    threw = call("paint", router, "theme=dark")["threw"]
    assert (threw["status"], threw["body"]) == (401, {"message": "Sign in first"})


@routers
def test_cancels_refusals_uploads_and_streams_go_the_same_way(
    call: Callable[..., Any], endpoint: Server, fal: Emulator, router: str
):
    done = call("useMore", router, COOKIE, url=endpoint.url)["returned"]
    assert done["cancelled"] == {"status": "ALREADY_COMPLETED"}
    assert done["refused"] == {"name": "ValidationError", "status": 422}
    assert ask(fal, "GET", done["uploaded"], key=None).body == b"small file"
    assert done["done"]["images"][0]["url"].startswith(f"{endpoint.url}/files/")


@routers
def test_other_methods_are_refused(call: Callable[..., Any], router: str):
    assert call("answered", router, COOKIE, ["DELETE", "PATCH"])["returned"] == [405, 405]


@routers
def test_an_answer_is_handed_on_as_it_comes_and_nothing_of_the_site_goes_out(
    call: Callable[..., Any], router: str
):
    handed = call("handOn", router, COOKIE)["returned"]
    assert (handed["first"], handed["second"]) == ("data: 1\n\n", "data: 2\n\n")
    assert (handed["status"], handed["headers"]["x-fal-request-id"]) == (203, "r-1")
    assert handed["headers"]["cache-control"] == "no-store, no-transform"
    seen = handed["seen"]
    assert (seen["url"], seen["body"]) == ("/api/fal/proxy", '{"prompt": "a cat"}')
    headers = seen["headers"]
    assert headers["x-api-key"] == KEY
    assert headers["accept"] == "text/event-stream"
    assert headers["content-length"] == str(len(seen["body"]))
    assert headers["x-fal-target-url"].endswith("/stream")
    assert not {"cookie", "authorization"} & set(headers)


@routers
def test_a_visitor_who_leaves_hangs_up_on_the_endpoint(call: Callable[..., Any], router: str):
    assert call("leave", router, COOKIE)["returned"] is True


def test_a_server_asks_for_itself(call: Callable[..., Any], endpoint: Server):
    data = call("onTheServer", url=endpoint.url)["returned"]
    assert data["images"][0]["url"].startswith(f"{endpoint.url}/files/")


def test_vite_shows_the_key(call: Callable[..., Any]):
    proxied = call("vite", url="https://pictures.example.com")["returned"]["server"]["proxy"]
    assert proxied["/api/fal/proxy"]["target"] == "https://pictures.example.com"
    assert proxied["/api/fal/proxy"]["headers"] == {"x-api-key": KEY}


def click(project: Path, site: str, name: str, url: str, folder: Path, lost: str = "") -> Any:
    """What a visitor with a key meets after a click on the button of a page: the second one, if the
    answer to the first request for `lost` does not arrive."""
    file = project / name
    html = file.read_text(encoding="utf-8")
    assert html.count(ENDPOINT) == 1
    assert html.count('type="password"') == 1
    html = html.replace(ENDPOINT, url).replace('type="password"', f'type="password" value="{KEY}"')
    file.write_text(html, encoding="utf-8")
    executable = shutil.which("chromium")
    assert executable is not None
    home = {"XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    return json.loads(run(["page.mjs", executable, f"{site}/{name}", lost], home))


@chromium
def test_the_page_without_a_server_shows_the_picture(
    project: Path, site: str, endpoint: Server, tmp_path: Path
):
    shown = click(project, site, "index.html", endpoint.url, tmp_path)["picture"]
    assert (shown["width"], shown["height"]) == (1024, 768)
    assert shown["src"].startswith(f"{endpoint.url}/files/ai-images/")


@chromium
def test_the_page_without_a_server_says_what_failed(
    project: Path, site: str, endpoint: Server, fal: Emulator, tmp_path: Path
):
    text = project / "index.html"
    model = text.read_text(encoding="utf-8").replace("fal-ai/flux/schnell", "fal-ai/sdxl")
    text.write_text(model, encoding="utf-8")
    said = click(project, site, "index.html", endpoint.url, tmp_path)["alert"]
    assert "fal-ai/sdxl" in said
    assert fal.ledger == []


@chromium
def test_the_page_that_follows_a_job_shows_its_picture(
    project: Path, site: str, endpoint: Server, tmp_path: Path
):
    shown = click(project, site, "follow.html", endpoint.url, tmp_path)["picture"]
    assert (shown["width"], shown["height"]) == (1024, 576)
    assert shown["src"].startswith(f"{endpoint.url}/files/ai-images/")


@chromium
def test_a_click_after_a_lost_answer_is_the_same_job(
    project: Path, site: str, endpoint: Server, fal: Emulator, tmp_path: Path
):
    shown = click(project, site, "follow.html", endpoint.url, tmp_path, "**/generate")["picture"]
    assert (shown["width"], shown["height"]) == (1024, 576)
    assert len(fal.ledger) == 1


def test_a_job_is_followed_to_its_end(call: Callable[..., Any], endpoint: Server):
    job = endpoint.submitted()
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"{endpoint.url}/jobs/{job['jobId']}/events"
    followed = call("followed", url, headers)["returned"]
    assert followed["done"]["state"] == "done"
    assert "image" in followed["names"]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_events_are_found_wherever_the_network_cuts(call: Callable[..., Any], ending: str):
    lines = (": hello", "", "event: image", "id: 7", 'data: {"n":', "data:1}", "", "retry: 2000")
    stream = ending.join((*lines, "", 'data: "é"', "", 'data: "cut off"', "")).encode()
    found = [{"name": "image", "data": {"n": 1}}, {"name": "message", "data": "é"}]
    for size in (1, 7, len(stream)):
        chunks = [list(stream[at : at + size]) for at in range(0, len(stream), size)]
        assert call("parsed", chunks)["returned"] == found


def test_the_stream_of_a_model_is_read_without_its_client(
    call: Callable[..., Any], endpoint: Server
):
    given = {"prompt": "a cat", "seed": 7}
    outputs = call("streamed", f"{endpoint.url}/api/fal/proxy", {"x-api-key": KEY}, given)[
        "returned"
    ]
    assert len(outputs) > 1
    assert outputs[-1]["seed"] == 7
    assert outputs[-1]["fal_image"]["error"] is None


@pytest.fixture
def clouds(
    fal: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Request], Response]:
    """Where a call of the cloud function fal-image-gen arrives: at our CloudBase entrypoint."""
    clear_environment(monkeypatch)
    for name, value in environment(fal, tmp_path).items():
        monkeypatch.setenv(name, value)
    main = load("cloudbase")

    def invoke(request: Request) -> Response:
        asked = json.loads(request.body)
        assert asked["name"] == "fal-image-gen"
        return json_response(200, main(asked["data"], platforms.cloudbase_context("scf-1")))

    return invoke


def paint(
    call: Callable[..., Any],
    clouds: Callable[[Request], Response],
    openid: str,
    prompt: str,
    lost: Sequence[str] = (),
) -> Any:
    with bind("127.0.0.1", 0) as listener, running(clouds, listener):
        said = call("callFunction", url_of(listener), openid, prompt, list(lost), of="wechat")
    return said["returned"]


def test_the_mini_program_paints_through_its_cloud_function(
    call: Callable[..., Any], clouds: Callable[[Request], Response], fal: Emulator
):
    painted = paint(call, clouds, "o-ada", "a calico cat")
    job: Mapping[str, Any] = painted["job"]
    assert (job["state"], job["prompt"]) == ("done", "a calico cat")
    assert job["tempFileURL"]
    first, *polls = painted["asked"]
    assert (first, set(polls)) == ("POST /generate", {f"GET /jobs/{job['jobId']}"})
    assert painted["refused"] == {"error": "refused", "message": "Not from here"}
    assert len(fal.ledger) == 1


@pytest.mark.parametrize("lost", [["POST"], ["GET"], ["GET"] * 6])
def test_the_mini_program_pays_once_whatever_answers_are_lost(
    call: Callable[..., Any],
    clouds: Callable[[Request], Response],
    fal: Emulator,
    lost: Sequence[str],
):
    painted = paint(call, clouds, "o-ada", "a calico cat", lost)
    assert painted["job"]["state"] == "done"
    assert painted["asked"].count("POST /generate") == (1 if lost == ["GET"] else 2)
    assert len(fal.ledger) == 1


def test_the_mini_program_is_told_what_failed(
    call: Callable[..., Any], clouds: Callable[[Request], Response], fal: Emulator
):
    assert "prompt" in paint(call, clouds, "o-ada", " ")["job"]["message"]
    assert paint(call, clouds, "", "a cat")["job"] == {"message": "Not from here"}
    assert fal.ledger == []


def test_the_mini_program_asks_the_server_of_the_site(
    call: Callable[..., Any], endpoint: Server, fal: Emulator
):
    given = ("ada-1815", "a calico cat")
    result = call("request", *given, url=endpoint.url, of="wechat")["returned"]
    assert result["images"][0]["url"].startswith(f"{endpoint.url}/files/")
    refused = call("request", "nobody", "a cat", url=endpoint.url, of="wechat")
    assert refused["returned"] == {"message": "Sign in first", "error": None}
    assert len(fal.ledger) == 1
