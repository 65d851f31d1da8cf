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

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(\bKey\s+)[^\s:\"']+:[^\s\"',\\]+",
        r"(\b(?:Bearer|Basic)\s+)[^\s\"',\\]+",
        r"(\b(?:X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|AWSAccessKeyId|Signature"
        r"|sig|sign|q-signature|q-ak|x-cos-security-token|fal_jwt_token|token)=)[^&\s\"']+",
        r"(\"?\b(?:x-api-key|authorization|cookie)\b\"?\s*[:=]\s*\"?)[^\"\s,}]+",
    )
)


class _JsonLines(logging.Formatter):
    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if secret)

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
        text = json.dumps(line, ensure_ascii=False, default=str)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact(text)


def configure(level: str, secrets: Iterable[str], stream: TextIO | None = None) -> None:
    """Send our log lines to `stream` (stderr), without `secrets`; calling again replaces it."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines(secrets))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    for noisy in ("httpx", "httpcore", "urllib3", "botocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # httpx logs whole URLs at INFO


def redact(text: str) -> str:
    """The text without credentials and signatures, in whatever form they are recognisable."""
    for pattern in _PATTERNS:
        text = pattern.sub(r"\1***", text)
    return text
