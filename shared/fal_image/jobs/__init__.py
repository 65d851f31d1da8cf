"""Jobs: what one is (`values`), what may happen to it (`events`, `states`), and how it is kept
(`documents`)."""

from .ids import (
    ID,
    ID_BYTES,
    ID_CHARS,
    RANDOM_BYTES,
    base32,
    derived_id,
    made_at,
    new_job_id,
    rfc3339,
)
from .values import (
    Cost,
    Fault,
    Image,
    Job,
    JobWarning,
    Lease,
    Notice,
    Outcome,
    Progress,
    Reservation,
    Source,
    State,
    Variant,
)

__all__ = [
    "ID",
    "ID_BYTES",
    "ID_CHARS",
    "RANDOM_BYTES",
    "Cost",
    "Fault",
    "Image",
    "Job",
    "JobWarning",
    "Lease",
    "Notice",
    "Outcome",
    "Progress",
    "Reservation",
    "Source",
    "State",
    "Variant",
    "base32",
    "derived_id",
    "made_at",
    "new_job_id",
    "rfc3339",
]
