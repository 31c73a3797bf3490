"""What the web layer needs of the service it stands in front of."""

from __future__ import annotations

from typing import Protocol

from quarterdeck.config import Settings
from quarterdeck.engine.service import Engine
from quarterdeck.telemetry.metrics import Format, Metrics


class Service(Protocol):
    """A service with a life; bootstrap.Runtime is one."""

    @property
    def settings(self) -> Settings:
        """The checked settings."""

    @property
    def engine(self) -> Engine:
        """The running engine. Raises Unavailable until there is one."""

    @property
    def failure(self) -> BaseException | None:
        """What ended a loop that must never end; None while all is well."""

    @property
    def draining(self) -> bool:
        """Whether a stop has begun."""

    @property
    def metrics(self) -> Metrics:
        """What this process counts."""

    async def metrics_text(self, format: Format) -> bytes:  # noqa: A002 - what it is
        """All metrics as text."""

    async def start(self) -> None:
        """Starts everything; returns as soon as requests can be answered."""

    async def stop(self, grace: float | None = None) -> None:
        """Stops everything, in order."""
