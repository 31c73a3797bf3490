"""Bus: how processes tell each other that there is something to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Bus(Protocol):
    """Carries short messages to every process of an installation, this one perhaps included.

    Any message may be lost, come twice or come late: whoever gets one looks at the database, and whoever gets none
    looks now and then.
    """

    @property
    def limit(self) -> int:
        """The most bytes of a message."""

    async def listen(self, on_message: Callable[[str], None], on_connected: Callable[[], None]) -> None:
        """Listens until the link is lost, and raises what says so, within seconds also where nobody does.

        `on_connected` is called once, as soon as messages can come and be sent. To be called again and again.
        """

    async def send(self, messages: Sequence[str]) -> None:
        """Sends messages, while somebody listens here. Raises what the driver raises; waits for seconds at most."""
