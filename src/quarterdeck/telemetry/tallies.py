"""What is counted: cells that one thread adds to and any may read, and a cap on the values of a label.

An increment must cost a fraction of a microsecond, so there is no lock: a cell belongs to one thread, which under the
interpreter lock makes every read of it a value that it had.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

OTHER = "_other"
"""The label of whatever is beyond the cap."""


class Count:
    """A number that grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, count: int = 1) -> None:
        """Adds."""
        self.value += count


class Histogram:
    """How many observations fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Takes an observation; the clock may have made a negative one, which counts as 0."""
        if value > 0.0:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += value
        else:
            self._counts[0] += 1

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Upper bounds with the number of observations up to each, and the sum of all."""
        total, counts = self._sum, self._counts[:]
        return list(zip([*map(_bound, self._bounds), "+Inf"], accumulate(counts), strict=True)), total


class Cap:
    """The first `size` values are labels of their own, all others are `_other`: the number of series is bounded."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The label for a value."""
        if value in self._known:
            return value
        if len(self._known) < self._size:
            self._known.add(value)
            return value
        return OTHER


def _bound(value: float) -> str:
    return repr(float(value))
