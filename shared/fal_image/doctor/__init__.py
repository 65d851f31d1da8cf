"""Examines a setup, before it is deployed and after: one finding a check, each with its fix."""

from .case import Case
from .examination import examine
from .findings import Finding

__all__ = ["Case", "Finding", "examine"]
