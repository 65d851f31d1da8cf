"""The tools: what each is called and takes, what it asks of the endpoint, what it answers.

Refuses to know how agents are connected.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio.to_thread
import mcp_types as types
import msgspec
from msgspec import UNSET, Struct

from ..endpoint import FETCH_S, Answer, EndpointFailed
from ..fal import catalog
from . import previews, results
from .asking import Asking, Heard, Intent, is_job, unheard
from .schemas import (
    Edit,
    EstimateOf,
    EstimateResult,
    Failure,
    Generate,
    GetJob,
    JobResult,
    LinksResult,
    RenewLink,
    schema_of_input,
    schema_of_output,
)

INSTRUCTIONS = (
    "Makes and edits pictures with FLUX models and keeps them in the user's own storage. Every "
    "picture costs money: ask estimate_cost before several or large ones, and give an "
    "idempotency_key when you may have to repeat a call. A job that goes on after a call has a "
    "jobId: call get_job, do not generate again. Links end; remember the fileID and call "
    "renew_link. Show the user the link, not the preview."
)
EDIT_MODEL = "fal-ai/flux-2/edit"  # takes one picture or several, and is the cheapest that does so

A = TypeVar("A", bound=Struct)
Arguments = Mapping[str, Any]


class _Refused(Exception):
    """Arguments that the endpoint need not be asked about."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Tool(Struct, frozen=True):
    """`only_looks`: it costs nothing, makes nothing and may be called again and again."""

    name: str
    title: str
    about: str
    takes: type[Struct]
    answers: type[Struct]
    only_looks: bool


_TOOLS = (
    _Tool(
        "generate_image",
        "Generate a picture",
        "Make pictures from a text; costs money. Answers with links and file ids, or with a jobId "
        "after a while: then call get_job.",
        Generate,
        JobResult,
        only_looks=False,
    ),
    _Tool(
        "edit_image",
        "Edit a picture",
        "Make pictures from other pictures and a text that says what to change; costs money. The "
        f"model is {EDIT_MODEL} if none is named.",
        Edit,
        JobResult,
        only_looks=False,
    ),
    _Tool(
        "get_job",
        "Look at a job",
        "The state of a job and its pictures with fresh links; waits a while for one that goes on. "
        "Costs nothing.",
        GetJob,
        JobResult,
        only_looks=True,
    ),
    _Tool(
        "estimate_cost",
        "Estimate the cost",
        "What generate_image, or with images edit_image, would cost with these arguments, in US "
        "dollars. Makes nothing and costs nothing.",
        EstimateOf,
        EstimateResult,
        only_looks=True,
    ),
    _Tool(
        "renew_link",
        "Renew links",
        "Fresh links to pictures that were made before, by their file ids. Costs nothing.",
        RenewLink,
        LinksResult,
        only_looks=True,
    ),
)

_Run = Callable[[Any, Arguments, str | None, Heard], Awaitable[types.CallToolResult]]


