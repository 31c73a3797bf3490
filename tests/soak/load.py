"""The load: jobs submitted over REST at a steady rate, and an exact account of which were accepted.

Each submit has an idempotency key and is sent again under it, to any replica, until somebody answers that the job is
stored. Some are sent once more after that, some are cancelled, waited for, or run again by hand.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Self

import msgspec

from tests.soak.client import Client, Response, Unanswered
from tests.soak.history import Answer, Cancel, Submit
from tests.soak.mix import LONG, Order, draw_order

PATIENCE = 6.0
"""Seconds to wait for an answer before asking again."""
HASTY = 0.02
"""The share of submits whose sender goes away before the answer can have come, at first."""
PAUSE = 0.2
"""Seconds before the second try, on average; each pause is half as long again as the one before, up to LONGEST."""
LONGEST = 2.0
OPEN = 3000
"""Submits and what follows them at the same time; beyond it the load is late."""
STILL_ANSWERING = 409
"""The first request with the key is still being answered there."""
PASSING = frozenset((429, 503))
"""Statuses that mean: ask again, after the seconds that the answer names."""


class Door(msgspec.Struct):
    """A replica as its clients see it; one that is known to be away is not asked."""

    url: str
    open: bool = False


class Load:
    """Submits at a rate until it is told to stop, and then goes on until all of it is accepted."""

    def __init__(self, doors: Sequence[Door], *, rate: float, seed: int, name: str) -> None:
        """`name` goes into every key, so that two loads on one database do not meet."""
        self.submits: list[Submit] = []
        self.cancels: list[Cancel] = []
        self.statuses: Counter[int | str] = Counter()
        self.took: list[float] = []
        self.refused: list[float] = []
        self.late = 0
        self._doors = doors
        self._rate = rate
        self._name = name
        self._orders = random.Random(seed)
        self._draw = random.Random(seed)
        self._open: set[asyncio.Task[None]] = set()
        self._clients = {door.url: Client(door.url) for door in doors}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        for client in self._clients.values():
            client.close()

    async def run(self, seconds: float) -> None:
        """Submits for so many seconds, at the rate, whatever the answers."""
        began = time.monotonic()
        for number in range(int(seconds * self._rate)):
            due = began + number / self._rate
            if (ahead := due - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            elif time.monotonic() - began > seconds:
                self.late += int(seconds * self._rate) - number
                return
            if len(self._open) >= OPEN:
                self.late += 1
                continue
            long = due - began < seconds - LONG
            task = asyncio.create_task(self._serve(number, draw_order(self._orders, number, long=long)))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def settle(self, within: float) -> int:
        """Waits until every submit is accepted, and what was to follow it is done; returns how many are not."""
        if self._open:
            await asyncio.wait(self._open, timeout=within)
        return len(self._open)

    async def _serve(self, number: int, order: Order) -> None:
        key = f"{self._name}-{number}"
        metadata = {**order.body.get("metadata", {}), "key": key}
        submit = Submit(key, order.body["kind"], time.monotonic_ns(), order.unique_key, waits=bool(order.wait))
        self.submits.append(submit)
        body = msgspec.json.encode({**order.body, "metadata": metadata})
        job_id = await self._until_accepted(submit, body, order.wait)
        if order.twice:
            await self._until_accepted(submit, body, order.wait)
        if order.cancel_after is not None:
            await asyncio.sleep(order.cancel_after)
            await self._cancel(job_id)
        if order.retry:
            await self._run_again(job_id)

    async def _until_accepted(self, submit: Submit, body: bytes, wait: int) -> uuid.UUID:
        headers = {"Content-Type": "application/json", "Idempotency-Key": submit.key}
        if wait:
            headers["Prefer"] = f"wait={wait}"
        pauses = self._pauses()
        if self._draw.random() < HASTY:
            await self._ask("POST", "/v1/jobs", content=body, headers=headers, patience=self._draw.uniform(0.001, 0.02))
        while True:
            answer = await self._ask("POST", "/v1/jobs", content=body, headers=headers, patience=PATIENCE + wait)
            if answer is not None:
                took, response = answer
                noted = _note(response, took)
                if noted.accepted or not _asks_for_patience(noted):
                    submit.answers.append(noted)
                if noted.job_id is not None:
                    return noted.job_id
            await asyncio.sleep(next(pauses))

    async def _cancel(self, job_id: uuid.UUID) -> None:
        pauses = self._pauses()
        while True:
            asked_at = time.monotonic_ns()
            answer = await self._ask("POST", f"/v1/jobs/{job_id}/cancel")
            if answer is not None and answer[1].status in (200, 202):
                response = answer[1]
                state = response.json()["state"]
                self.cancels.append(Cancel(job_id, asked_at, time.monotonic_ns(), response.status, state))
                return
            await asyncio.sleep(next(pauses))

    async def _run_again(self, job_id: uuid.UUID) -> None:
        """Waits for the end and asks for another generation, once; whether that succeeds does not matter."""
        for pause in islice(self._pauses(), 5):
            answer = await self._ask("GET", f"/v1/jobs/{job_id}", PATIENCE + 10, headers={"Prefer": "wait=10"})
            if answer is not None and answer[1].status == 200 and answer[1].json()["finalized_at"]:
                await self._ask("POST", f"/v1/jobs/{job_id}/retry")
                return
            await asyncio.sleep(pause)

    def _pauses(self) -> Iterator[float]:
        pause = PAUSE
        while True:
            yield self._draw.uniform(0.0, 2.0) * pause
            pause = min(pause * 1.5, LONGEST)

    async def _ask(
        self, method: str, path: str, patience: float = PATIENCE, **options: Any
    ) -> tuple[float, Response] | None:
        """The answer of some replica, and how long it took; None where there was none."""
        doors = [door for door in self._doors if door.open]
        if not doors:
            return None
        client = self._clients[self._draw.choice(doors).url]
        began = time.monotonic()
        try:
            response = await client.request(method, path, timeout=patience, **options)
        except Unanswered as error:
            self.statuses[str(error)] += 1
            return None
        took = time.monotonic() - began
        self.statuses[response.status] += 1
        if patience <= PATIENCE:  # it did not ask to be held
            (self.refused if response.status in PASSING else self.took).append(took)
        return took, response


def _asks_for_patience(answer: Answer) -> bool:
    return answer.status == STILL_ANSWERING or (answer.status in PASSING and answer.retry_after)


def _note(response: Response, took: float) -> Answer:
    accepted = response.status in (200, 202)
    job_id = None
    if accepted:
        with suppress(KeyError, ValueError):  # msgspec.DecodeError is one
            job_id = uuid.UUID(response.json()["id"])
    return Answer(
        time.monotonic_ns(),
        response.status,
        round(took, 4),
        job_id,
        hashlib.sha1(response.content, usedforsecurity=False).hexdigest() if accepted else "",
        duplicate=response.headers.get("quarterdeck-duplicate") == "true",
        retry_after="retry-after" in response.headers,
    )
