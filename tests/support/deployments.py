"""Deployed functions for the doctor: what they are told, and examining them in their cloud."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fal_image.app import compose
from fal_image.doctor import Case
from fal_image.doctor.examination import examine
from fal_image.doctor.functions import PART
from fal_image.doctor.scf_function import API_HOST
from fal_image.seams import THE_WORLD, Seams
from fal_image.settings import load

from .examined import Found
from .fake_cos import ENVIRON
from .fake_lambda import FakeLambda
from .fake_scf import FakeScf, scf_function, variables

NAME, HTTP_NAME = "fal-image-gen", "fal-image-gen-http"

# Values of the functions' own: no finding may repeat one.
CLOUDBASE_TOLD = {
    "FAL_KEY": "canary-of-the-function:canary-secret-of-the-function",
    "FAL_IMAGE_SECRET": "canary-secret-of-the-function-32-characters",
    "FAL_IMAGE_API_KEYS": f"canarycaller={'0' * 64}",
    "FAL_IMAGE_STORAGE_URL": "cloudbase://my-env/ai-images",
    "FAL_IMAGE_DATABASE_URL": "cloudbase://my-env/fal-image-jobs",
}
AWS_TOLD = CLOUDBASE_TOLD | {
    "FAL_IMAGE_STORAGE_URL": "s3://pictures",
    "FAL_IMAGE_DATABASE_URL": "dynamodb://jobs",
}


def scf(told: Mapping[str, str] = CLOUDBASE_TOLD, name: str = NAME, **changes: Any) -> FakeScf:
    """A SCF with one function that was told these variables."""
    said = {"FunctionName": name, "Environment": variables(told), **changes}
    return FakeScf({("my-env", name): scf_function(**said)})


def examined(
    cloud: FakeScf | FakeLambda,
    function: str | None = None,
    now: datetime | None = None,
    /,
    **environ: str,
) -> Found:
    """What the doctor finds of the function, asked from a machine with these variables."""
    here = {"FAL_KEY": "id:secret", "FAL_IMAGE_SECRET": "a-secret-of-at-least-32-characters"}
    with cloud.serving() as url:
        if isinstance(cloud, FakeScf):
            here |= ENVIRON | {"FAL_IMAGE_STORAGE_URL": "cloudbase://my-env/ai-images"}
        else:
            here |= {
                "FAL_IMAGE_STORAGE_URL": "s3://pictures",
                "AWS_REGION": "eu-central-1",
                "AWS_ENDPOINT_URL_LAMBDA": url,
            }
            function = "fal-image-api" if function is None else function
        seams = Seams(detours={API_HOST: url}, now=(lambda: now) if now else THE_WORLD.now)
        return asked_from({**here, **environ}, function, seams)


def asked_from(environ: Mapping[str, str], function: str | None, seams: Seams) -> Found:
    services = compose(load(environ), environ=environ, seams=seams)
    assert services.settings.problems == ()
    case = Case(services, environ, seams, function, patience_s=5.0)
    return Found(examine(case, [PART], limit_s=15))
