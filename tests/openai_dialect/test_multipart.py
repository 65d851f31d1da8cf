"""Forms, whole and hostile: read as they are, or refused; never half."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fal_image.errors import AppError, InvalidInput, UnsupportedMediaType
from fal_image.openai import forms
from fal_image.openai.multipart import Part, parse
from support.forms import FORM, HOSTILE, form, part


def why(body: bytes, content_type: str = FORM) -> str:
    with pytest.raises(AppError) as caught:
        parse(body, content_type)
    assert isinstance(caught.value, (InvalidInput, UnsupportedMediaType))
    return caught.value.detail


def test_parts_are_read_to_the_byte_in_their_order():
    content = bytes(range(256)) + b"\r\n--b-\r\n--\r\n\r\n"
    file = part(content, "image[]", '; filename="a;\\"b\\".png"', b"Content-Type: image/png\r\n")
    body = form(part("prömpt".encode()), file, part(b"", "mask", '; filename=""'))
    assert parse(body, FORM) == [
        Part("prompt", "prömpt".encode(), is_file=False),
        Part("image[]", content, is_file=True),
        Part("mask", b"", is_file=True),
    ]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), st.binary()
        ),
        max_size=8,
    )
)
def test_whatever_a_part_holds_comes_out_again(fields: list[tuple[str, bytes]]):
    sent = [(name, content) for name, content in fields if b"--b-1" not in content]
    found = parse(form(*(part(content, name) for name, content in sent)) if sent else form(), FORM)
    assert [(one.name, one.content) for one in found] == sent


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_a_form_is_refused(name: str):
    assert why(*HOSTILE[name])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b"), {"a": "0", "b": "1"}),
        (("a[]", "a[]"), {"a": ["0", "1"]}),
        (("a[b][c]", "a[d]"), {"a": {"b": {"c": "0"}, "d": "1"}}),
        (("a[b][]", "a[b][]"), {"a": {"b": ["0", "1"]}}),
    ],
)
def test_names_with_brackets_are_objects_and_lists(names: tuple[str, ...], expected: object):
    parts = [part(str(number).encode(), name) for number, name in enumerate(names)]
    edit = forms.read(form(part(b"i", "image"), *parts), FORM)
    assert edit.fields == expected


@pytest.mark.parametrize(
    "names",
    [
        ("a", "a"),
        ("a", "a[b]"),
        ("a[b]", "a"),
        ("a[]", "a[b]"),
        ("a[]", "a"),
        ("a[][b]",),
        ("[a]",),
        ("a[b",),
        ("a]b",),
        ("a[b]c",),
        ("a" + "[b]" * 65,),
    ],
)
def test_names_that_are_not_clear_are_refused(names: tuple[str, ...]):
    parts = [part(b"x", name) for name in names]
    with pytest.raises(InvalidInput):
        forms.read(form(part(b"i", "image"), *parts), FORM)


@settings(max_examples=300)
@given(st.data())
def test_a_form_bent_anywhere_is_read_or_refused(data: st.DataObject):
    whole = form(part(b"i", "image", '; filename="a"'), part(b"7", "seed"), part(b"{}", "a[b]"))
    at = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 12))
    bent = whole[:at] + data.draw(st.binary(max_size=12)) + whole[at + cut :]
    with contextlib.suppress(AppError):
        edit = forms.read(bent, FORM)
        forms.typed(edit.fields, "fal-ai/flux-2/edit")


@given(st.binary(max_size=300), st.text(max_size=80))
@example(b"", "multipart/form-data; boundary=" + ";" * 30_000)
@example(b"\r\n--b" * 20_000, "multipart/form-data; boundary=b")
@example(b"--b\r\n" + b"\r\n--" * 100_000, "multipart/form-data; boundary=b")
def test_no_bytes_and_no_type_make_anything_else_of_it(body: bytes, content_type: str):
    with contextlib.suppress(AppError):
        forms.read(body, content_type)
