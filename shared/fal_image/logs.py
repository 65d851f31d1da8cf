"""JSON log lines on stderr, with secrets taken out of every line.

One line per request is written by `app`; other modules log what nobody else would see. Prompts
are never logged by anyone: their length is enough to find a request again.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import TextIO

logger = logging.getLogger("fal_image")

# A name, and after it what must not be seen.
_NAMED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(\bKey\s+)[^\s:\"']+:[^\s\"',\\]+",
        r"(\b(?:Bearer|Basic)\s+)[^\s\"',\\]+",
        r"(\b(?:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|AWSAccessKeyId|Signature"
        r"|sig|sign|q-signature|q-ak|x-cos-security-token|fal_jwt_token|fal_webhook|token)=)"
        r"[^&\s\"']+",
        r"(\"?\b(?:x-api-key|authorization|cookie)\b\"?\s*[:=]\s*\"?)[^\"\s,}]+",
        r"(/webhooks/fal/[^/\s\"']+/)[^/?&\s\"',\\]+",
    )
)

# What shows by its form what it is.
_SHAPED = re.compile(
    r"\bt1\.[\w-]+\.[\w-]+"  # a ticket
    r"|\bfi_[0-9a-z]{32}\b"  # an API key made by `fal-image keys new`
    r"|\b[0-9a-f]{8}-[0-9a-f-]{27}:[0-9a-f]{32,}"  # a key of fal
    r"|\beyJ[\w-]+\.[\w-]+\.[\w-]+"  # a JSON Web Token, such as fal's
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|\bAKID[A-Za-z0-9]{13,64}\b"  # key ids of AWS, of Tencent
)


class _JsonLines(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            kind, _, trace = record.exc_info
            # An exception's text may quote what a caller sent; where it was raised is enough.
            line["exception"] = kind.__name__
            line["traceback"] = "".join(traceback.format_tb(trace))
        return redact(_without(self._secrets, json.dumps(line, ensure_ascii=False, default=str)))


def _without(secrets: Iterable[str], text: str) -> str:
    """A line of JSON without the secrets, as they stand in JSON. The longest goes first: of one
    that holds another, nothing stays."""
    for secret in sorted({secret for secret in secrets if secret}, key=len, reverse=True):
        text = text.replace(json.dumps(secret, ensure_ascii=False)[1:-1], "***")
    return text


def configure(level: str, secrets: Iterable[str], stream: TextIO | None = None) -> None:
    """Send our log lines to `stream` (stderr), without `secrets`; calling again replaces it.

    The secrets are asked for with every line: they may change while the process lives.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines(secrets))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    for noisy in ("httpx", "httpcore", "urllib3", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # httpx logs whole URLs at INFO


def redact(text: str) -> str:
    """The text without credentials and signatures, in whatever form they are recognisable."""
    for pattern in _NAMED:
        text = pattern.sub(r"\1***", text)
    return _SHAPED.sub("***", text)
