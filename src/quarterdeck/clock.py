"""The database's clock, as this process knows it: all durable times come from there."""

import datetime as dt
import time


class DatabaseClock:
    """Wall-clock time corrected by the offset to the database, learnt from every beat."""

    def __init__(self) -> None:
        self._offset = 0.0

    def observe(self, database_now: dt.datetime, sent: float, received: float) -> None:
        """Learns the offset from a reply; `sent` and `received` are `time.time()` around the call."""
        self._offset = database_now.timestamp() - (sent + received) / 2

    def now(self) -> dt.datetime:
        """The time at the database, UTC."""
        return dt.datetime.fromtimestamp(time.time() + self._offset, dt.UTC)

    def milliseconds(self) -> int:
        """The same, in milliseconds since the epoch, for ids."""
        return int((time.time() + self._offset) * 1000)


def rfc3339(moment: dt.datetime) -> str:
    """A moment as the contract writes it: UTC, milliseconds, a final Z."""
    return moment.astimezone(dt.UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