class Tools:
    """What agents may call. Safe to be called by several at once."""

    def __init__(self, asking: Asking, new_key: Callable[[], str] = lambda: secrets.token_hex(16)):
        self._asking = asking
        self._new_key = new_key
        self._runs: dict[str, _Run] = {
            "generate_image": self._generate,
            "edit_image": self._edit,
            "get_job": self._get_job,
            "estimate_cost": self._estimate,
            "renew_link": self._renew,
        }

    def listed(self) -> list[types.Tool]:
        return [
            types.Tool(
                name=tool.name,
                title=tool.title,
                description=tool.about,
                input_schema=schema_of_input(tool.takes),
                output_schema=schema_of_output(tool.answers),
                annotations=types.ToolAnnotations(
                    read_only_hint=tool.only_looks,
                    destructive_hint=False,
                    idempotent_hint=tool.only_looks,
                    open_world_hint=True,
                ),
            )
            for tool in _TOOLS
        ]

    async def call(
        self,
        name: str,
        arguments: Arguments,
        *,
        credential: str | None = None,
        heard: Heard = unheard,
    ) -> types.CallToolResult:
        """Do what a tool does. Raises KeyError for a tool that is not there; whatever goes wrong
        with one that is becomes a result with is_error."""
        run, (tool,) = self._runs[name], [tool for tool in _TOOLS if tool.name == name]
        try:
            return await run(_read(arguments, tool.takes), arguments, credential, heard)
        except _Refused as refusal:
            return _failed(tool.answers, refusal.failure)

    async def _generate(
        self, given: Generate, raw: Arguments, credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        return await self._made(given, _body(raw), credential, heard)

    async def _edit(
        self, given: Edit, raw: Arguments, credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        return await self._made(given, _body(raw) | _pictures(given), credential, heard)

    async def _made(
        self, given: Generate | Edit, body: dict[str, object], credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        is_given = isinstance(given.idempotency_key, str)
        key = given.idempotency_key if isinstance(given.idempotency_key, str) else None
        if key is None and given.reuse is not True:  # which makes a key of its own
            key = self._new_key()
        intent = Intent(body, key, is_given, credential)
        ends_at = self._asking.ends_at()
        try:
            answer = await self._asking.make(intent, ends_at, heard)
        except EndpointFailed as error:
            keeps_jobs = self._asking.keeps_jobs or is_given
            failure = results.no_answer(error, key=key, keeps_jobs=keeps_jobs)
            return _failed(JobResult, failure)
        if not is_job(answer):
            keeps_jobs = self._asking.keeps_jobs or is_given
            failure = results.failure_of(answer, key=key, keeps_jobs=keeps_jobs)
            return _failed(JobResult, failure, answer.body.get("jobId"))
        job = results.job_of(answer)
        return await self._shown(job, given.preview, ends_at, is_error=job.state == "failed")

    async def _get_job(
        self, given: GetJob, raw: Arguments, credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        ends_at = self._asking.ends_at()
        try:
            answer = await self._asking.look(given.job_id, ends_at, credential, heard)
        except EndpointFailed as error:
            return _failed(JobResult, results.no_answer(error, key=None))
        if not is_job(answer):
            return _failed(JobResult, results.failure_of(answer))
        return await self._shown(results.job_of(answer), given.preview, ends_at)

    async def _estimate(
        self, given: EstimateOf, raw: Arguments, credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        body = _body(raw)
        if not isinstance(given.images, msgspec.UnsetType):
            body |= _pictures(given)
        answer = await self._read("/estimate", body, credential)
        estimate = results.estimate_of(answer)
        return _result(estimate, results.told_estimate(estimate))

    async def _renew(
        self, given: RenewLink, raw: Arguments, credential: str | None, heard: Heard
    ) -> types.CallToolResult:
        body: dict[str, object] = {"fileIDs": given.file_ids}
        if given.max_age is not UNSET:
            body["maxAge"] = given.max_age
        links = results.links_of(await self._read("/links", body, credential))
        content = [
            _link(link.file_id, link.url, f"until {link.expires_at}" if link.expires_at else None)
            for link in links.links
            if link.url is not None
        ]
        return _result(links, results.told_links(links), *content)

    async def _read(self, path: str, body: dict[str, object], credential: str | None) -> Answer:
        """What a question that costs nothing is answered. Raises _Refused."""
        try:
            answer = await self._asking.read(
                "POST", path, body, ends_at=self._asking.ends_at(), credential=credential
            )
        except EndpointFailed as error:
            raise _Refused(results.no_answer(error, key=None)) from error
        if answer.is_error:
            raise _Refused(results.failure_of(answer))
        return answer

    async def _shown(
        self, job: JobResult, preview: str, ends_at: float, *, is_error: bool = False
    ) -> types.CallToolResult:
        """A job with a link to each picture and, if it is wanted, a small picture of each."""
        content: list[types.ContentBlock] = []
        pictures = [picture for picture in job.images if picture.url is not None]
        for picture in pictures:
            size = f"{picture.width}x{picture.height}"
            until = f", until {picture.expires_at}" if picture.expires_at else ""
            content.append(
                _link(
                    picture.file_id,
                    str(picture.url),
                    f"{size}{until}",
                    content_type=picture.content_type,
                    size=picture.bytes,
                )
            )
        if preview == "small" and pictures:
            room = previews.MAX_CHARS // len(pictures)
            stops_at = self._asking.clock() + self._asking.patience_s(ends_at)
            for picture in pictures:
                small = picture.thumbnail and picture.thumbnail.url
                content += await self._preview(small or str(picture.url), room, stops_at)
        return _result(job, results.told_job(job), *content, is_error=is_error)

    async def _preview(
        self, link: str, max_chars: int, stops_at: float
    ) -> list[types.ContentBlock]:
        """A picture to look at; none where it cannot be had: the link is there all the same."""
        patience_s = min(stops_at - self._asking.clock(), FETCH_S)
        if patience_s <= 0:
            return []

        def small() -> str | None:
            content = self._asking.endpoint.fetch(
                link, max_bytes=previews.MAX_SOURCE_BYTES, patience_s=patience_s
            )
            return previews.preview_of(content, max_chars=max_chars)

        try:
            data = await anyio.to_thread.run_sync(small)
        except EndpointFailed:
            return []
        if data is None:
            return []
        return [types.ImageContent(data=data, mime_type=previews.CONTENT_TYPE)]


def _read(arguments: Arguments, kind: type[A]) -> A:
    """The arguments of a tool. Raises _Refused for the first that is wrong."""
    try:
        return msgspec.convert(dict(arguments), kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        field = place.rstrip("`").lstrip(".")
        message = f"{field} is not right: {text}" if field else text
        hint = "Correct the argument and call again: nothing was sent."
        raise _Refused(Failure("invalid_input", message, hint, retryable=True)) from None


# How our API, and below it the model, spell what agents say; the rest is said in the same word.
_SPELLED = {
    "prompt": "prompt",
    "model": "model",
    "size": "image_size",
    "seed": "seed",
    "number": "num_images",
    "transforms": "transforms",
    "ai_label": "aiLabel",
    "max_age": "maxAge",
    "reuse": "reuse",
}


def _body(raw: Arguments) -> dict[str, object]:
    """The body of a generate request, the agent's words as they were. Raises _Refused."""
    body = {_SPELLED[name]: value for name, value in raw.items() if name in _SPELLED}
    more = dict(raw.get("input") or {})
    twice = sorted(set(body) & set(more) | set(more) & set(_SPELLED.values()))
    if twice:
        message = f"input may not hold {', '.join(twice)}: they are arguments of their own"
        raise _Refused(Failure("invalid_input", message, retryable=True))
    return {**more, **body}


def _pictures(given: Edit | EstimateOf) -> dict[str, object]:
    """The model, and the field that it takes input pictures in. Raises _Refused."""
    pictures = given.images if isinstance(given.images, list) else []
    for picture in pictures:
        if not picture.startswith("https://") and not _is_file_id(picture):
            message = f"images: {picture[:100]!r} is neither an https:// URL nor a fileID"
            hint = "Paths and data are not read: upload the picture first (POST /uploads)."
            raise _Refused(Failure("invalid_input", message, hint, retryable=True))
    model_id = given.model if isinstance(given.model, str) else EDIT_MODEL
    model = catalog.find(model_id)
    fields = {"image_url", "image_urls"} if model is None else set(model.fields)
    if "image_urls" in fields and (model is not None or len(pictures) > 1):
        return {"model": model_id, "image_urls": pictures}
    if "image_url" in fields and len(pictures) == 1:
        return {"model": model_id, "image_url": pictures[0]}
    many = "one picture only" if "image_url" in fields else "no input pictures"
    message = f"{model_id} takes {many}"
    hint = f"{EDIT_MODEL} takes several."
    raise _Refused(Failure("invalid_input", message, hint, retryable=True))


def _is_file_id(text: str) -> bool:
    """Whether it looks like an id of a storage's; whose it is, the endpoint decides."""
    return urlsplit(text).scheme in ("s3", "cos", "cloud", "file")


def _link(
    file_id: str,
    url: str,
    about: str | None,
    *,
    content_type: str | None = None,
    size: int | None = None,
) -> types.ResourceLink:
    return types.ResourceLink(
        name=file_id.rpartition("/")[2],
        uri=url,
        description=about,
        mime_type=content_type,
        size=size,
    )


def _result(
    value: Struct, text: str, *content: types.ContentBlock, is_error: bool = False
) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(text=text), *content],
        structured_content=msgspec.to_builtins(value),
        is_error=is_error,
    )


def _failed(
    kind: type[Struct], failure: Failure, job_id: str | None = None
) -> types.CallToolResult:
    value = results.refused(failure, job_id) if kind is JobResult else kind(error=failure)
    return _result(value, results.told_failure(failure, job_id), is_error=True)
