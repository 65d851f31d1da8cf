"""Pages that the program knows best: errors, settings, models, what is read from which event.

`python -m fal_image.dev.docs` writes them; a test fails when they differ from the code.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from .. import endpoint, errors, settings
from .models_page import models_page

DOCS = Path(__file__).resolve().parents[3] / "docs"
FIELDS = DOCS.parent / "tests" / "data" / "fields.json"  # a test holds it against real events


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "errors.md": errors_page(),
        "events.md": events_page(json.loads(FIELDS.read_text(encoding="utf-8"))),
        "models.md": models_page(),
        "settings.md": settings_page(),
    }


def errors_page() -> str:
    lines = [
        "# Errors",
        "",
        "Every error is one `application/problem+json` object (RFC 9457): `type`, `title`,",
        "`status`, `detail`, and `error` (a stable code), `message`, `requestId`, `retryable`",
        "(sending the same body again cannot pay twice), `hint` (how to mend it), and what the",
        "code carries. `retryable` and `hint` below are the usual ones; an answer may know better.",
        "",
        "| status | code | meaning | retryable |",
        "|---|---|---|---|",
    ]
    kinds = list(errors.catalog())
    for kind in kinds:
        retryable = "yes" if kind.default_retryable else "no"
        link = f"[`{kind.code}`](#{kind.code})"
        lines.append(f"| {kind.status} | {link} | {kind.title} | {retryable} |")
    for kind in kinds:
        lines += ["", f"## {kind.code}", "", f"HTTP {kind.status}. {kind.title}."]
        if kind.__doc__:
            lines += ["", inspect.cleandoc(kind.__doc__)]
        if kind.default_hint:
            lines += ["", f"**What to do:** {kind.default_hint}"]
    return "\n".join(lines) + "\n"


def events_page(mapping: dict[str, Any]) -> str:
    """The page of events; `mapping` says for every field and entrance where it comes from."""
    entrances = mapping["entrances"]
    lines = [
        "# Events",
        "",
        "Every entrance is turned into one `Request` with one `Platform`, and nothing behind it",
        "knows which it was. The table says what comes from where. *Else* stands before what is",
        "asked when the first is missing; a dash: there is no such thing here; `?`: the vendor's",
        "samples do not show it. `context` is what the platform hands over beside the event.",
        "",
        f"| | {' | '.join(entrance['title'] for entrance in entrances)} |",
        "|---" * (len(entrances) + 1) + "|",
    ]
    for field, sources in mapping["fields"].items():
        cells = [_source(sources.get(entrance["id"], [])) for entrance in entrances]
        lines.append(f"| **{field}** | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_ABOUT_EVENTS, "", *_WHO_CALLS]) + "\n"


def _source(places: list[str]) -> str:
    """One cell: a constant is written after `=`, the whole event is `*`."""
    words = {"*": "the event itself", "=new": "a new one"}
    return (
        " else ".join(words.get(place, f"`{place.removeprefix('=')}`") for place in places) or "–"
    )


_ABOUT_EVENTS = (
    "- **Bodies** are decoded where `isBase64Encoded` says so, never by guessing. That of a PUT",
    "  above 6 MiB, which only a server of our own takes, is `file`, not read yet.",
    "- **Paths** are percent-decoded once: HTTP APIs have done it already. Their named stages are",
    "  cut off, and stand in the public URL, on the API's own domain only.",
    "- **Repeated** headers and query keys: a load balancer without",
    "  `lambda.multi_value_headers.enabled` drops all but the last. Headers of its answers are in",
    "  lists if those of the event were.",
    "- **`x-forwarded-for`**: the last address counts; the others are the caller's own text.",
    "- **EventBridge**: a rule or schedule is known by its `detail-type`, `Scheduled Event`. A",
    '  schedule with an input of its own must send exactly `{"job":"sweep"}`.',
    "- **Timers** may only sweep, because on CloudBase whoever may call the function can send an",
    "  event that looks like one. An event that looks like HTTP gains nothing either: identity,",
    "  request id and credentials come from the context alone.",
    "- **SQS**: turn `ReportBatchItemFailures` on. Each message is a request of its own; those",
    "  answered with a status of 400 or more are named in `batchItemFailures` and come again.",
    "- **`callFunction`** answers with the body's object, an object with `error` being a failure.",
    "  `userInfo`, which WeChat adds to the event, is dropped.",
)

_WHO_CALLS = (
    "## Who calls",
    "",
    "`Platform.identities` are those that the platform vouches for, in the order of this table.",
    "The first of a kind that `FAL_IMAGE_TRUST` names is the caller, by whose name jobs, files and",
    "budgets go:",
    "",
    "| kind | name | whose word |",
    "|---|---|---|",
    "| `wechat` | `wx:<openid>` | CloudBase's, for a call out of a mini program |",
    "| `cloudbase` | `tcb:<uid>` | CloudBase's, for a login of its own; never an anonymous one |",
    "| `jwt` | `jwt:<sub>` | API Gateway's: the claim `sub` of a JWT or Cognito authorizer, or "
    "`sub` in the context of a Lambda authorizer |",
    "| `iam` | `iam:<ARN>` | Function URL's and API Gateway's, with `AWS_IAM`; users of a Cognito "
    "identity pool are `iam:<identity id>`, its guests nobody |",
    "",
    "- **What is no name** (more than 100 characters with its prefix, or others than letters,",
    "  digits and `_.:@/=-`) becomes the prefix and half of its SHA-256, in hex. So does a `sub`",
    "  of 32 hex digits.",
    "- **A key or ticket counts first**, and a wrong one is refused whoever the platform names.",
    "  The token or signature that a gateway reads in `Authorization` is neither; a key goes into",
    "  `x-api-key` beside it. Tokens that are no JSON Web Tokens need a header of their own.",
    "- **On CloudBase** the names come from `context.environment` alone: no event and no header",
    "  can forge them. The old `context.environ` says nothing about who calls.",
    "- **On AWS** the names stand in the event, where a gateway puts them. Whoever may call",
    "  `lambda:InvokeFunction` can send the same event by hand, and the function cannot tell:",
    "  with `iam` or `jwt` trusted, give that right to gateways and to those who may be anybody.",
    "  Without, such an event gains nothing, not even the caller `iam` that a direct call is.",
    "- **One issuer**: the name does not say whose token it was, so let one issuer's tokens in.",
    "  The session name in an assumed role's ARN is its user's choice unless a policy pins it.",
    "- **Not believed**: headers, such as a load balancer's `x-amzn-oidc-identity` or",
    "  `x-wx-openid`. Whoever reaches another entrance can send them. Behind a load balancer, and",
    "  on a server of your own, callers need keys or tickets.",
)


_WHOM_TO_ASK = {
    endpoint.URL: "The endpoint that makes the pictures instead of this machine: `https://…`, or "
    "`http://` on this machine.",
    endpoint.TOKEN: "An API key of that endpoint, or a ticket. Secret.",
}


def settings_page() -> str:
    lines = [
        "# Settings",
        "",
        "Environment variables, read once at start; blank means unset. A name that starts with",
        "`FAL_IMAGE_` and is not below, or a value that cannot be used, makes every route but",
        "`/health` answer 500 `misconfigured` and name it; commands exit with 2.",
        "",
        "| name | default | meaning |",
        "|---|---|---|",
        "| `FAL_KEY` | | fal's key, `key_id:key_secret`; never leaves the function but to fal. |",
        "| `FAL_KEY_ID`, `FAL_KEY_SECRET` | | The same in two parts. |",
        "| `FAL_KEY_FILE` | | The path of a file that holds it, read once at start. |",
        "| `FAL_KEY_SSM_PARAM` | | The name of the parameter in AWS's Parameter Store that holds "
        "it, read once at start; needs `AWS_REGION` and a role that may read it. |",
    ]
    for row in settings.TABLE:
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {row.meaning} |")
    lines += [
        "",
        "fal's key is given in one of its four ways; two are a mistake. [Secrets](secrets.md) says",
        "where to keep which, and how to replace it. `fal-image config` prints what is in force.",
        "",
        "S3, DynamoDB, SQS and Parameter Store also read AWS's own variables: `AWS_REGION`,",
        "`AWS_ENDPOINT_URL`, `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`,",
        "`AWS_CA_BUNDLE` and the credentials. `REQUESTS_CA_BUNDLE` names the certificates that",
        "every other call believes, where a proxy opens TLS.",
        "",
        "## For the command line and agents",
        "",
        "`fal-image` and its server for agents read two more. They say whom to ask; an endpoint",
        "has no use for them. Where the first is set, no storage needs to be.",
        "",
        "| name | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in _WHOM_TO_ASK.items()),
    ]
    return "\n".join(lines) + "\n"


def write() -> None:
    DOCS.mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
