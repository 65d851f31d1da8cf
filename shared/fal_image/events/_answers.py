"""What every entrance does with an answer: get one whatever happens, and make it fit into JSON."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import PurePath

from ..errors import AppError, Internal
from ..web import Response, problem_response

logger = logging.getLogger("fal_image")

# Everything else goes out as base64, and so does text that is not UTF-8.
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/javascript")


def answered(work: Callable[[], Response], request_id: str) -> Response:
    """What `work` answers; an error that escapes it becomes a problem and a log line. Never raises.

    The app answers its own errors, so an AppError here comes from reading the event.
    """
    try:
        return work()
    except AppError as error:
        fields = {"requestId": request_id, "error": error.code, "detail": error.detail}
        logger.warning("refused before the app", extra={"fields": fields})
        return problem_response(error, request_id)
    except Exception as error:
        log_failure("an error escaped", error, request_id)
        return problem_response(Internal("Something broke inside"), request_id)


def log_failure(what: str, error: Exception, request_id: str | None = None) -> None:
    """One log line that says what broke and where. Not the error's own text: it may quote an
    event, except that of a missing module, which cannot and which the owner needs."""
    reason = f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else None
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    fields = {
        "requestId": request_id,
        "error": reason or type(error).__name__,
        "at": " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames),
    }
    logger.error("%s: %s", what, fields["error"], extra={"fields": fields})


def buffered(response: Response) -> Response:
    """The answer with its whole body read, for platforms that cannot stream."""
    return Response(response.status, response.read(), response.headers)


def reason(status: int) -> str:
    """The phrase that stands beside a status in HTTP/1.1."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def media_type(response: Response) -> str:
    found = next((value for name, value in response.headers if name.lower() == "content-type"), "")
    return found.partition(";")[0].strip().lower()


def body_text(response: Response) -> tuple[str, bool]:
    """The body as a string that JSON can carry, and whether that string is base64."""
    raw = response.read()
    if not raw or _TEXT.fullmatch(media_type(response)):
        with suppress(UnicodeDecodeError):
            return raw.decode(), False
    return base64.b64encode(raw).decode("ascii"), True
