"""The document of the endpoint: valid, whole, and made when it is asked for."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from fal_image.app import compose
from fal_image.dev.emulator import Emulator
from fal_image.errors import RateLimited
from fal_image.openapi import Described, assembled, shown
from fal_image.routes import Route
from fal_image.settings import load
from support.conforming import document_of
from support.entrypoints import ROOT
from support.instances import Instance, environment, instance

Start = Callable[..., Instance]
METHODS = {"get", "post", "put", "delete", "patch"}


@pytest.fixture
def document(fal: Emulator, tmp_path: Path) -> dict[str, Any]:
    return document_of(instance(fal, tmp_path).app)


@pytest.fixture
def table(fal: Emulator, tmp_path: Path) -> tuple[Route, ...]:
    environ = environment(fal, tmp_path)
    return compose(load(environ), environ=environ).table()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }


def test_it_is_valid_openapi_3_1(document: dict[str, Any]):
    assert document["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any], table: tuple[Route, ...]):
    routes = {(route.method, shown(route.pattern)) for route in table}
    assert set(operations(document)) == routes
    assert {method for item in document["paths"].values() for method in item} <= METHODS


def test_operations_have_names_of_their_own_and_known_tags(document: dict[str, Any]):
    found = operations(document).values()
    names = [operation["operationId"] for operation in found]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in document["tags"]}
    assert {tag for operation in found for tag in operation["tags"]} == tags


def test_it_says_which_parameters_stand_in_a_path(document: dict[str, Any]):
    known = document["components"]["parameters"]
    for (_, path), operation in operations(document).items():
        named = [known[one["$ref"].rpartition("/")[2]] for one in operation.get("parameters", ())]
        in_path = {one["name"] for one in named if one["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_it_asks_for_a_credential_where_the_routes_do(
    document: dict[str, Any], table: tuple[Route, ...]
):
    found = operations(document)
    for route in table:
        operation = found[route.method, shown(route.pattern)]
        is_callers = route.who in ("ticket", "key")
        assert bool(operation["security"]) == is_callers, route.pattern
        assert ("401" in operation["responses"]) == (is_callers or route.who == "fal")


def test_whatever_may_cost_something_may_be_refused_for_its_rate(
    document: dict[str, Any], table: tuple[Route, ...]
):
    found = operations(document)
    plain = Route("GET", "/", "open", table[0].handle)
    for route in table:
        if route.spends is not plain.spends and route.method != "PUT":
            operation = found[route.method, shown(route.pattern)]
            assert str(RateLimited.status) in operation["responses"], route.pattern


@pytest.mark.parametrize(
    ("settings", "server"),
    [
        ({}, "http://127.0.0.1:9"),
        ({"FAL_IMAGE_PUBLIC_URL": "https://a.example/prod"}, "https://a.example/prod"),
        ({"FAL_IMAGE_PUBLIC_URL": None, "FAL_IMAGE_STORAGE_URL": "s3://a-bucket"}, "/"),
    ],
)
def test_it_names_the_address_of_the_endpoint(
    fal: Emulator, tmp_path: Path, settings: dict[str, Any], server: str
):
    one = instance(fal, tmp_path, AWS_REGION="eu-west-1", **settings)
    assert document_of(one.app)["servers"] == [{"url": server}]


def test_without_an_address_it_names_the_base_path(fal: Emulator, tmp_path: Path):
    settings: dict[str, Any] = {
        "FAL_IMAGE_STORAGE_URL": "s3://a-bucket",
        "FAL_IMAGE_BASE_PATH": "/prod",
    }
    one = instance(fal, tmp_path, AWS_REGION="eu-west-1", FAL_IMAGE_PUBLIC_URL=None, **settings)
    assert document_of(one.app, "/prod")["servers"] == [{"url": "/prod"}]


def test_it_is_open_to_all_and_kept_back_by_wrong_settings(start: Start):
    assert start().ask("GET", "/openapi.json", key="k-wrong").status == 200
    refused = start(FAL_IMAGE_TYPO="1").ask("GET", "/openapi.json")
    assert (refused.status, refused.json["error"]) == (500, "misconfigured")


def test_a_route_that_nobody_described_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        assembled([Described("GET", "/strange", "open")], "/")


def test_it_is_made_when_it_is_asked_for_and_not_at_a_start():
    program = "import functions.aws.handler, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"FAL_IMAGE_STORAGE_URL": "file:///tmp/pictures", "PYTHONPATH": str(ROOT / "shared")},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    loaded = json.loads(done.stdout)
    assert "fal_image.routes.openapi" in loaded
    assert [name for name in loaded if name.startswith("fal_image.openapi")] == []


# What is taken: one type checks it and describes it.


def test_what_a_model_takes_is_described_as_wide_as_the_catalog_has_it(document: dict[str, Any]):
    fields = document["components"]["schemas"]["GenerateFields"]
    assert fields["additionalProperties"] is True
    steps = fields["properties"]["num_inference_steps"]["anyOf"][0]
    assert steps == {"type": "integer"}  # some models say no range
    images = fields["properties"]["num_images"]["anyOf"][0]
    assert images == {"type": "integer", "minimum": 1, "maximum": 4}
    presets, sides = fields["properties"]["image_size"]["anyOf"][0]["anyOf"]
    assert {"square_hd", "auto"} <= set(presets["enum"])
    assert sides["properties"]["width"]["maximum"] == 14142
    assert "sync_mode" not in fields["properties"]


def test_our_own_fields_are_described_by_what_checks_them(document: dict[str, Any]):
    schemas = document["components"]["schemas"]
    transforms = schemas["Transforms"]
    assert transforms["additionalProperties"] is False
    assert transforms["properties"]["quality"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
    }
    assert schemas["LinksRequest"]["properties"]["fileIDs"]["anyOf"][0]["maxItems"] == 50
    assert schemas["TicketRequest"]["additionalProperties"] is False
    assert schemas["BatchRequest"]["properties"]["window"]["anyOf"][0]["maximum"] == 200
    assert "application/jsonl" in schemas["UploadRequest"]["properties"]["contentType"]["enum"]
