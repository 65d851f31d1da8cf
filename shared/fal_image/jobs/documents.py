"""A job as its document: JSON in, JSON out, nothing lost. `docs/documents.md` tells field by field.

What holds its default is left out, so that a document is as small as what is known.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from typing import Any

import msgspec
from msgspec.structs import fields, replace

from .values import Fault, Job, Outcome

INLINE_CHARS = 2_000  # a longer data URI in the input is kept as its hash: it went to fal already

MAX_OUTPUT_BYTES = 100_000  # of an output that is not of pictures
MAX_URL_CHARS = 4_096
MAX_EXTENSION_CHARS = 10_000  # of one fact that an error carries
INLINE = "data:"
"""What stands in the place of a picture that came inside the output."""

# The document's own id and version, and what is true of one request only.
_NOT_KEPT = frozenset({"job_id", "version", "cached"})


def to_document(job: Job) -> dict[str, object]:
    """The body of the job's document."""
    kept = replace(
        job,
        images=tuple(image.unlinked() for image in job.images),
        output=_small(job.output),
        outcome=_without_pictures(job.outcome),
        fault=_brief(job.fault),
    )
    known: dict[str, Any] = msgspec.to_builtins(kept)
    return {
        name: value
        for name, value in known.items()
        if name not in _NOT_KEPT and (name not in _DEFAULTS or value != _DEFAULTS[name])
    }


def _without_pictures(outcome: Outcome | None) -> Outcome | None:
    """The outcome without what is too large for a document; fal can be asked for it again."""
    if outcome is None:
        return None
    sources = outcome.sources and tuple(
        replace(source, url=INLINE) if _is_long(source.url) else source
        for source in outcome.sources
    )
    output, fault = _small(outcome.output), _brief(outcome.fault)
    return replace(outcome, sources=sources, output=output, fault=fault)


def _brief(fault: Fault | None) -> Fault | None:
    """The fault without what is too long to keep: fal's errors may repeat the whole input."""
    if fault is None:
        return None
    extensions = fault.extensions
    if isinstance(extensions.get("falErrors"), list):
        extensions = extensions | {"falErrors": _without_inputs(extensions["falErrors"])}
    kept = {name: value for name, value in extensions.items() if not _is_large(value)}
    return replace(fault, extensions=kept)


def _without_inputs(errors: Any) -> Any:
    """fal's list of errors without the values they quote, where those make it too long."""
    if not _is_large(errors):
        return errors
    return [
        {name: value for name, value in each.items() if name != "input"}
        if isinstance(each, dict)
        else each
        for each in errors
    ]


def _is_large(value: object) -> bool:
    return len(json.dumps(value, ensure_ascii=False)) > MAX_EXTENSION_CHARS


def _is_long(url: str) -> bool:
    """Whether a picture's URL is the picture itself, or no URL that anybody could keep."""
    return url.startswith(INLINE) or len(url) > MAX_URL_CHARS


def _small(output: object) -> object:
    if output is None:
        return None
    size = len(json.dumps(output, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return output if size <= MAX_OUTPUT_BYTES else None


def _defaults() -> dict[str, object]:
    """What each field that may be absent holds then, in the form of the document."""
    epoch = datetime.fromtimestamp(0, timezone.utc)
    empty = Job("", "", epoch, epoch)
    return {
        one.name: msgspec.to_builtins(getattr(empty, one.name))
        for one in fields(Job)
        if not one.required
    }


_DEFAULTS = _defaults()

# msgspec learns a type with its first use; a second thread that uses the half-learnt type meanwhile
# crashes the process (msgspec 0.22). So it learns this one with our import.
msgspec.json.Decoder(Job)


def from_document(job_id: str, version: int, body: dict[str, object]) -> Job:
    """The job that a document keeps."""
    return msgspec.convert({**body, "job_id": job_id, "version": version}, Job)


def input_sha256(model: str, arguments: dict[str, object], *ours: object) -> str:
    """The fingerprint of what was asked for: equal for equal input, however it was spelled."""
    canonical = json.dumps(
        [model, arguments, *ours], sort_keys=True, ensure_ascii=False, separators=(",", ":")
    )
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def abbreviated(value: Any) -> Any:
    """Input without the bytes of pictures sent inline, which would not fit into a document."""
    if isinstance(value, dict):
        return {name: abbreviated(item) for name, item in value.items()}
    if isinstance(value, list):
        return [abbreviated(item) for item in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > INLINE_CHARS:
        digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{value[: value.find(',') + 1][:100]}sha256-{digest}"
    return value
