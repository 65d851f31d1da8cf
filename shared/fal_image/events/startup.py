"""Building the app once per process, without ever failing the import of an entrypoint."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Misconfigured
from ..web import App, Request, Response, problem_response
from ._answers import log_failure


def built_once(build: Callable[[], App]) -> App:
    """The app that `build` makes: built now, while a platform grants full CPU to the start.

    Never raises. If building failed it is tried again at each request, and as long as it fails
    requests are answered 500 `misconfigured`; the log says what and where, a stranger is not told.
    """
    built = _attempt(build)

    def app(request: Request) -> Response:
        nonlocal built
        built = built or _attempt(build)
        if built is None:
            error = Misconfigured(
                "The endpoint cannot start",
                hint="The owner finds the reason in the function's log: a package with parts "
                "missing, or settings that cannot be used.",
            )
            return problem_response(error, request.platform.request_id)
        return built(request)

    return app


def _attempt(build: Callable[[], App]) -> App | None:
    try:
        return build()
    except Exception as error:
        log_failure("the app cannot be built", error)
        return None
