"""Pictures from fal.ai, through your own function, into your own bucket."""

__version__ = "0.1.0"
