"""A deployed endpoint, for the commands: the same requests over HTTP, with the caller's own key.

Its errors are raised as they were raised there. Refuses to know command lines and what is shown.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import requests.utils
from msgspec import Struct

from ..connections import Tls
from ..endpoint import URL, Answer, Endpoint, EndpointFailed
from ..errors import AppError, DatabaseRequired
from ..images import NotAPicture, inspect
from ..sessions import new_session
from ..wire import CONNECT_TIMEOUT_S, USER_AGENT
from .output import EXIT_FAILED, EXIT_PAID, Say, Stopped, goes_on, interrupted, raised, usage

NO_ANSWER = "no_answer"
MAX_PICTURE_BYTES = 256 * 1024 * 1024
PAUSES_S = (0.5, 2.0)  # before the second and the third try of a request that got no answer
HINT_OF_KEY = (
    "POST /generate with this Idempotency-Key and the same body pays for it once, however often it "
    "is sent."
)
MAY_HAVE_PAID = "interrupted; the endpoint may have paid for the picture"
MAX_FAILURES = 5  # of looks at a job, one after the other: then nobody knows what became of it
PAUSE_S = 1.0  # between two looks at a job, where the endpoint asks for no other
UPLOAD_S = 120.0


class Deployment(Struct, frozen=True):
    """The endpoint at `url`."""

    url: str
    endpoint: Endpoint
    sleep: Callable[[float], None] = time.sleep
    new_key: Callable[[], str] = lambda: secrets.token_hex(16)

    def model_of(self, given: str | None) -> str:
        known = self._asked("GET", "/models")
        model = str(known.get("defaultModel")) if given is None else given
        return str(known.get("aliases", {}).get(model, model))

    def check(self, body: Mapping[str, object]) -> None:
        self.estimate(body)

    def estimate(self, body: Mapping[str, object]) -> dict[str, Any]:
        return self._asked("POST", "/estimate", body)

    def request(self, body: Mapping[str, object]) -> dict[str, object]:
        url = f"{self.url.rstrip('/')}/generate"
        return {"method": "POST", "url": url, "body": dict(body)}

    def attach(self, path: Path) -> str:
        """An upload of the endpoint's: its link takes the file, its file id stands for it."""
        with path.open("rb") as file:
            try:
                picture = inspect(file)
            except NotAPicture as error:
                raise usage(f"{path}: is not a whole picture: {error.reason}") from None
            declared = {"contentType": picture.content_type, "bytes": picture.bytes}
            offered = self._asked("POST", "/uploads", declared)
            file.seek(0)
            self._put(offered["upload"], file, path)
        return str(offered["fileID"])

    def make(self, body: Mapping[str, object], *, is_async: bool, say: Say) -> dict[str, Any]:
        # A wish to reuse is known again by itself, and takes no key.
        key = {} if body.get("reuse") else {"idempotency-key": self.new_key()}
        say(f"asking {self.url}")
        try:
            job = self._begun(body, key)
        except KeyboardInterrupt:
            raise interrupted(MAY_HAVE_PAID, **_of_key(key)) from None
        except AppError as error:
            if is_async or error.code != DatabaseRequired.code:
                raise
            job = self._made_at_once(body)
        return job if is_async or _is_over(job) else self.wait(str(job["jobId"]), say)

    def _begun(self, body: Mapping[str, object], key: Mapping[str, str]) -> dict[str, Any]:
        """A job that the endpoint keeps. The key makes it one bill, so it is asked for again where
        the answer was lost."""
        headers = {"prefer": "respond-async", **key}
        lost = 0
        while True:
            try:
                return self._asked("POST", "/generate", body, headers, pays=True)
            except AppError as error:
                error.retryable &= not lost
                raise
            except Stopped as error:
                if error.exit_code != EXIT_PAID and not lost:
                    raise
                if lost == len(PAUSES_S):
                    facts = _of_key(key)
                    raise Stopped(error.message, EXIT_PAID, code=error.code, **facts) from None
            self.sleep(PAUSES_S[lost])
            lost += 1

    def _made_at_once(self, body: Mapping[str, object]) -> dict[str, Any]:
        """A job of an endpoint that keeps none: one request, sent once, waits for the pictures."""
        try:
            return self._asked("POST", "/generate", body, pays=True)
        except KeyboardInterrupt:
            raise interrupted(MAY_HAVE_PAID) from None

    def job(self, job_id: str) -> dict[str, Any]:
        return self._asked("GET", _path(job_id))

    def wait(self, job_id: str, say: Say) -> dict[str, Any]:
        failures = 0
        try:
            while True:
                try:
                    answer = self._answered("GET", _path(job_id))
                except (AppError, Stopped) as error:
                    failures += 1
                    if failures == MAX_FAILURES or not _may_pass(error):
                        raise _out_of_sight(job_id, error) from None
                    self.sleep(PAUSE_S * failures)
                    continue
                if _is_over(answer.body):
                    return answer.body
                say(_told(answer.body))
                failures = 0
                self.sleep(answer.retry_after_s or PAUSE_S)
        except KeyboardInterrupt:
            raise goes_on(job_id) from None

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._asked("DELETE", _path(job_id))

    @contextmanager
    def read(self, image: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        link = image.get("tempFileURL")
        if link is None:
            link = self._asked("POST", "/links", {"fileID": image["fileID"]})["tempFileURL"]
        try:
            yield iter([self.endpoint.fetch(str(link), max_bytes=MAX_PICTURE_BYTES)])
        except EndpointFailed as error:
            text = f"the picture cannot be read: {error}"
            raise Stopped(text, EXIT_PAID, code=NO_ANSWER, fileID=image["fileID"]) from None

    def found_by(self, job: Mapping[str, Any], image: Mapping[str, Any]) -> str:
        return f"fal-image job {job['jobId']} -o FILE"

    def _asked(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        pays: bool = False,
    ) -> dict[str, Any]:
        return self._answered(method, path, body, headers, pays=pays).body

    def _answered(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        pays: bool = False,
    ) -> Answer:
        """An answer that is no error. What `pays` and may have arrived is not to be sent again."""
        try:
            answer = self.endpoint.ask(method, path, body, headers or {})
        except EndpointFailed as error:
            exit_code = EXIT_PAID if pays and error.sent else EXIT_FAILED
            text = f"{self.url} does not answer: {error.detail}"
            raise Stopped(text, exit_code, code=NO_ANSWER) from None
        if answer.is_error and "error" in answer.body:
            raise raised(answer.body)
        if answer.is_error or not answer.body:
            may_have_paid = pays and answer.status // 100 in (2, 5)
            exit_code = EXIT_PAID if may_have_paid else EXIT_FAILED
            text = f"{self.url} answers HTTP {answer.status}, but not as fal-image does"
            raise Stopped(text, exit_code, code=NO_ANSWER, hint=f"Look at {URL}.")
        return answer

    def _put(self, upload: Mapping[str, Any], file: Any, path: Path) -> None:
        """Send a file to a link of the endpoint's, without any credential."""
        url = str(upload["url"])
        address = urlsplit(url)
        here = [f"http://{address.netloc}"] if address.scheme == "http" else []
        proxies = requests.utils.get_environ_proxies(url)
        try:
            with (
                new_session(Tls, here, time.monotonic) as session,
                session.put(
                    url,
                    data=file,
                    headers={"user-agent": USER_AGENT, **upload["headers"]},
                    timeout=(CONNECT_TIMEOUT_S, UPLOAD_S),
                    allow_redirects=False,
                    proxies={scheme: str(proxy) for scheme, proxy in proxies.items()},
                ) as answer,
            ):
                status = answer.status_code
        except (requests.RequestException, OSError) as error:
            text = f"{path} could not be sent: {type(error).__name__}"
            raise Stopped(text, EXIT_FAILED, code=NO_ANSWER) from None
        if not 200 <= status < 300:
            text = f"{path} was not taken: HTTP {status} at {address.netloc}"
            raise Stopped(text, EXIT_FAILED, code=NO_ANSWER)


def _of_key(key: Mapping[str, str]) -> dict[str, str]:
    """By what a job is found again whose id was never heard."""
    return {"hint": HINT_OF_KEY, "idempotencyKey": key["idempotency-key"]} if key else {}


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _may_pass(error: AppError | Stopped) -> bool:
    return error.status >= 500 if isinstance(error, AppError) else error.code == NO_ANSWER


def _out_of_sight(job_id: str, error: AppError | Stopped) -> Stopped:
    """The end of waiting for a job that may well go on, and was paid for."""
    text = f"nobody could say what became of the job {job_id}: {error}"
    hint = f"`fal-image job {job_id} --wait` waits for it again."
    return Stopped(text, EXIT_PAID, code=error.code, hint=hint, jobId=job_id)


def _is_over(job: Mapping[str, Any]) -> bool:
    return job.get("state") in ("done", "failed", "cancelled", "unknown")


def _told(job: Mapping[str, Any]) -> str:
    position = job.get("queuePosition")
    return f"{job.get('state')}" if position is None else f"in fal's queue, position {position}"
