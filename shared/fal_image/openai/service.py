"""OpenAI's three calls over the same jobs as every other route.

Refuses to know routes and how callers prove who they are.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct
from msgspec.structs import replace

from ..errors import (
    AppError,
    DatabaseRequired,
    DeadlineExceeded,
    FalFailed,
    SubmitUnknown,
)
from ..fal import catalog
from ..generate import Generator, Turn, Wish, failure_of, is_allowed
from ..inputs import Order, field_error, parse_order
from ..jobs import Image, Job, JobWarning
from ..logs import logger
from ..notices import Notices
from ..tickets import Ticket
from ..web import Response, json_response
from . import forms, masks
from .answers import base64_chars, refuse_too_large, room_for, told, too_large
from .wishes import Wanted, model_of, wanted

# An answer of a server that has no limit of its own: it is put together in memory.
MAX_ANSWER_BYTES = 32 * 1024 * 1024

# For reading stored pictures once the answer is due; the entrance has kept back twice of it.
READ_S = 1.0


class Asked(Struct, frozen=True):
    """One call: whose it is, and how its answer gets back. `job_id` is where the caller's
    Idempotency-Key leads; `place_of` says where a job can be asked after, `answer_bytes` how long
    an answer may be."""

    caller: str
    ticket: Ticket | None
    turn: Turn
    request_id: str
    job_id: str | None
    public_url: str | None
    place_of: Callable[[str], str]
    answer_bytes: int | None
    note: Callable[..., None]


class OpenAI(Struct, frozen=True):
    """`aliases` are the owner's other names for models."""

    generator: Generator
    notices: Notices
    default_model: str
    aliases: Mapping[str, str]

    def generations(self, fields: Mapping[str, object], asked: Asked) -> Response:
        """Make pictures of words. Raises AppError; see `answers.refusal` for its shape."""
        model_id = model_of(fields.get("model"), self.default_model, self.aliases)
        wish = wanted(fields, model_id)
        with wish.speaking():
            order = self._checked(wish, asked)
            job = self._made(order, asked)
        return self._answer(job, wish, asked)

    def edits(self, body: bytes, content_type: str, asked: Asked) -> Response:
        """Make pictures of pictures. Nothing is stored of what is refused for its fields."""
        edit = forms.read(body, content_type)
        model_id = self._model_of(edit)
        fields = forms.typed(edit.fields, model_id)
        for name, content in edit.pictures():
            masks.check(name, content)
        names = {"image_url": "image", "image_urls": "image", "mask_url": "mask"}

        def wish_for(images: list[str], mask: str | None) -> Wanted:
            placed = forms.with_pictures(replace(edit, fields=fields), model_id, images, mask)
            made = wanted(placed.fields, model_id)
            return replace(made, names={**names, **made.names})

        files = [f"file {number}" for number, _ in enumerate(edit.images)]
        wish = wish_for(files, None if edit.mask is None else "mask")
        with wish.speaking():
            self._checked(wish, asked)
            mask = edit.mask
            if isinstance(mask, bytes):
                mask = masks.for_flux(mask, edit.images[0])
            kept = [self._kept("image", image, asked) for image in edit.images]
            wish = wish_for(kept, None if mask is None else self._kept("mask", mask, asked))
            job = self._made(self._checked(wish, asked), asked)
        return self._answer(job, wish, asked)

    def models(self) -> Response:
        """The models that the owner allows, as far as they are known, and their other names."""
        allowed = self.generator.orders.allowed_models
        ids = [model_id for model_id in catalog.models() if is_allowed(model_id, allowed)]
        named = {model_id: model_id for model_id in ids}
        named |= {name: one for name, one in self.aliases.items() if is_allowed(one, allowed)}
        data = [
            {"id": name, "object": "model", "created": 0, "owned_by": one.partition("/")[0]}
            for name, one in named.items()
        ]
        return json_response(200, {"object": "list", "data": data})

    def _model_of(self, edit: forms.Edit) -> str:
        name = edit.fields.get("model")
        default = forms.DEFAULT_MODEL if edit.mask is None else forms.DEFAULT_MASKED_MODEL
        allowed = self.generator.orders.allowed_models
        if name is None and not is_allowed(default, allowed):
            raise field_error("model", f"must be named: {default}, which is used else, is not here")
        return model_of(name, default, self.aliases)

    def _checked(self, wish: Wanted, asked: Asked) -> Order:
        """The order of a wish, after all that can be refused before money."""
        order = parse_order(wish.body, default_model=self.default_model, aliases={})
        asked.note(model=order.model, promptChars=len(order.prompt or ""))
        order = self.generator.checked(order)
        if wish.as_b64:
            _refuse_b64(order, asked.answer_bytes)
        return order

    def _kept(self, name: str, picture: forms.Given, asked: Asked) -> str:
        if isinstance(picture, str):
            return picture
        return self.generator.steps.uploads.keep(name, picture, asked.caller)

    def _made(self, order: Order, asked: Asked) -> Job:
        """A job that is done. Raises AppError, of one that is not with what is known of it."""
        wish = Wish(
            caller=asked.caller,
            job_id=asked.job_id,
            notice_url=self._notice_url(order),
            public_url=asked.public_url,
            ticket=asked.ticket,
        )
        job = self.generator.generate(order, asked.turn, wish)
        asked.note(jobId=job.job_id, falRequestId=job.fal_request_id, ms=job.timings_ms)
        failure = failure_of(job) or _unfinished(job, asked.place_of(job.job_id))
        if failure is not None:
            raise failure
        return job

    def _notice_url(self, order: Order) -> str | None:
        if order.webhook_url is None:
            return None
        if not self.generator.steps.is_durable:
            raise DatabaseRequired("webhookUrl needs a database")
        return self.notices.check(order.webhook_url)

    def _answer(self, job: Job, wish: Wanted, asked: Asked) -> Response:
        """The pictures as they are wanted; those that cannot stand in the answer by their links,
        because they are paid for."""
        if not wish.as_b64:
            return told(job, asked.request_id)
        limit = MAX_ANSWER_BYTES if asked.answer_bytes is None else asked.answer_bytes
        chars, room = base64_chars(job.images), room_for(job, asked.request_id, limit)
        if chars > room:
            return told(_warned(job, too_large(chars, room)), asked.request_id)
        inline = self._inline(job, asked.turn)
        if inline is None:
            text = "The stored pictures could not be read in time: they are told by url."
            return told(_warned(job, JobWarning("b64_unreadable", text)), asked.request_id)
        return told(job, asked.request_id, inline=inline)

    def _inline(self, job: Job, turn: Turn) -> list[str | None] | None:
        """The pictures in base64, None for one that is withheld; None for all if one cannot be
        read, or not in time."""
        ends_at = turn.answer_by + READ_S
        pool = ThreadPoolExecutor(max(1, len(job.images)))
        try:
            reading = [
                None if image.withheld else pool.submit(self._read, image) for image in job.images
            ]
            return [None if one is None else self._in_time(one, ends_at) for one in reading]
        except Exception as error:  # whatever a storage raises: the picture is paid and kept
            logger.error("a picture of %s could not be read: %s", job.job_id, error)
            return None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read(self, image: Image) -> str:
        storage = self.generator.steps.assets.door.get()
        with storage.open(storage.key(image.file_id)) as chunks:
            return base64.b64encode(b"".join(chunks)).decode("ascii")

    def _in_time(self, text: Future[str], ends_at: float) -> str:
        return text.result(timeout=max(0.0, ends_at - self.generator.clock()))


