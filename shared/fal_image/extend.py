"""The owner's own code around ours: three places to hang it in, and what becomes of its failures.

What it does is the owner's business; `docs/extend.md` tells what each place promises. Refuses to
know routes and how pictures are copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from .jobs import Image, Job, JobWarning
from .logs import logger
from .web import Request, Response

# A caller's request before its route: an answer in the route's place, or None to go on.
Before = Callable[[Request, str | None], Response | None]
# A caller's answer on its way out; the caller is None if nobody could be identified.
After = Callable[[Request, Response, str | None], Response]
# A stored picture before its job is done, at least once: False keeps it from leaving.
OnImage = Callable[[Job, Image], bool | None]


class Hooks(Struct, frozen=True):
    """What the owner gave to `build_app`. Shared between threads, as it is called from many.

    With `refuses_flagged` the owner withholds what fal's safety checker flagged, too; with
    `requires_label` no picture leaves without the AI label.
    """

    before: Before | None = None
    after: After | None = None
    on_image: OnImage | None = None
    refuses_flagged: bool = False
    requires_label: bool = False

    @property
    def judges(self) -> bool:
        """Whether a picture that was not judged yet may turn out to be withheld."""
        return self.on_image is not None or self.refuses_flagged

    def instead(self, request: Request, caller: str) -> Response | None:
        """The owner's answer in the route's place, None to go on. Raises whatever `before` does,
        and TypeError for what is no answer."""
        answer = self.before(request, caller) if self.before else None
        if answer is not None and not isinstance(answer, Response):
            raise TypeError(f"before gave a {type(answer).__name__}, not a Response or None")
        return answer

    def final(self, request: Request, response: Response, caller: str | None) -> Response:
        """The answer as it goes out. What is wrong with `after` is logged and changes nothing: the
        answer may be a picture that was paid for."""
        if self.after is None:
            return response
        try:
            answer = self.after(request, response, caller)
            if not isinstance(answer, Response):
                raise TypeError(f"after gave a {type(answer).__name__}, not a Response")
        except Exception:
            logger.exception(
                "after failed", extra={"fields": {"requestId": request.platform.request_id}}
            )
            return response
        return answer

    def judged(
        self, job: Job, images: Sequence[Image]
    ) -> tuple[tuple[Image, ...], tuple[JobWarning, ...]]:
        """The pictures, those withheld without their links, and what is to be said of them.

        A picture over which `on_image` fails is kept and linked: it was paid for.
        """
        judged, withheld, failed, refused = [], [], [], []
        for image in images:
            try:
                may_leave = self.on_image is None or self.on_image(job, image) is not False
            except Exception:
                facts = {"jobId": job.job_id, "image": image.index}
                logger.exception("on_image failed", extra={"fields": facts})
                failed.append(str(image.index))
                may_leave = True
            if not may_leave:
                withheld.append(str(image.index))
            is_refused = self.refuses_flagged and image.nsfw is True
            if is_refused:
                refused.append(str(image.index))
            if is_refused or not may_leave:
                image = replace(image.unlinked(), withheld=True)
            judged.append(image)
        warnings = []
        if refused:
            warnings.append(flagged_warning(refused))
        if withheld:
            text = f"The owner's check withholds image {', '.join(withheld)}: no link is given."
            warnings.append(JobWarning("withheld", text))
        if failed:
            text = f"The owner's on_image failed for image {', '.join(failed)}."
            warnings.append(JobWarning("on_image_failed", text))
        return tuple(judged), tuple(warnings)


def flagged_warning(places: Sequence[str]) -> JobWarning:
    """What is said of pictures that are withheld because fal's safety checker flagged them."""
    which = ", ".join(places)
    text = f"fal's safety checker flagged image {which}, and flagged pictures are refused here."
    return JobWarning("withheld", text)


NO_HOOKS = Hooks()
