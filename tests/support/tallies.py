"""Counts what a cache says of itself."""

from collections import Counter

from quarterdeck.store.shelf import Place, ReadOutcome, WriteOutcome


class Counted:
    """Outcomes of reads and writes, and how often each came."""

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()

    def cache_read(self, _place: Place, outcome: ReadOutcome) -> None:
        """Counts."""
        self.reads[outcome] += 1

    def cache_written(self, _place: Place, outcome: WriteOutcome) -> None:
        """Counts."""
        self.writes[outcome] += 1
