"""OpenAI's dialect, for clients that believe they speak to OpenAI: `wishes` reads what they ask
for, `forms` and `multipart` what they send as a form, `answers` says what they are told."""

from .answers import refusal
from .service import Asked, OpenAI
from .wishes import is_unnamed

__all__ = ["Asked", "OpenAI", "is_unnamed", "refusal"]
