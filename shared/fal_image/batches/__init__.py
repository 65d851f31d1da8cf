"""Many jobs as one: a head, chunks of rows, and a window of them in flight.

`rows` reads lines, `documents` says what is kept, `store` keeps it; `planning` counts the rows,
`lanes` starts them, `endings` finishes, `results` and `views` tell what became of them; `attended`
are the command's own, and `service` is what the others call.
"""

from .documents import HEAD as PREFIX
from .lanes import Enqueue
from .service import Batches
from .views import Batch

__all__ = ["PREFIX", "Batch", "Batches", "Enqueue"]
