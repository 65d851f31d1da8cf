"""XMP packets: properties added to one that is there, or to an empty one.

The rules are those of ISO 16684-1 (XMP specification, part 1): one packet in a file, one rdf:RDF in
it, every rdf:Description about the same thing, every property once. What is in a packet already
stays as it is, byte for byte. Refuses to know what the properties mean, and where in a picture
a packet lies.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from xml.parsers import expat

from msgspec import Struct
from msgspec.structs import replace

from .base import CannotProcess

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

# The id is the same in every packet (ISO 16684-1, packet wrapper).
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">\n'
    '</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
_TAG = re.compile(rb"<([^\s/>]+)")
_WRAPPER_END = b"<?xpacket end="
_ELLIPSIS = "…"
# A namespace's; a parser repeats it in the name of everything that is in it. Real ones have 50.
_MAX_URI_CHARS = 256

# What XML 1.0 has no place for (section 2.2, production 2): most controls, surrogates, two more.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
_ESCAPED = re.compile("[" + "".join(_ESCAPES) + "]")


class Property(Struct, frozen=True):
    """A simple property: `value` is any text, `may_be_cut` whether half of it is better than none.

    Two properties are the same when `uri` and `name` are; `prefix` is what people call the uri.
    """

    prefix: str
    uri: str
    name: str
    value: str
    may_be_cut: bool = False

    @property
    def id(self) -> str:
        return f"{self.uri} {self.name}"


class Packet(Struct, frozen=True):
    """A packet in UTF-8 that properties can be added to.

    `end` is where in `text` they go, `about` what its descriptions are about, `ids` which
    properties it has.
    """

    text: bytes
    end: int
    about: str
    ids: frozenset[str]


def cleaned(text: str) -> str:
    """The text without the characters that no XML document can hold."""
    return _NOT_XML.sub("", text)


def opened(content: bytes | None) -> Packet:
    """The packet of these bytes; an empty one for None and for bytes that are no packet.

    UTF-16 becomes UTF-8. A packet that is not well-formed, declares a document type or has no
    rdf:RDF says nothing to any reader, so nothing is lost with it. Raises CannotProcess for
    a namespace too long to be worked with.
    """
    text = None if content is None else _in_utf8(content)
    return (None if text is None else _read(text)) or _NEW


def added(packet: Packet, properties: Sequence[Property], *, room: int) -> bytes:
    """The packet with those properties that it does not have yet, in at most `room` bytes.

    A property that may be cut is cut to fit, with an ellipsis at its end, or left out. Raises
    CannotProcess if the rest does not fit.
    """
    missing = [wanted for wanted in properties if wanted.id not in packet.ids and wanted.value]
    if not missing:
        return packet.text
    before, after = packet.text[: packet.end], _without_padding(packet.text[packet.end :])
    room -= len(before) + len(after)
    description = _description(packet.about, missing)
    if len(description) > room:
        shorter = _shortened(missing, by=len(description) - room)
        description = _description(packet.about, shorter)
    if len(description) > room:
        raise CannotProcess("its own metadata leaves no room for the AI label")
    return before + description + after


def _without_padding(text: bytes) -> bytes:
    """The text without the blanks that leave room before the end of the wrapper."""
    at = text.rfind(_WRAPPER_END)
    return text if at < 0 else text[:at].rstrip() + b"\n" + text[at:]


def _description(about: str, properties: Iterable[Property]) -> bytes:
    """It names all its namespaces itself, because the packet around it may use other prefixes."""
    spaces = {"rdf": RDF} | {each.prefix: each.uri for each in properties}
    quoted = _escaped(about).replace('"', "&quot;")
    lines = [f'<rdf:Description rdf:about="{quoted}"']
    lines += [f'    xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items()]
    lines[-1] += ">"
    for each in properties:
        tag = f"{each.prefix}:{each.name}"
        lines.append(f"  <{tag}>{_escaped(each.value)}</{tag}>")
    return "\n".join([*lines, "</rdf:Description>\n"]).encode()


def _shortened(properties: Iterable[Property], *, by: int) -> list[Property]:
    """The properties `by` bytes shorter, if what may be cut of them is as long as that."""
    kept = []
    for each in properties:
        if each.may_be_cut and by > 0:
            length = len(_escaped(each.value).encode())
            value = _cut(each.value, max(0, length - by))
            by -= length - len(_escaped(value).encode())
            if value:
                kept.append(replace(each, value=value))
        else:
            kept.append(each)
    return kept


def _cut(text: str, length: int) -> str:
    """The beginning of a text that is longer: escaped and with an ellipsis, so many bytes."""
    kept, room = 0, length - len(_ELLIPSIS.encode())
    while (room := room - len(_escaped(text[kept]).encode())) >= 0:
        kept += 1
    return text[:kept] + _ELLIPSIS if kept else ""


def _escaped(text: str) -> str:
    """As an element's text: what must be escaped, and the carriage return, which a reader would
    take for a line feed (XML 1.0, 2.11). Quotes stay: some readers do not undo any escape."""
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], cleaned(text))


def _in_utf8(content: bytes) -> bytes | None:
    """The same text in UTF-8, None if it is none; what is UTF-8 already is not looked at."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content[:1] == b"\0" or content[1:2] == b"\0":
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    else:
        return content.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")
    try:
        return content.decode(encoding).rstrip("\0").encode()
    except UnicodeError:
        return None


def _read(text: bytes) -> Packet | None:
    """What a packet holds, None where it is no packet."""
    finder = _Finder()
    try:
        _check_namespaces(text)
        finder.parser.Parse(text, True)
    except (expat.ExpatError, _HasDoctype):
        return None
    if finder.end is None:
        return None
    tag = _TAG.match(text, finder.start)
    if tag is None or not text.startswith(b"</" + tag[1], finder.end):
        return None  # <rdf:RDF/> is empty and has no end to write before
    return Packet(text, finder.end, finder.about, frozenset(finder.ids))


def _check_namespaces(text: bytes) -> None:
    """Walk through a packet without knowing namespaces, which takes no more than its length."""
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = _refuse_long_uris
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.Parse(text, True)


def _refuse_long_uris(_: str, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        if name.startswith("xmlns") and len(value) > _MAX_URI_CHARS:
            raise CannotProcess("its own metadata has a namespace that is too long")


def _refuse_doctype(*_: object) -> None:
    raise _HasDoctype


class _HasDoctype(Exception):
    """A document type can define entities, and those can make a small packet a huge one."""


class _Finder:
    """Walks through a packet; then `start` and `end` are where the tags of its rdf:RDF are."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate("utf-8", " ")
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._finish
        self.start = 0
        self.end: int | None = None
        self.about = ""
        self.ids: set[str] = set()
        self._depth = 0
        self._rdf_depth: int | None = None

    def _begin(self, name: str, attributes: Mapping[str, str]) -> None:
        self._depth += 1
        if self._rdf_depth is None:
            if name == f"{RDF} RDF" and self.end is None:
                self.start, self._rdf_depth = self.parser.CurrentByteIndex, self._depth
        elif self._depth == self._rdf_depth + 1:
            self.about = self.about or attributes.get(f"{RDF} about", "")
            self.ids.update(each for each in attributes if not each.startswith(f"{RDF} "))
        elif self._depth == self._rdf_depth + 2:
            self.ids.add(name)

    def _finish(self, name: str) -> None:
        if self._depth == self._rdf_depth:
            self.end, self._rdf_depth = self.parser.CurrentByteIndex, None
        self._depth -= 1


_NEW = Packet(_EMPTY, _EMPTY.index(b"</rdf:RDF>"), "", frozenset())
