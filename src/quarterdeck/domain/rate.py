"""Rates as users write them in queue settings: so many starts in so much time."""

import re

import msgspec

from quarterdeck.domain.duration import parse_duration

MAX_COUNT = 1_000_000
_RATE = re.compile(r"([0-9]{1,9})/(.+)", re.ASCII | re.DOTALL)
_LEAST_EVERY = 1e-6
_EXPECTED = "expected text such as '100/1m': how many, and in which time"


class Rate(msgspec.Struct, frozen=True):
    """`count` starts in every `seconds`, of which `burst` may come at once."""

    text: str
    count: int
    seconds: float

    @property
    def every(self) -> float:
        """Seconds from one start to the next."""
        return self.seconds / self.count

    @property
    def burst(self) -> int:
        """How many starts may come at once after a rest."""
        return self.count


def parse_rate(text: str) -> Rate:
    """The rate that `text` says, as `"100/1m"` or `"5/10s"`.

    Raises ValueError for anything else, and for more than a million at once or a microsecond.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(_EXPECTED)
    count = int(found[1])
    try:
        seconds = parse_duration(found[2])
    except ValueError:
        raise ValueError(f"{_EXPECTED}, in units such as '250ms', '10s', '1m' or '1h'") from None
    if not 1 <= count <= MAX_COUNT:
        raise ValueError(f"must allow 1 to {MAX_COUNT} in its time")
    if seconds <= 0:
        raise ValueError("its time must be more than 0")
    if seconds / count < _LEAST_EVERY:
        raise ValueError("must not allow more than one in a microsecond")
    return Rate(text, count, seconds)
