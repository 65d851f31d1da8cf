"""The composition root: settings in, one callable out.

Nothing is opened here but what keeps fal's key: the storage opens with the first job, connections
with the first call.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from msgspec.structs import replace

from .access import ANONYMOUS
from .assets import Assets
from .backends import open_database, open_queue, open_storage
from .batches import Batches
from .database.base import Database
from .database.memory import MemoryDatabase
from .doors import Door
from .drivers import Drivers
from .extend import NO_HOOKS, After, Before, Hooks, OnImage
from .fal.client import Fal
from .fal.prices import Prices
from .fal.webhooks import Verifier
from .front import front
from .generate import Estimates, Generator, Limits, Orders, Records, Steps
from .jobs import base32
from .keyring import with_fal_key
from .ledger import Budgets, Ledger
from .notices import Notices
from .proxy import Intake, Keeping, Passing, Proxy, Results, Runs, Streams, Ties
from .rates import Rates
from .routes import Routes, Variables
from .seams import THE_WORLD, Seams
from .settings import Settings, load
from .storage.base import ObjectStorage
from .uploads import Uploads
from .web import App
from .wire import Wire

__all__ = ["Seams", "build", "build_app", "compose", "front"]

OWNER_BYTES = 8  # of a lease: nobody else's by chance


def build(environ: Mapping[str, str]) -> App:
    """The app for an environment. Never raises for what the owner set: see `Settings.problems`.

    Raises KeyUnavailable while the store of fal's key does not answer; trying again may help.
    """
    return build_app(load(environ), environ=environ)


def build_app(
    settings: Settings,
    *,
    before: Before | None = None,
    after: After | None = None,
    on_image: OnImage | None = None,
    environ: Mapping[str, str] = os.environ,
    seams: Seams = THE_WORLD,
) -> App:
    """The app for these settings, with the owner's own code around it: see `docs/extend.md`."""
    hooks = Hooks(before, after, on_image)
    return front(compose(settings, environ=environ, seams=seams, hooks=hooks))


def compose(
    settings: Settings,
    *,
    environ: Mapping[str, str],
    seams: Seams = THE_WORLD,
    hooks: Hooks = NO_HOOKS,
) -> Routes:
    """The services behind the routes, wired together; `environ` holds vendors' credentials."""
    settings = with_fal_key(settings, environ)
    problems = list(settings.problems)
    hooks = replace(
        hooks,
        refuses_flagged=settings.flagged == "refuse",
        requires_label=settings.ai_label != "off",
    )
    variables = Variables(environ)
    wire = seams.wire(
        emulator_url=settings.emulator_url,
        fetch_hosts=settings.fetch_hosts,
        detours=seams.detours,
        clock=seams.clock,
    )
    storage = open_storage(settings, variables, wire, seams, problems)
    database = open_database(settings, variables, wire, seams, problems)
    enqueue = open_queue(settings, environ, problems)
    generator = _generator(settings, wire, storage, database, seams, hooks)
    steps = generator.steps
    batches = Batches(
        generator=generator,
        database=database,
        notices=steps.notices,
        enqueue=enqueue,
        settings=settings,
        clock=seams.clock,
        now=seams.now,
        randomness=seams.randomness,
    )
    return Routes(
        settings=dataclasses.replace(settings, problems=tuple(problems)),
        generator=generator,
        estimates=Estimates(generator.orders, Prices(wire, settings.fal_key, seams.clock)),
        assets=steps.assets,
        uploads=steps.uploads,
        batches=batches,
        drivers=Drivers(generator, batches, database, enqueue, seams.clock, seams.now),
        notices=steps.notices,
        proxy=_proxy(settings, generator, database, seams, hooks),
        verifier=Verifier(
            wire=wire, now=seams.now, clock=seams.clock, user_id=settings.webhook_user_id
        ),
        variables=variables,
        new_owner=lambda: base32(seams.randomness(OWNER_BYTES)),
        randomness=seams.randomness,
        rates=_rates(settings, database, seams),
        now=seams.now,
        sleep=seams.sleep,
        clock=seams.clock,
        aliases=dict(settings.model_aliases),
        hooks=hooks,
    )


