"""fal's own dialect, spoken to callers who believe that they speak to fal: `targets` says where a
call may lead, `service` what becomes of it."""

from .answers import refusal
from .asked import Asked
from .intake import Intake
from .keeping import Keeping
from .passing import Passing
from .results import Results
from .runs import Runs
from .service import Proxy
from .streams import Streams
from .targets import of_header, of_path
from .ties import Ties

__all__ = [
    "Asked",
    "Intake",
    "Keeping",
    "Passing",
    "Proxy",
    "Results",
    "Runs",
    "Streams",
    "Ties",
    "of_header",
    "of_path",
    "refusal",
]
