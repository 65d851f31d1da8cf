"""How batches end: the chunk with its last row, the batch with its last chunk.

The results are written before the end is, and the owner is told after it. Each step is one that the
sweep can take again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from ..generate import Turn
from ..generate.steps import TELL_AGAIN, TELL_FOR
from ..jobs import Notice
from ..logs import logger
from ..notices import TIMEOUT_S, Notices
from ..wire import Clock
from .documents import Chunk, Head, State, chunk_mark
from .results import Results, TooLate
from .store import Store
from .views import Views

AGAIN_AFTER = timedelta(seconds=60)
RESULTS_TIME_S = 5.0  # with less left, the results are left to the sweep
PARALLEL = 8
PAGE = 100


class Endings(Struct, frozen=True):
    store: Store
    results: Results
    views: Views
    notices: Notices
    clock: Clock
    now: Callable[[], datetime]

    def close(self, chunks: Iterable[Chunk], turn: Turn) -> None:
        """Say on the head which of these chunks are over; finish the batch with the last one.

        A row that changes its mind later (fal found a lost job) changes its chunk, and so the
        results are written anew.
        """
        for chunk in chunks:
            if not chunk.is_over:
                continue
            head = self.store.recent(chunk.batch_id)
            if head.marks.get(chunk_mark(chunk.number)) == chunk.counts().to_mark():
                continue
            head = self.store.close_chunk(chunk)
            if head.is_all_over:
                self.finish(head, turn)

    def finish(self, head: Head, turn: Turn, *, state: State = "done") -> Head:
        """Write the results and end the batch. What is not done in time, the next sweep does."""
        if head.attended:
            return self._ended(head, state, results_key=None)
        now = self.now()
        has_time = turn.answer_by - self.clock() >= RESULTS_TIME_S
        due_at = now + AGAIN_AFTER if has_time else now
        claimed = self.store.change(head, results=head.results + 1, due_at=due_at)
        if claimed is None or not has_time:
            return claimed or head
        try:
            key = self.results.write(claimed, turn)
        except TooLate:
            logger.error("the time ran out before the results of %s were whole", head.batch_id)
            return claimed
        if state == "done":
            self._let_expire(claimed)
        return self._ended(claimed, state, results_key=key)

    def refuse(self, head: Head) -> Head:
        """End a batch that cannot be carried out; nothing of it was started."""
        return head if head.state == "done" else self._ended(head, "done", results_key=None)

    def forget(self, head: Head) -> None:
        """Let a batch that nobody continued be deleted, now that its time is over."""
        self._let_expire(head)
        self.store.change(head, due_at=None, expires_at=self.now() + self.store.retention)

    def tell(self, head: Head, turn: Turn) -> None:
        """Tell the owner's webhook that the batch is done, with tries for a day."""
        now, notice = self.now(), head.notice
        if notice is None or notice.next_at is None or notice.next_at > now or not turn.tells:
            return
        finished_at = head.finished_at or now
        delivered = self.notices.send(
            notice.url,
            message_id=head.batch_id,
            event_type="batch.done",
            occurred_at=finished_at,
            data=self.views.of(head).to_json(),
            timeout_s=min(TIMEOUT_S, max(0.1, turn.ends_at - self.clock())),
        )
        now = self.now()
        next_at = now + min(TELL_AGAIN * 2 ** min(notice.tries, 10), timedelta(hours=1))
        again_at = None if delivered or next_at > finished_at + TELL_FOR else next_at
        told = Notice(notice.url, notice.tries + 1, again_at, now if delivered else None)
        expires_at = None if again_at else now + self.store.retention
        self.store.change(head, notice=told, due_at=again_at, expires_at=expires_at)

    def _ended(self, head: Head, state: State, *, results_key: str | None) -> Head:
        """The head at its end, unless something happened meanwhile: then the sweep tries again."""
        now, is_done = self.now(), state == "done"
        over_at = now + self.store.retention
        notice = head.notice
        if is_done and notice is not None and notice.tries == 0:
            notice = replace(notice, next_at=now)
        tells_at = notice.next_at if notice and is_done else None
        forgets = is_done and tells_at is None and not head.attended
        ended = self.store.change(
            head,
            state=state,
            results_key=results_key,
            notice=notice,
            finished_at=(head.finished_at or now) if is_done else None,
            due_at=tells_at if is_done else over_at,
            expires_at=over_at if forgets else None,
        )
        return ended or head

    def _let_expire(self, head: Head) -> None:
        expires_at = self.now() + self.store.retention
        with ThreadPoolExecutor(PARALLEL) as pool:
            for start in range(0, head.chunks, PAGE):
                numbers = range(start, min(start + PAGE, head.chunks))
                chunks = self.store.chunks(head.batch_id, numbers)
                list(pool.map(lambda chunk: self.store.expire_chunk(chunk, expires_at), chunks))
