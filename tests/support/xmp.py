"""What others read out of a picture's metadata: Pillow finds the packet, expat reads it."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET
from typing import cast

from PIL import Image

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
AIGC = "{http://www.tc260.org.cn/ns/AIGC/1.0/}AIGC"
SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
SYSTEM = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AISystemUsed"
PROMPT = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}AIPromptInformation"
TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool"
CREATED = "{http://ns.adobe.com/xap/1.0/}CreateDate"
SEED = "{fal-image:ns/1.0/}Seed"
TITLE = "{http://purl.org/dc/elements/1.1/}title"


def packet_in(picture: bytes) -> bytes | None:
    """The XMP packet as Pillow finds it; Pillow 13 does not look for one in a GIF."""
    if picture.startswith(b"GIF"):
        _, found, rest = picture.partition(b"\x21\xff\x0bXMP DataXMP")
        return rest.partition(b"\x01\xff\xfe\xfd")[0] if found else None
    with Image.open(io.BytesIO(picture)) as image:
        return cast("bytes | None", image.info.get("xmp"))


def properties(packet: bytes) -> dict[str, str]:
    """Every property of a packet by its full name. Fails where one is there twice."""
    root = ET.fromstring(packet)
    rdf = root if root.tag == RDF + "RDF" else root.find(RDF + "RDF")
    assert rdf is not None, "no rdf:RDF"
    found: list[tuple[str, str]] = []
    for description in rdf:
        found += [each for each in description.items() if not each[0].startswith(RDF)]
        found += [(each.tag, "".join(each.itertext())) for each in description]
    assert len(found) == len(dict(found)), "a property twice"
    return dict(found)


def properties_in(picture: bytes) -> dict[str, str]:
    packet = packet_in(picture)
    assert packet is not None, "no XMP packet"
    return properties(packet)


def label_in(picture: bytes) -> dict[str, str]:
    """The label of GB 45438-2025 in a picture's XMP packet."""
    return cast("dict[str, str]", json.loads(properties_in(picture)[AIGC]))


def packet_of(inner: str, *, rdf: str = "rdf", padding: int = 0) -> bytes:
    """A packet as others write them, with their own prefix for RDF."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><{rdf}:RDF '
        f'xmlns:{rdf}="http://www.w3.org/1999/02/22-rdf-syntax-ns#">{inner}</{rdf}:RDF></x:xmpmeta>'
        f'{" " * padding}<?xpacket end="w"?>'
    ).encode()


def title_packet(title: str = "Cats", *, about: str = "", padding: int = 0) -> bytes:
    return packet_of(
        f'<rdf:Description rdf:about="{about}" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title></rdf:Description>",
        padding=padding,
    )
