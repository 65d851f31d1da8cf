"""Who may ask what through the proxy: a call becomes the order of a job, or finds the job that its
request is. Refuses to know what fal answers."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from ..errors import DatabaseRequired, NotFound
from ..generate import Generator, Wish, is_some_allowed
from ..inputs import Order
from ..jobs import Job
from ..notices import Notices
from .asked import Asked
from .targets import app_of
from .ties import Tie, Ties


class Intake(Struct, frozen=True):
    """`sole_caller` is the only one there is, for an endpoint that cannot keep callers apart: one
    without a database."""

    generator: Generator
    ties: Ties
    notices: Notices
    keeps_images: bool
    sole_caller: str | None

    @property
    def is_durable(self) -> bool:
        return self.generator.steps.is_durable

    def house(self) -> Generator:
        """Where the job of one call lives: in the database, or as long as the call."""
        return self.generator if self.is_durable else self.generator.in_memory()

    def order(self, asked: Asked) -> Order:
        """What is to be paid for, after all that can be refused before. Raises AppError."""
        order = asked.order()
        if self.keeps_images:  # they are linked to, wherever fal would have put them
            given = order.arguments
            order = replace(
                order, arguments={name: given[name] for name in given if name != "sync_mode"}
            )
        order = self.generator.orders.checked_as_it_is(order)
        asked.note(model=order.model, promptChars=len(order.prompt or ""))
        return order

    def wish(self, asked: Asked) -> Wish:
        """How the caller wants its order carried out. Raises InvalidInput, DatabaseRequired."""
        return Wish(
            caller=asked.caller,
            job_id=asked.job_id,
            notice_url=self._notice_url(asked),
            public_url=asked.public_url,
            headers=asked.wishes(),
            ticket=asked.ticket,
            keeps_images=self.keeps_images,
        )

    def refuse_strangers(self, asked: Asked) -> None:
        """Raises DatabaseRequired where a queue's requests could not be told apart."""
        if not self.is_durable and asked.caller != self.sole_caller:
            raise DatabaseRequired(
                "requests of several callers can be told apart in a database only",
                hint="The owner sets FAL_IMAGE_DATABASE_URL, or configures exactly one caller.",
            )

    def model_of(self, asked: Asked) -> str:
        """The model of a request that is the caller's own; without a database what the queue knows
        of it. Raises NotFound, ModelNotAllowed, DatabaseRequired."""
        tie = self._tie_of(asked)
        return tie.model if tie else asked.target.app

    def job_of(self, asked: Asked, house: Generator) -> Job:
        """The job of a request that is the caller's own. Raises as `model_of` does."""
        tie, target = self._tie_of(asked), asked.target
        if tie is not None:
            return house.steps.records.load(tie.job_id)
        return house.adopted(
            target.app, target.request_id, asked.caller, keeps_images=self.keeps_images
        )

    def _tie_of(self, asked: Asked) -> Tie | None:
        self.refuse_strangers(asked)
        orders, target = self.generator.orders, asked.target
        if not self.is_durable:
            if not is_some_allowed(target.app, orders.allowed_models):
                orders.refuse_model(target.app)
            return None
        tie = self.ties.find(target.request_id)
        if tie is None or tie.caller != asked.caller or app_of(tie.model) != target.app:
            raise NotFound("there is no such request")
        orders.refuse_model(tie.model)
        asked.note(jobId=tie.job_id, falRequestId=target.request_id, model=tie.model)
        return tie

    def _notice_url(self, asked: Asked) -> str | None:
        url = asked.target.query.get("fal_webhook")
        if url is None or asked.target.kind != "submit":
            return None
        checked = self.notices.check(url, "fal_webhook")
        if not self.is_durable:
            raise DatabaseRequired("fal_webhook needs a database")
        return checked
