"""The endpoint's own description: an OpenAPI 3.1 document, made from the types that validate
requests, from those that describe answers, and from the classes of the errors.

Nothing of it is made before somebody asks, so that an entrypoint's start does not pay for it.
"""

from .document import Described, assembled, document, shown

__all__ = ["Described", "assembled", "document", "shown"]
