"""MessagePruner: forgets messages of topics that are too old or too many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quarterdeck.domain.topic import KEPT
from quarterdeck.engine.meter import Meter
from quarterdeck.engine.tasks import Signal
from quarterdeck.engine.trouble import Trouble
from quarterdeck.store.topics import Place, TopicStore

EVERY = 60.0
"""Seconds between looks for what is too old."""
SURPLUS = 500
"""Messages beyond those that are kept, of all topics together, after which it looks sooner."""
BATCH = 1000
MAX_TOPICS = 100


class MessagePruner:
    """Deletes in bounded batches, locking nobody who publishes.

    Nobody reads what is too old or too much anyway. The messages that are too many are those of topics that this
    process has published to; what a process that died leaves of them goes when it is old.
    """

    def __init__(self, store: TopicStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter
        self._grown: dict[Place, None] = {}
        self._surplus = 0
        self._sooner = Signal()

    def grew(self, lasts: Mapping[Place, int], published: int) -> None:
        """So many messages were published to topics, whose last ids are these."""
        long: Iterable[Place] = [place for place, last in lasts.items() if last > KEPT]
        if long:
            self._grown.update(dict.fromkeys(long))
            self._surplus += published
            if self._surplus >= SURPLUS:
                self._sooner.set()

    async def run(self) -> None:
        """The loop."""
        trouble = Trouble("message pruner", self._meter, longest=60.0)
        while True:
            await self._sooner.wait(EVERY)
            self._surplus = 0
            grown, self._grown = list(self._grown), {}
            try:
                while True:
                    if await self._store.prune_messages(grown[:MAX_TOPICS], BATCH) < BATCH:
                        grown = grown[MAX_TOPICS:]
                        if not grown:
                            break
                trouble.over()
            except Exception as error:  # noqa: BLE001 - sorted there
                self._grown.update(dict.fromkeys(grown))
                await trouble.wait_out(error)
