"""Producers: one for each queue that has work here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from quarterdeck.config import QueueRule
from quarterdeck.engine.producer import Producer
from quarterdeck.engine.tasks import Tasks


class Producers:
    """Starts a producer when a queue this process serves is first heard of; no rules means every queue."""

    def __init__(
        self, rules: Sequence[QueueRule], make: Callable[[str, int | None], Producer], tasks: Tasks, *, enabled: bool
    ) -> None:
        self._rules = rules
        self._make = make
        self._tasks = tasks
        self._producers: dict[str, Producer] = {}
        self._enabled = enabled
        self.announce: Callable[[Iterable[str]], None] = lambda _: None
        """Tells other processes of queues that have new work."""

    def offer(self, queues: Sequence[str]) -> None:
        """These queues have new work: for producers here, and for those of other processes."""
        self.wake(queues)
        self.announce(queues)

    def wake(self, queues: Iterable[str]) -> None:
        """These queues have work."""
        if not self._enabled:
            return
        for queue in queues:
            producer = self._producers.get(queue) or self._start(queue)
            if producer is not None:
                producer.wake()

    def feed(self) -> None:
        """A slot became free."""
        for producer in self._producers.values():
            producer.feed()

    def free(self, queue: str, free_slots: int) -> int:
        """How many of `free_slots` jobs of `queue` may take."""
        if not self._enabled:
            return 0
        producer = self._producers.get(queue) or self._start(queue)
        return 0 if producer is None else max(0, min(free_slots, producer.demand()))

    def recall(self, queue: str) -> None:
        """The queue was paused: what a claim of it under way brings goes straight back."""
        if queue in self._producers:
            self._producers[queue].recall()

    def claiming_since(self) -> float | None:
        """When the oldest claim in flight was sent, on the monotonic clock."""
        return min((p.claiming_since for p in self._producers.values() if p.claiming_since is not None), default=None)

    def stop(self) -> None:
        """No claims from now on."""
        self._enabled = False
        for producer in self._producers.values():
            producer.stop()

    def _start(self, queue: str) -> Producer | None:
        served, limit = self._rule(queue)
        if not served:
            return None
        producer = self._producers[queue] = self._make(queue, limit)
        self._tasks.spawn(f"producer {queue}", producer.run())
        return producer

    def _rule(self, queue: str) -> tuple[bool, int | None]:
        if not self._rules:
            return True, None
        for rule in self._rules:
            if rule.matches(queue):
                return True, rule.limit
        return False, None
