"""What agents may send to the tools and what they are told, as types: what validates a call also
describes it. Refuses to know how anything is done.

Arguments are spelled as agents spell them, results as our API does. The constraints of transforms
and of the AI label are the endpoint's own types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from ..inputs import MAX_LINKS, Seconds
from ..jobs.values import State
from ..treatment import LabelWish, Transforms

MAX_INPUT_PICTURES = 10
MAX_SEED = 2**53 - 1  # what JavaScript, which many hosts are written in, still tells apart

Prompt = Annotated[
    str, Meta(min_length=1, max_length=50_000, description="What the picture shows, in full.")
]
ModelId = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$",
        max_length=200,
        description="fal's model id such as fal-ai/flux/dev, or an alias of the endpoint. Left "
        "out, the endpoint's default, which is cheap and fast.",
    ),
]
Preset = Literal[
    "square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"
]
SidePx = Annotated[int, Meta(ge=1, le=14142)]
FileId = Annotated[str, Meta(min_length=1, max_length=1000)]


class Size(Struct, frozen=True, forbid_unknown_fields=True):
    """Width and height in pixels."""

    width: SidePx
    height: SidePx


PictureSize = Annotated[
    Preset | Size,
    Meta(
        description="A name, or width and height. Models without an image_size take "
        '{"aspect_ratio": "16:9"} in `input` instead.'
    ),
]
Seed = Annotated[
    int, Meta(ge=0, le=MAX_SEED, description="The same seed and prompt give the same picture.")
]
Number = Annotated[int, Meta(ge=1, le=4, description="How many pictures; each is paid for.")]
MoreInput = Annotated[
    dict[str, Any],
    Meta(description="Further fields of the model, as fal spells them: guidance_scale, …"),
]
IdempotencyKey = Annotated[
    str,
    Meta(
        pattern="^[!-~]{1,255}$",
        description="Calls with the same key and the same arguments are one job and one bill. "
        "Give one when you may have to call again.",
    ),
]
Preview = Annotated[
    Literal["none", "small"],
    Meta(description="small: look at the result yourself, as a picture of a few kilobytes."),
]
InputPicture = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4000,
        description="An https:// URL that anybody may read, or the fileID of a picture made or "
        "uploaded here. Neither a path on a disk nor base64.",
    ),
]
InputPictures = Annotated[list[InputPicture], Meta(min_length=1, max_length=MAX_INPUT_PICTURES)]
JobId = Annotated[str, Meta(pattern="^[0-9a-z]{26}$", description="The jobId of an answer.")]


class _Asked(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    prompt: Prompt
    model: ModelId | UnsetType = UNSET
    size: PictureSize | UnsetType = UNSET
    number: Number | UnsetType = UNSET
    input: MoreInput | UnsetType = UNSET


class _Made(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    seed: Seed | UnsetType = UNSET
    transforms: Transforms | UnsetType = UNSET
    ai_label: Literal["metadata", "visible"] | LabelWish | UnsetType = UNSET
    max_age: (
        Annotated[Seconds, Meta(description="How long links live, in seconds.")] | UnsetType
    ) = UNSET
    reuse: (
        Annotated[
            bool,
            Meta(description="With a seed: an equal request gets the picture that is there, free."),
        ]
        | UnsetType
    ) = UNSET
    idempotency_key: IdempotencyKey | UnsetType = UNSET
    preview: Preview = "small"


class Generate(_Made, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of generate_image."""


