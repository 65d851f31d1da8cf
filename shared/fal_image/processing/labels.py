"""The AI label in a picture's metadata: that a machine made it, whose machine, and which one.

What is written and where it comes from, field by field, is in docs/ai-label.md. In short: the label
of GB 45438-2025 (annex E) in the XMP property that TC260's practice guide for image metadata
(TC260-PG-20259A) names for it, in PNG also as the text that the guide's annex B names; and IPTC's
digital source type. Neither standard's text was at hand: their fields are written as published
excerpts, Tencent Cloud's documentation and public readers agree on them. Refuses to know who wants
a label, how pixels are marked, and where the bytes come from and go.
"""

from __future__ import annotations

import json
from datetime import timezone
from typing import BinaryIO

from msgspec.structs import replace

from ..images import Picture
from . import containers, packets
from .base import About
from .packets import Property

_TC260 = ("TC260", "http://www.tc260.org.cn/ns/AIGC/1.0/")
_IPTC = ("Iptc4xmpExt", "http://iptc.org/std/Iptc4xmpExt/2008-02-29/")
_XMP = ("xmp", "http://ns.adobe.com/xap/1.0/")
_OURS = ("falimage", "fal-image:ns/1.0/")  # for what no standard has a field

_MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_AIGC_ID = f"{_TC260[1]} AIGC"


def packet(about: About) -> bytes:
    """An XMP packet that carries the label, in UTF-8 and short enough for every format."""
    return packets.added(packets.opened(None), _properties(about), room=containers.Jpeg.room)


def labelled(source: BinaryIO, picture: Picture, about: About, into: BinaryIO) -> Picture:
    """Copy a picture with the label in its metadata; its pixels are copied byte for byte.

    Adds to the XMP packet that is there and takes nothing out of it: a property that it has is
    kept, also a label of somebody else's. `picture` is what `images.inspect` said of `source`; both
    files are read and written in blocks. Raises CannotProcess if the picture is of no format that
    can carry the label, is broken, or has metadata that leaves no room; `into` is then to be
    thrown away.
    """
    container = containers.opened(source, picture)
    found = packets.opened(container.packet)
    wanted, text = _properties(about), _aigc(about)
    if container.text_label or _AIGC_ID in found.ids:
        # Two labels that differ would leave open who made the picture.
        wanted, text = [each for each in wanted if each.id != _AIGC_ID], ""
    longest = min(container.room, len(found.text) + containers.Jpeg.room)
    changed = packets.added(found, wanted, room=longest)
    written = containers.copy(source, container.splices(changed, text), into)
    return replace(picture, bytes=written)


def _properties(about: About) -> list[Property]:
    """Everything that is told; what has no value is left out where it is written."""
    seed = "" if about.seed is None else str(about.seed)
    created = about.created_at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [
        Property(*_TC260, "AIGC", _aigc(about, ascii_only=False)),
        Property(*_IPTC, "DigitalSourceType", _MADE_BY_A_MODEL),
        Property(*_IPTC, "AISystemUsed", about.model),
        Property(*_XMP, "CreatorTool", "fal-image"),
        Property(*_XMP, "CreateDate", created),
        Property(*_OURS, "Seed", seed),
        Property(*_IPTC, "AIPromptInformation", packets.cleaned(about.prompt or ""), True),
    ]


def _aigc(about: About, *, ascii_only: bool = True) -> str:
    """The label of GB 45438-2025, annex E: seven strings, in this order.

    Label 1 is "was made by AI"; 2 and 3, "may have been" and "seems so", are for platforms. The
    reserved fields are for a signature of the producer's or the platform's, which we have none of.
    Who spreads a picture, and under which number, is written by the platform that spreads it
    (Measures for labelling AI-generated content, article 6).
    """
    label = {
        "Label": "1",
        "ContentProducer": packets.cleaned(about.producer),
        "ProduceID": packets.cleaned(about.produce_id),
        "ReservedCode1": "",
        "ContentPropagator": "",
        "PropagateID": "",
        "ReservedCode2": "",
    }
    return json.dumps(label, ensure_ascii=ascii_only, separators=(",", ":"))
