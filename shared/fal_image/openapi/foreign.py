"""Bodies in the dialects of others: fal's, and OpenAI's.

What they add to their own is not ours to refuse, so these take more than they name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .answers import Count, Job, Known, Shape, Url

File = Annotated[str, Meta(extra_json_schema={"contentMediaType": "application/octet-stream"})]


class FalInput(Struct):
    """A model's input at fal's addresses, or what fal's own API takes there."""


class FalWebhook(Struct):
    """What fal tells of a request that ended (fal docs, webhooks page)."""

    request_id: str | UnsetType = UNSET
    gateway_request_id: str | UnsetType = UNSET
    status: Literal["OK", "ERROR"] | UnsetType = UNSET
    payload: Any = UNSET
    error: str | None | UnsetType = UNSET
    payload_error: str | None | UnsetType = UNSET


class ProxyProblem(Struct):
    """A refusal of ours as fal's clients read it: `detail` is what they show, fal's own words where
    fal refused."""

    detail: Any
    error: str
    message: str
    status: int
    requestId: str
    retryable: bool
    hint: str | None


class _ImagesFields(Struct, kw_only=True):
    prompt: str
    model: str | None = None
    n: Annotated[int, Meta(ge=1, le=10)] | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp", "avif"] | None = None
    user: str | None = None


class ImagesGenerateRequest(_ImagesFields):
    """OpenAI's fields. Any other is the model's own, or one of a generate request; what a model
    cannot keep is refused."""


class ImagesEditRequest(_ImagesFields, kw_only=True):
    """The same as JSON: pictures are https URLs, data URIs or file ids."""

    image: str | list[str]
    mask: str | None = None


class ImagesEditForm(_ImagesFields, kw_only=True):
    """OpenAI's form: `image` may come several times, also as `image[]`."""

    image: File | list[File] | UnsetType = UNSET
    mask: File | UnsetType = UNSET


class ImagesPicture(Shape):
    """A picture by its link, or in base64 where it was wanted so; null where it is withheld."""

    url: Url | None | UnsetType = UNSET
    b64_json: str | None | UnsetType = UNSET


class Images(Shape, kw_only=True):
    """OpenAI's members, and the job as GET /jobs/{id} shows it."""

    created: Count
    data: list[ImagesPicture]
    size: str | UnsetType = UNSET
    output_format: str | UnsetType = UNSET
    job: Job


class OpenAIModel(Shape):
    id: str
    object: Literal["model"]
    created: Count
    owned_by: str


class OpenAIModels(Shape):
    """The models that are allowed, and the owner's names for them."""

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIFault(Known, kw_only=True):
    """OpenAI's four members, and what else is known of the error."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str | None
    requestId: str
    retryable: bool


class OpenAIError(Shape):
    """An error as OpenAI's clients read it. What fal was asked for has a status that they do not
    repeat."""

    error: OpenAIFault
