"""Checker: everything that can be said against a submit before anything is stored."""

from __future__ import annotations

import asyncio
import uuid

import msgspec

from quarterdeck.domain.errors import ArgsError, InvalidSubmit, Unavailable
from quarterdeck.domain.handler import Handler
from quarterdeck.domain.job import DEFAULT_TENANT, IdSource, NewJob
from quarterdeck.domain.submission import KindDefaults, Submit, resolve
from quarterdeck.engine.calls import CALL_TIMEOUT
from quarterdeck.engine.kinds import KindDirectory
from quarterdeck.store import pool


class Checker:
    """Finds the kind, fills in its defaults, checks every rule, and the arguments where their handler is known."""

    def __init__(self, directory: KindDirectory, ids: IdSource) -> None:
        self._directory = directory
        self._ids = ids

    async def check(
        self,
        body: Submit,
        *,
        tenant: str = DEFAULT_TENANT,
        parent: uuid.UUID | None = None,
        traceparent: str | None = None,
    ) -> NewJob:
        """The job as it would be inserted. Raises SubmitError, Unavailable."""
        handler, defaults = self._directory.known(body.kind) or await self._find(body.kind)
        job = resolve(body, defaults, self._ids.next(), tenant=tenant)
        if handler is not None:
            try:
                handler.bind(job.args)
            except ArgsError as error:
                raise InvalidSubmit([error.error]) from None
        if parent is None and traceparent is None:
            return job
        return msgspec.structs.replace(job, parent_id=parent, traceparent=traceparent)

    async def _find(self, kind: str) -> tuple[Handler | None, KindDefaults]:
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                return await self._directory.find(kind)
        except Exception as error:
            if pool.is_passing(error):
                raise Unavailable("the database cannot be reached") from error
            raise