def _generator(
    settings: Settings,
    wire: Wire,
    storage: tuple[Door[ObjectStorage], str],
    database: Callable[[], Database],
    seams: Seams,
    hooks: Hooks,
) -> Generator:
    """What makes jobs and takes them to their end."""
    is_durable = settings.database_url is not None
    records = Records(database, seams.now, timedelta(days=settings.job_retention_days))
    assets = _assets(settings, wire, storage, records, seams, hooks)
    fal = Fal(wire, settings.fal_key, seams.clock, seams.sleep)
    uploads = Uploads(
        assets=assets,
        fal=fal,
        secrets=settings.secrets,
        now=seams.now,
        randomness=seams.randomness,
    )
    steps = Steps(
        fal=fal,
        assets=assets,
        uploads=uploads,
        records=records,
        ledger=Ledger(database, _budgets(settings), seams.now),
        notices=Notices(wire, settings.secrets, settings.webhook_hosts, seams.now),
        secrets=settings.secrets,
        clock=seams.clock,
        now=seams.now,
        sleep=seams.sleep,
        is_durable=is_durable,
        accepts_loopback=settings.emulator_url is not None,
        hooks=hooks,
    )
    return Generator(
        orders=Orders(
            settings.models, _limits(settings), settings.fal_key, settings.watermark_font
        ),
        steps=steps,
        clock=seams.clock,
        now=seams.now,
        randomness=seams.randomness,
        ai_label=settings.ai_label,
    )


def _rates(settings: Settings, database: Callable[[], Database], seams: Seams) -> Rates | None:
    if settings.rate_limit is None:
        return None
    is_shared, (limit, window_s) = settings.database_url is not None, settings.rate_limit
    if not is_shared:
        own = MemoryDatabase()
        return Rates(lambda: own, limit, window_s, is_shared, seams.now)
    return Rates(database, limit, window_s, is_shared, seams.now)


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_images=settings.max_images,
        max_megapixels=settings.max_megapixels,
        max_steps=settings.max_steps,
        max_prompt_chars=settings.max_prompt_chars,
        allows_unsafe=settings.allow_unsafe,
    )


def _budgets(settings: Settings) -> Budgets:
    return Budgets(
        daily=settings.daily_budget_usd_micro,
        total_daily=settings.total_daily_budget_usd_micro,
        unknown_price=settings.unknown_price_usd_micro,
    )


def _assets(
    settings: Settings,
    wire: Wire,
    storage: tuple[Door[ObjectStorage], str],
    records: Records,
    seams: Seams,
    hooks: Hooks,
) -> Assets:
    """Pictures; where jobs are kept, they know whose each picture is."""
    door, prefix = storage
    is_held_back: Callable[[str, int, str | None], bool] = _never
    if settings.database_url is not None:
        is_held_back = partial(records.is_held_back, is_judged=hooks.judges)
    return Assets(
        wire=wire,
        door=door,
        prefix=prefix,
        max_image_bytes=settings.max_image_bytes,
        link_ttl_s=settings.link_ttl_s,
        link_base_url=settings.link_base_url,
        ai_producer=settings.ai_producer,
        watermark_font=settings.watermark_font,
        clock=seams.clock,
        sleep=seams.sleep,
        is_held_back=is_held_back,
    )


def _proxy(
    settings: Settings,
    generator: Generator,
    database: Callable[[], Database],
    seams: Seams,
    hooks: Hooks,
) -> Proxy:
    """fal's dialect over the same jobs."""
    callers = {caller for caller, _ in settings.api_keys}
    if settings.allow_anonymous:
        callers.add(ANONYMOUS)
    ties = Ties(database, seams.now, seams.sleep, timedelta(days=settings.job_retention_days))
    intake = Intake(
        generator=generator,
        ties=ties,
        notices=generator.steps.notices,
        keeps_images=settings.proxy_store_images,
        sole_caller=callers.pop() if len(callers) == 1 else None,
    )
    passing = Passing(generator.steps.fal)
    keeping = Keeping(
        holds_back=settings.proxy_store_images
        and (hooks.on_image is not None or hooks.requires_label),
        refuses_flagged=hooks.refuses_flagged,
    )
    results = Results(passing, keeping)
    return Proxy(
        intake=intake,
        passing=passing,
        results=results,
        runs=Runs(intake, results),
        streams=Streams(intake, passing, keeping),
        has_budget=settings.has_budget,
    )


def _never(job_id: str, index: int, caller: str | None) -> bool:
    """Nothing is kept of whose pictures they are."""
    return False
