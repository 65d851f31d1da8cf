"""What cloudbaserc.json may hold: the CloudBase CLI sends much that the cloud then refuses, and
silently drops every field that it does not know.

Limits: CloudBase docs, "Function configuration" and "Environment variables"; Tencent Cloud
document 583/11637 for names and sizes, 583/9708 for cron. `python -m
scripts.deploying.cloudbase_schema` writes them as the JSON Schema that editors read. Refuses to
know what any setting means.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

DOCUMENT = Path(__file__).with_name("cloudbaserc.schema.json")

# Seconds, minutes, hours, days, months, weekdays, years: what one number of each may be.
_MINUTE = "[1-5]?[0-9]"
_NUMBERS = (
    _MINUTE,
    _MINUTE,
    "(?:1?[0-9]|2[0-3])",
    "(?:[1-9]|[12][0-9]|3[01])",
    "(?:[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)",
    "(?:[0-6]|SUN|MON|TUE|WED|THU|FRI|SAT)",
    "(?:19[7-9][0-9]|20[0-9][0-9])",
)


def _cron_field(number: str) -> str:
    part = rf"(?:\*|{number}(?:-{number})?)(?:/[1-9][0-9]?)?"
    return f"{part}(?:,{part})*"


_CRON = f"^{' '.join(map(_cron_field, _NUMBERS))}$"

Name = Annotated[
    str,
    Meta(
        pattern="^[a-zA-Z][a-zA-Z0-9_-]{0,59}$",
        description="at most 60 letters, digits, '-' and '_', a letter first",
    ),
]
Route = Annotated[
    str,
    Meta(pattern="^(/[A-Za-z0-9_.~-]+)+$", description="a path such as /fal-image-gen"),
]
Seconds = Annotated[int, Meta(ge=1, le=900, description="a whole number of seconds from 1 to 900")]
_Megabytes = Literal[
    64, 128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048,
    2176, 2304, 2432, 2560, 2688, 2816, 2944, 3072,
]  # fmt: skip
Megabytes = Annotated[_Megabytes, Meta(description="64, or a multiple of 128 up to 3072, in MB")]
Variable = Annotated[
    str,
    Meta(
        pattern="^(?!SCF_|QCLOUD_|TENCENTCLOUD_)[a-zA-Z][a-zA-Z0-9_]*$",
        description="named in letters, digits and '_', a letter first; SCF_, QCLOUD_ and "
        "TENCENTCLOUD_ begin the cloud's own names",
    ),
]
Text = Annotated[str, Meta(description="text")]
Cron = Annotated[
    str,
    Meta(
        pattern=_CRON,
        description="a cron of seven fields: second minute hour day month weekday year",
    ),
]


class Timer(Struct, forbid_unknown_fields=True):
    name: Name
    type: Annotated[Literal["timer"], Meta(description="timer: the CLI creates no other trigger")]
    config: Cron


class Concurrency(Struct, forbid_unknown_fields=True):
    dynamicEnabled: Annotated[Literal["FALSE"], Meta(description='"FALSE": the number is fixed')]
    maxConcurrency: Annotated[int, Meta(ge=1, le=100, description="a whole number from 1 to 100")]


class Vpc(Struct, forbid_unknown_fields=True):
    vpcId: Text
    subnetId: Text


class PublicNet(Struct, forbid_unknown_fields=True):
    # fal is on the public internet.
    publicNetStatus: Annotated[Literal["ENABLE"], Meta(description='"ENABLE": fal is out there')]


class _Function(Struct, forbid_unknown_fields=True, kw_only=True):
    name: Name
    dir: Annotated[
        str, Meta(pattern=r"^\.build/", description="where scripts/package builds: .build/…")
    ]
    timeout: Seconds
    memorySize: Megabytes
    envVariables: dict[Variable, Text]
    path: Route = ""
    ignore: list[Text] = []
    description: Text = ""
    vpc: Vpc | None = None
    publicNetConfig: PublicNet | None = None


class EventFunction(
    _Function, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="Event"
):
    handler: Annotated[
        Literal["index.main"], Meta(description="index.main, the package's one entrypoint")
    ]
    runtime: Annotated[
        Literal["Python3.10", "Python3.11"], Meta(description="Python3.10 or Python3.11")
    ]
    triggers: list[Timer] = []


class HttpFunction(
    _Function, forbid_unknown_fields=True, kw_only=True, tag_field="type", tag="HTTP"
):
    runtime: Annotated[
        Literal["Python3.10"], Meta(description="Python3.10, whose program scf_bootstrap names")
    ]
    instanceConcurrencyConfig: Concurrency | None = None


class Config(Struct, forbid_unknown_fields=True):
    version: Annotated[Literal["2.0"], Meta(description='"2.0"')]
    envId: Annotated[str, Meta(min_length=1, description="the id of a CloudBase environment")]
    functions: list[EventFunction | HttpFunction]
    schema: Text = msgspec.field(name="$schema", default="")
    region: Annotated[
        Literal["ap-shanghai", "ap-beijing", "ap-guangzhou", "ap-singapore"],
        Meta(description="a region that the CLI knows, such as ap-shanghai"),
    ] = "ap-shanghai"


def faults(config: object) -> list[str]:
    """What is wrong with the file's content, all of it, a sentence for each field that begins with
    the field's place. No value is among the words: some are secret."""
    return list(_faults(config, Config, ""))


def _faults(value: object, kind: Any, at: str) -> Iterator[str]:
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _of_struct(value, kind, at)
    elif origin is list and isinstance(value, list):
        for place, item in enumerate(value):
            yield from _faults(item, inner[0], f"{at}[{place}]")
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            yield from _faults(name, inner[0], f"{at}.{name}")
            yield from _faults(item, inner[1], f"{at}.{name}")
    elif NoneType in inner:
        yield from _faults(value, inner[0], at)
    elif EventFunction in inner:
        yield from _of_function(value, at)
    else:
        yield from _of_leaf(value, kind, at)


def _of_struct(value: object, kind: type[Struct], at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: must be an object"
        return
    hints = get_type_hints(kind, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    inside = f"{at}." if at else ""
    for name in value:
        if name not in fields and name != kind.__struct_config__.tag_field:
            yield f"{inside}{name}: is no field that the CLI passes on; it would drop it silently"
    for name, field in fields.items():
        if name in value:
            yield from _faults(value[name], hints[field.name], f"{inside}{name}")
        elif field.required:
            yield f"{inside}{name}: must be given"


def _of_function(value: object, at: str) -> Iterator[str]:
    kinds: dict[str, type[Struct]] = {"Event": EventFunction, "HTTP": HttpFunction}
    form = value.get("type") if isinstance(value, dict) else None
    if isinstance(form, str) and form in kinds:
        yield from _of_struct(value, kinds[form], at)
    else:
        yield f"{at}.type: must be Event or HTTP; it can never be changed after the first deploy"


def _of_leaf(value: object, kind: Any, at: str) -> Iterator[str]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said = [meta.description for meta in get_args(kind)[1:] if isinstance(meta, Meta)]
        yield f"{at}: must be {said[0]}" if said else f"{at}: {error}"


def document() -> str:
    """The JSON Schema of the file, for editors."""
    return json.dumps(msgspec.json.schema(Config), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
