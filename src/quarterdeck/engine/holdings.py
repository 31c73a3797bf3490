"""What this process holds: every claimed job from the claim's reply to the committed end."""

from __future__ import annotations

import uuid
from collections import Counter


class Holdings:
    """Fences by job id, and how many jobs of each queue. What the database says beyond this is reconciled."""

    def __init__(self) -> None:
        self._fences: dict[uuid.UUID, int] = {}
        self._queues: dict[uuid.UUID, str] = {}
        self._count: Counter[str] = Counter()

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

    def has(self, job_id: uuid.UUID, fence: int) -> bool:
        """Whether the job is held under this fence."""
        return self._fences.get(job_id) == fence

    def of_queue(self, queue: str) -> int:
        """How many jobs of `queue` are held."""
        return self._count[queue]

    def clear(self) -> None:
        """The lease is lost, and all with it."""
        self._fences.clear()
        self._queues.clear()
        self._count.clear()
