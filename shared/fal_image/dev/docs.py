"""Pages that the program knows best: the table of errors and the table of settings.

`python -m fal_image.dev.docs` writes them; a test fails when they differ from the code.
"""

from __future__ import annotations

from pathlib import Path

from .. import errors, settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {"errors.md": errors_page(), "settings.md": settings_page()}


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
            lines += ["", kind.__doc__.strip()]
        if kind.default_hint:
            lines += ["", f"**What to do:** {kind.default_hint}"]
    return "\n".join(lines) + "\n"


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
        "| `FAL_KEY_ID`, `FAL_KEY_SECRET` | | The same in two parts, if `FAL_KEY` is unset. |",
    ]
    for row in settings.TABLE:
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {row.meaning} |")
    lines += [
        "",
        "Storage on S3 also reads AWS's own variables: `AWS_REGION`, `AWS_ENDPOINT_URL` and the",
        "credentials.",
    ]
    return "\n".join(lines) + "\n"


def write() -> None:
    DOCS.mkdir(exist_ok=True)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