class Edit(_Made, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of edit_image."""

    images: InputPictures


class EstimateOf(_Asked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The arguments of estimate_cost."""

    images: InputPictures | UnsetType = UNSET


class GetJob(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of get_job."""

    job_id: JobId
    preview: Preview = "small"


class RenewLink(Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of renew_link."""

    file_ids: Annotated[list[FileId], Meta(min_length=1, max_length=MAX_LINKS)]
    max_age: (
        Annotated[Seconds, Meta(description="How long links live, in seconds.")] | UnsetType
    ) = UNSET


class Failure(Struct, frozen=True, rename="camel"):
    """What went wrong. `retryable`: calling again with the same arguments cannot pay twice.
    `source_urls`: where pictures that are paid and not stored are at fal, for a while."""

    code: str
    message: str
    hint: str | None = None
    retryable: bool = False
    idempotency_key: str | None = None
    request_id: str | None = None
    fal_request_id: str | None = None
    source_urls: list[str] = []


class Notice(Struct, frozen=True):
    code: str
    message: str


class Copy(Struct, frozen=True):
    """Another form of a picture: its thumbnail, or what it was before transforms."""

    file_id: str = msgspec.field(name="fileID")
    url: str | None
    width: int | None = None
    height: int | None = None


class Picture(Struct, frozen=True, rename="camel", kw_only=True):
    """One stored picture. The fileID lasts; the url ends at expiresAt, where that is not null."""

    index: int
    file_id: str = msgspec.field(name="fileID")
    url: str | None
    expires_at: str | None = None
    width: int | None = None
    height: int | None = None
    content_type: str | None = None
    bytes: int | None = None
    nsfw: bool | None = None
    thumbnail: Copy | None = None
    original: Copy | None = None


class Cost(Struct, frozen=True):
    """In US dollars, null where it is not known."""

    estimate: float | None = None
    actual: float | None = None
    currency: str = "USD"


class JobResult(Struct, frozen=True, rename="camel", kw_only=True):
    """A job as it is now. While it is open, get_job tells how it goes on; "refused" means that
    there is none."""

    job_id: str | None = None
    state: State | Literal["refused"]
    is_over: bool
    model: str | None = None
    images: list[Picture] = []
    output: Any = None
    seed: int | None = None
    cost: Cost = Cost()
    cached: bool = False
    queue_position: int | None = None
    ask_again_after_s: int | None = None
    warnings: list[Notice] = []
    error: Failure | None = None


class EstimateResult(Struct, frozen=True, rename="camel"):
    """What the call would cost, in US dollars; null for the reason that is given."""

    estimate_usd: float | None = None
    model: str | None = None
    images: int | None = None
    unit: str | None = None
    units: int | None = None
    unit_usd: float | None = None
    currency: str = "USD"
    reason: str | None = None
    warnings: list[Notice] = []
    error: Failure | None = None


class FreshLink(Struct, frozen=True, kw_only=True):
    """A link, or the code of the error why there is none."""

    file_id: str = msgspec.field(name="fileID")
    url: str | None = None
    expires_at: str | None = msgspec.field(default=None, name="expiresAt")
    error: str | None = None


class LinksResult(Struct, frozen=True):
    links: list[FreshLink] = []
    error: Failure | None = None


def schema_of_input(kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, as short as it can be said: agents read it whole. An
    argument that may be null is described as one that may be left out."""
    return _schema(kind, _left_out_for_null)


def schema_of_output(kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of what a tool answers."""
    return _schema(kind, dict)


def _schema(kind: type[Struct], said: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A type's JSON Schema (2020-12) in one piece: hosts differ in how they follow references."""
    (root,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")

    def whole(node: Any) -> Any:
        if isinstance(node, list):
            return [whole(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            beside = {name: value for name, value in node.items() if name != "$ref"}
            node = {**parts[node["$ref"].rpartition("/")[2]], **beside}
        return said({name: whole(value) for name, value in node.items() if _is_told(name, value)})

    schema: dict[str, Any] = whole(root)
    for node in _objects(schema):
        if isinstance(node.get("description"), str):
            node["description"] = " ".join(node["description"].split())
    return schema


def _is_told(name: str, value: object) -> bool:
    """A type's name, which is not a property called title, says nothing that its place does not."""
    return not (name == "title" and isinstance(value, str))


def _left_out_for_null(node: dict[str, Any]) -> dict[str, Any]:
    kinds = [kind for kind in node.get("anyOf", ()) if kind != {"type": "null"}]
    if node.get("default", 0) is not None or len(kinds) == len(node.get("anyOf", ())):
        return node
    rest = {name: value for name, value in node.items() if name not in ("anyOf", "default")}
    return {**kinds[0], **rest} if len(kinds) == 1 else {"anyOf": kinds, **rest}


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _objects(part)


# msgspec learns a type with its first use, which two threads must not do at once (msgspec 0.22).
for _kind in (Generate, Edit, EstimateOf, GetJob, RenewLink):
    msgspec.json.Decoder(_kind)
