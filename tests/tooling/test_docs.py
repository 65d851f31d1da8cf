"""Pages the program knows best are the program's."""

import re

import pytest
from msgspec.structs import fields

from fal_image.dev.docs import DOCS, pages
from fal_image.errors import catalog
from fal_image.jobs import Job


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_what_the_code_says(name: str):
    assert (DOCS / name).read_text(encoding="utf-8") == pages()[name], (
        "run: .venv/bin/python -m fal_image.dev.docs"
    )


def test_every_error_has_a_code_of_its_own_and_a_way_out():
    kinds = list(catalog())
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.default_hint for kind in kinds)


def test_the_type_of_an_error_leads_to_its_heading():
    page = pages()["errors.md"]
    assert all(re.search(rf"^## {kind.code}$", page, re.MULTILINE) for kind in catalog())


def test_every_field_of_a_jobs_document_is_explained():
    page = (DOCS / "documents.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"^## A job:.*?(?=^## )", page, re.MULTILINE | re.DOTALL)
    explained = re.findall(r"`(\w+)`", part)
    kept = {field.name for field in fields(Job)} - {"job_id", "version", "cached"}
    assert sorted(kept - set(explained)) == []
