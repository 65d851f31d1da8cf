"""What the tools promise: their schemas are those of the types that validate."""

from __future__ import annotations

import json
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from fal_image.endpoint import InProcess
from fal_image.fal import catalog
from fal_image.inputs import MAX_LINKS, OurFields
from fal_image.jobs.values import State
from fal_image.mcp_server import schemas
from fal_image.mcp_server.tools import EDIT_MODEL
from fal_image.treatment import LabelWish, Transforms
from fal_image.web import Response
from support.agents import tools_for

TOOLS = {tool.name: tool for tool in tools_for(InProcess(lambda request: Response(200))).listed()}

# Every keyword that a schema of ours uses; hosts hand schemas on to models that know few.
KEYWORDS = {
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "exclusiveMinimum",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "properties",
    "required",
    "type",
}


def keywords(schema: dict[str, Any]) -> set[str]:
    found = set(schema)
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    parts += [schema["items"]] if "items" in schema else []
    for part in parts:
        found |= keywords(part)
    return found


def test_there_are_five_tools_each_with_what_it_takes_and_answers():
    assert sorted(TOOLS) == [
        "edit_image", "estimate_cost", "generate_image", "get_job", "renew_link"
    ]  # fmt: skip
    for tool in TOOLS.values():
        for schema in (tool.input_schema, tool.output_schema or {}):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["type"] == "object"
            assert keywords(schema) <= KEYWORDS
        assert tool.description
        assert tool.input_schema["additionalProperties"] is False


def test_the_tools_together_are_no_burden_to_a_model():
    told = [[tool.name, tool.description, tool.input_schema] for tool in TOOLS.values()]
    assert len(json.dumps(told)) < 16_000


@pytest.mark.parametrize("name", ["generate_image", "edit_image"])
def test_our_own_fields_are_those_of_the_api(name: str):
    """Each argument that is ours is described as the endpoint validates it."""
    ours = schemas.schema_of_input(OurFields)["properties"]
    spelled = {"transforms": "transforms", "ai_label": "aiLabel", "reuse": "reuse"}
    properties = TOOLS[name].input_schema["properties"]
    for argument, field in {**spelled, "max_age": "maxAge"}.items():
        described = dict(properties[argument])
        for told in (described, ours[field]):
            told.pop("description", None)
        assert described == ours[field]


def test_the_types_behind_them_are_the_endpoints_own():
    fields = {field.name: field.type for field in msgspec.structs.fields(schemas.Generate)}
    assert Transforms in get_args(fields["transforms"])
    assert LabelWish in get_args(fields["ai_label"])


def test_sizes_and_numbers_are_those_of_the_catalog():
    assert set(get_args(schemas.Preset)) == set(catalog.PRESETS)
    properties = TOOLS["generate_image"].input_schema["properties"]
    (named,) = [one for one in properties["size"]["anyOf"] if "enum" in one]
    assert sorted(named["enum"]) == sorted(catalog.PRESETS)
    numbers = {
        model.fields["num_images"].max
        for model in catalog.models().values()
        if "num_images" in model.fields
    }
    assert {properties["number"]["maximum"]} == numbers
    sides = {model.fields["image_size"].max_px for model in catalog.models().values()
             if "image_size" in model.fields}  # fmt: skip
    (sized,) = [one for one in properties["size"]["anyOf"] if "properties" in one]
    assert sized["properties"]["width"]["maximum"] == max(sides)


def test_every_model_of_the_catalog_has_a_name_that_is_let_through():
    for model_id in catalog.models():
        msgspec.convert({"prompt": "x", "model": model_id}, schemas.Generate)
    editor = catalog.find(EDIT_MODEL)
    assert editor is not None
    assert editor.kind == "image-to-image"


def test_every_state_of_a_job_can_be_answered():
    assert TOOLS["get_job"].output_schema is not None
    parts = TOOLS["get_job"].output_schema["properties"]["state"]["anyOf"]
    states = {state for part in parts for state in part["enum"]}
    assert states == {*get_args(State), "refused"}


def test_links_are_renewed_as_many_at_once_as_the_api_renews():
    assert TOOLS["renew_link"].input_schema["properties"]["file_ids"]["maxItems"] == MAX_LINKS


def test_hosts_are_told_what_costs_money_and_what_only_looks():
    for name, tool in TOOLS.items():
        hints = tool.annotations
        assert hints is not None
        assert hints.read_only_hint is (name in {"get_job", "estimate_cost", "renew_link"})
        assert hints.destructive_hint is False
        assert hints.open_world_hint is True
        assert hints.idempotent_hint is hints.read_only_hint
