"""Bodies of multipart/form-data, as clients write them and as nobody should."""

from __future__ import annotations

from fal_image.openai.multipart import MAX_PARTS

BOUNDARY = "b-1"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def part(content: bytes = b"x", name: str = "prompt", more: str = "", head: bytes = b"") -> bytes:
    disposition = f'content-disposition: form-data; name="{name}"{more}\r\n'.encode()
    return b"--b-1\r\n" + disposition + head + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b-1--\r\n"


# By what is wrong: a body and the type it is declared as.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "no boundary": (form(part()), "multipart/form-data"),
    "an empty boundary": (form(part()), 'multipart/form-data; boundary=""'),
    "a boundary that is too long": (form(part()), f"multipart/form-data; boundary={'b' * 71}"),
    "a boundary of other letters": (form(part()), 'multipart/form-data; boundary="b\x00"'),
    "two boundaries": (form(part()), f"{FORM}; boundary=other"),
    "another type": (form(part()), f"multipart/mixed; boundary={BOUNDARY}"),
    "no type": (form(part()), ""),
    "nothing": (b"", FORM),
    "something before it": (b"preamble\r\n" + form(part()), FORM),
    "something behind it": (form(part()) + b"more", FORM),
    "no end": (part(), FORM),
    "cut in its head": (b"--b-1\r\ncontent-disposition: form-", FORM),
    "cut in its boundary": (part() + b"--b", FORM),
    "no line end behind a boundary": (b"--b-1" + part()[7:], FORM),
    "a longer boundary inside": (form(part(b"a\r\n--b-12\r\nb")), FORM),
    "bare line feeds": (form(part()).replace(b"\r\n", b"\n"), FORM),
    "no headers": (form(b"--b-1\r\n\r\nx\r\n"), FORM),
    "a head without end": (form(b"--b-1\r\nx: " + b"y" * 9000 + b"\r\n\r\nx\r\n"), FORM),
    "no name": (form(part(name="")), FORM),
    "a long name": (form(part(name="n" * 201)), FORM),
    "two names": (form(part(more='; name="b"')), FORM),
    "no form data": (form(part()).replace(b"form-data", b"attachment"), FORM),
    "two dispositions": (form(part(head=b"content-disposition: form-data; name=b\r\n")), FORM),
    "a folded header": (form(part(head=b"x: a\r\n b\r\n")), FORM),
    "a header without a colon": (form(part(head=b"x\r\n")), FORM),
    "headers that are not UTF-8": (form(part(head=b"x: \xff\r\n")), FORM),
    "base64": (form(part(head=b"content-transfer-encoding: base64\r\n")), FORM),
    "an open quote": (form(part()).replace(b'"prompt"', b'"prompt'), FORM),
    "too many parts": (form(*[part()] * (MAX_PARTS + 1)), FORM),
}
