"""The routes and what each does. Refuses to know clouds, event formats and sockets."""

from .service import Routes
from .table import KEPT_BACK_S, Call, Refuse, Route, Table, Variables, Who, answer_by

__all__ = [
    "KEPT_BACK_S",
    "Call",
    "Refuse",
    "Route",
    "Routes",
    "Table",
    "Variables",
    "Who",
    "answer_by",
]
