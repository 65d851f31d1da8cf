"""fal's key, the models it is to be used for, and this machine's clock: by fal's price list, which
wants a key and costs nothing (fal docs, platform APIs).

It proves that fal knows the key, and nothing of the account's balance. Refuses to know prices.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from ..errors import FalAuthFailed, ModelNotAllowed
from ..fal import catalog, prices
from ..generate import is_allowed
from ..wire import Answer, WireError
from .case import Case, Part
from .findings import Finding, failed, ok, skipped, warning
from .reaching import why

MAX_MODELS = 10  # one request each
CLOCK_WARNING_S, CLOCK_FAILURE_S = 30, 300

KEY, MODEL, CLOCK = "fal.key", "fal.model", "fal.clock"


def _examine(case: Case) -> Iterator[Finding]:
    key = case.settings.fal_key
    models = list(_models(case))
    if not key:
        yield failed(KEY, "no key of fal is set", FalAuthFailed.default_hint or "")
    else:
        try:
            answer = _ask(case, key, models[0][0])
        except WireError as error:
            yield skipped(KEY, f"api.fal.ai was not reached: {why(error)[0]}; see egress")
        else:
            judged = _judged_key(answer)
            yield judged
            yield _judged_clock(answer, case.seams.now())
            if judged.verdict == "ok":
                yield from _judged_models(case, key, models, answer)
                return
    refused = list(_not_allowed(case, models))
    yield from refused
    if not refused:
        yield skipped(MODEL, "whether fal has the models is not known without an answer to the key")


def _models(case: Case) -> Iterator[tuple[str, str]]:
    """The models that the settings name, each once, and where it is named."""
    settings = case.settings
    named = [(settings.default_model, "FAL_IMAGE_DEFAULT_MODEL")]
    named += [(model, "FAL_IMAGE_MODEL_ALIASES") for _, model in settings.model_aliases]
    first = dict(reversed(named))
    yield from ((model, first[model]) for model in dict.fromkeys(model for model, _ in named))


def _ask(case: Case, key: str, model: str) -> Answer:
    url = f"{prices.URL}?endpoint_id={quote(model, safe='')}"
    return case.wire.call("GET", url, key=key, timeout_s=case.patience_s)


def _judged_key(answer: Answer) -> Finding:
    if answer.status in {401, 403}:
        if b"balance" in answer.body[:4096].lower():
            return failed(
                KEY,
                f"fal knows the key, and its account has no balance left (HTTP {answer.status})",
                "Top up at fal.ai/dashboard/billing.",
            )
        said = f"fal refuses the key (HTTP {answer.status}): it is wrong or revoked"
        return failed(KEY, said, FalAuthFailed.default_hint or "")
    if answer.status not in {200, 404}:
        return warning(
            KEY,
            f"whether fal knows the key is not known: it answered HTTP {answer.status}",
            "Try again in a minute; status.fal.ai tells of outages.",
        )
    return ok(KEY, "fal knows the key")


def _judged_clock(answer: Answer, now: datetime) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date") or "")
    except ValueError:
        return skipped(CLOCK, "fal's answer does not say what time it is")
    off_s = round((now - theirs.replace(tzinfo=timezone.utc)).total_seconds())
    if abs(off_s) <= CLOCK_WARNING_S:
        return ok(CLOCK, "this machine's clock agrees with fal's")
    said = f"this machine's clock is {abs(off_s)} s {'ahead of' if off_s > 0 else 'behind'} fal's"
    fix = "Set it by NTP: webhooks and signed links are refused when clocks differ."
    return (failed if abs(off_s) > CLOCK_FAILURE_S else warning)(CLOCK, said, fix)


def _judged_models(
    case: Case, key: str, models: list[tuple[str, str]], first: Answer
) -> Iterator[Finding]:
    """What is wrong with the models, or that nothing is; the first was asked about already."""
    wrong = list(_not_allowed(case, models))
    for number, (model, setting) in enumerate(models[:MAX_MODELS]):
        try:
            answer = _ask(case, key, model) if number else first
        except WireError as error:
            wrong.append(skipped(MODEL, f"{model} was not asked about: {why(error)[0]}"))
            continue
        if answer.status == 404:
            wrong.append(_unheard_of(model, setting))
    yield from wrong
    if not wrong:
        asked = [model for model, _ in models[:MAX_MODELS]]
        yield ok(MODEL, f"fal has, and FAL_IMAGE_MODELS allows: {', '.join(asked)}")


def _not_allowed(case: Case, models: list[tuple[str, str]]) -> Iterator[Finding]:
    for model, setting in models:
        if not is_allowed(model, case.settings.models):
            yield failed(
                MODEL,
                f"{setting} names {model}, which FAL_IMAGE_MODELS does not allow "
                f"({ModelNotAllowed.code})",
                _did_you_mean(model) or f"Add {model} to FAL_IMAGE_MODELS, or name another model.",
            )


def _unheard_of(model: str, setting: str) -> Finding:
    if catalog.find(model) is not None:
        return warning(
            MODEL,
            f"{setting} names {model}, for which fal lists no price now",
            f"See at fal.ai/models/{model} whether fal still has it.",
        )
    return failed(
        MODEL,
        f"{setting} names {model}, and fal has no such model (404)",
        _did_you_mean(model) or "Copy the id from the model's page: its parts are joined by '/'.",
    )


def _did_you_mean(model: str) -> str | None:
    nearest = catalog.nearest(model)
    if nearest is None or nearest == model:
        return None
    return f"Did you mean {nearest}? Model ids are parts joined by '/'."


PART = Part("fal", _examine)
