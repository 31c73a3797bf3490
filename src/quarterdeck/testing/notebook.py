"""Notebook: takes what a handler tells while it runs inline, under the limits of the service."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from quarterdeck.domain.job import Progress
from quarterdeck.domain.jsonvalue import decode_stored, encode_result
from quarterdeck.domain.recorded import Entry
from quarterdeck.domain.topic import new_message
from quarterdeck.engine.recording import Recording
from quarterdeck.testing.ran import Line, Published


class Notebook:
    """What an attempt tells, in order, as it would come back from the database; every progress, not ten a second."""

    def __init__(self, job_id: uuid.UUID) -> None:
        self.progress_told: list[Progress] = []
        self.lines: list[Line] = []
        self.outputs: list[Any] = []
        self.published: list[Published] = []
        self._limits = Recording(job_id, 1, 0, put=self._take, clock=asyncio.get_running_loop())

    async def progress(self, fraction: float, message: str | None) -> None:
        """Takes how far the job is."""
        self.progress_told.append(Progress(fraction, message))
        await asyncio.sleep(0)

    async def log(self, level: str, message: str) -> None:
        """Takes a line; past the limit they are dropped, as in the service."""
        await self._limits.log(level, message)

    async def output(self, entry: Entry) -> None:
        """Takes a value. Raises ResultError for one too many, or too much."""
        await self._limits.output(entry)

    async def publish(self, topic: str, data: Any, *, tenant: str) -> int:
        """Takes a message; returns its id, which counts from 1. Raises ResultError, InvalidSubmit."""
        message = new_message(tenant, topic, encode_result(data).encode())
        self.published.append(Published(topic, decode_stored(message.data.encode())))
        return len(self.published)

    def _take(self, recording: Recording) -> None:
        entries = recording.take(1, 1)
        for entry in entries:
            told = decode_stored(entry.data.encode())
            if entry.event == "log":
                self.lines.append(Line(told["level"], told["message"]))
            else:
                self.outputs.append(told)
        recording.written(entries)
