"""What this process holds: every claimed job from the claim's reply to the committed end."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable

from quarterdeck.engine.tasks import Signal


class Holdings:
    """Fences by job id, and how many jobs of each queue. What the database says beyond this is reconciled."""

    def __init__(self) -> None:
        self._fences: dict[uuid.UUID, int] = {}
        self._queues: dict[uuid.UUID, str] = {}
        self._count: Counter[str] = Counter()
        self._unwanted: set[uuid.UUID] = set()
        self._emptied = Signal()
        self.on_drop: Callable[[uuid.UUID], object] = lambda _: None
        """Is told of each job that is dropped, and of none that goes with a lost lease."""

    def __len__(self) -> int:
        return len(self._fences)

    def __contains__(self, job_id: uuid.UUID) -> bool:
        return job_id in self._fences

    def add(self, job_id: uuid.UUID, fence: int, queue: str) -> None:
        """A job was claimed."""
        if job_id not in self._fences:
            self._count[queue] += 1
        self._fences[job_id] = fence
        self._queues[job_id] = queue

    def drop(self, job_id: uuid.UUID, fence: int) -> None:
        """The job is not ours any more; a newer hold of the same job stays."""
        if self._fences.get(job_id) == fence:
            del self._fences[job_id]
            self._count[self._queues.pop(job_id)] -= 1
            self._unwanted.discard(job_id)
            self.on_drop(job_id)
            if not self._fences:
                self._emptied.set()

    def has(self, job_id: uuid.UUID, fence: int) -> bool:
        """Whether the job is held under this fence."""
        return self._fences.get(job_id) == fence

    def mark_unwanted(self, job_id: uuid.UUID) -> bool:
        """Somebody asked for the cancel of a job that is held; False where it is not."""
        held = job_id in self._fences
        if held:
            self._unwanted.add(job_id)
        return held

    def is_unwanted(self, job_id: uuid.UUID) -> bool:
        """Whether somebody asked for the cancel of this held job."""
        return job_id in self._unwanted

    def of_queue(self, queue: str) -> int:
        """How many jobs of `queue` are held."""
        return self._count[queue]

    async def emptied(self, timeout: float) -> None:
        """Waits until nothing is held, at most `timeout` seconds; for one waiter at a time."""
        if self._fences:
            await self._emptied.wait(timeout)

    def take(self) -> dict[uuid.UUID, int]:
        """The lease is lost, and all with it: returns the fences by id."""
        held, self._fences = self._fences, {}
        self._emptied.set()
        self._queues.clear()
        self._count.clear()
        self._unwanted.clear()
        return held
