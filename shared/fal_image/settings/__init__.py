"""The owner's settings: `table` says what there is, `owner` reads it."""

from .owner import FAL_HOSTS, FAL_KEY_NAMES, PREFIX, Settings, load
from .table import TABLE, Setting

__all__ = ["FAL_HOSTS", "FAL_KEY_NAMES", "PREFIX", "TABLE", "Setting", "Settings", "load"]
