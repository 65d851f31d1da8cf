"""What fal bills for a job that it failed, by its answer and by its webhook."""

import pytest

from fal_image.errors import AppError
from fal_image.fal import refusals
from fal_image.fal.webhooks import Delivery
from fal_image.generate import outcomes
from fal_image.jobs import Outcome
from fal_image.web import Headers

MODEL = "fal-ai/flux/schnell"
BAD = [{"loc": ["body", "prompt"], "msg": "not allowed", "type": "content_policy_violation"}]


def refusal(status: int, units: str | None = None) -> refusals.Refusal:
    said = {} if units is None else {"x-fal-billable-units": units}
    return refusals.Refusal(status, Headers(said.items()), BAD if status == 422 else "no", None)


def error(status: int, units: str | None = None) -> AppError:
    return refusals.explain(refusal(status, units), MODEL, request_id="r-1")


def failure(found: AppError) -> Outcome:
    outcome = outcomes.of_failure(found)
    assert outcome is not None
    return outcome


def told(status: int) -> Outcome:
    """The same failure as a webhook tells it."""
    outcome = outcomes.of_delivery(Delivery("r-1", refusal=refusal(status)), MODEL)
    assert outcome is not None
    return outcome


@pytest.mark.parametrize(
    ("found", "units"),
    [
        (error(500), 0.0),
        (error(503), 0.0),
        (error(499), 0.0),
        (error(422, "0"), 0.0),
        (error(422), None),
        (error(422, "1"), None),
        (refusals.forgotten("r-1"), None),
    ],
)
def test_only_what_fal_certainly_did_not_bill_is_nothing(found: AppError, units: float | None):
    outcome = failure(found)
    assert outcome.billable_units == units
    assert outcome.is_read


@pytest.mark.parametrize(("status", "units"), [(500, 0.0), (499, 0.0), (422, None)])
def test_a_webhook_has_no_headers_to_say_it_by(status: int, units: float | None):
    outcome = told(status)
    assert outcome.billable_units == units
    assert not outcome.is_read


def test_a_result_says_what_the_webhook_could_not():
    assert outcomes.units_of_failure(error(422, "0"), told(422)) == 0.0
    assert outcomes.units_of_failure(error(422), told(422)) is None


def test_another_failure_than_the_webhooks_says_nothing_of_it():
    assert outcomes.units_of_failure(error(500), told(422)) is None
    assert outcomes.units_of_failure(error(500), Outcome("ok")) is None