def _refuse_b64(order: Order, answer_bytes: int | None) -> None:
    """Raises InvalidInput where the pictures' size is known and no answer could hold them."""
    model, given = catalog.find(order.model), order.arguments
    if model is None:
        return
    own = model.fields.get("output_format")
    format = str(given.get("output_format") or (own.default if own else "jpeg"))
    if order.transforms is not None and order.transforms.format is not None:
        format = order.transforms.format
    refuse_too_large(
        catalog.images(model, given) or 1,
        catalog.size_px(model, given),
        format,
        order.transforms,
        answer_bytes,
    )


def _unfinished(job: Job, place: str) -> AppError | None:
    """Why there is no picture of a job that has not failed; None if there is one."""
    if job.state == "done":
        return None
    found = (("location", place),)
    if job.state == "cancelled":
        error: AppError = FalFailed("the job was cancelled before its picture was made")
    elif job.state == "unknown":
        lost = job.fault.detail if job.fault else "fal's answer to the submit was lost"
        hint = f"It was not sent again. Should fal have taken it, GET {place} shows its picture."
        error = SubmitUnknown(lost, hint=hint, headers=found)
    else:
        error = DeadlineExceeded(
            "fal was still at work when the answer was due; the job goes on",
            hint=f"Ask GET {place} for it; sending the request again would pay again, unless both "
            "carry the same Idempotency-Key.",
            headers=found,
        )
    return error.adding(jobId=job.job_id, falRequestId=job.fal_request_id)


def _warned(job: Job, warning: JobWarning) -> Job:
    return replace(job, warnings=(*job.warnings, warning))
