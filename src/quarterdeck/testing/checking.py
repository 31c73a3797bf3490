"""Submits checked as the service checks them, without a service."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from quarterdeck.domain.errors import ArgsError, InvalidSubmit, UnknownKind
from quarterdeck.domain.handler import Handler
from quarterdeck.domain.job import DEFAULT_TENANT, IdSource, NewJob
from quarterdeck.domain.submission import KindDefaults, parse, resolve
from quarterdeck.handlers import built_in

_IDS = IdSource(lambda: int(time.time() * 1000))


@cache
def _built_in() -> list[Handler]:
    return built_in()


class Kinds:
    """The kinds of a deck, the built-in ones, and those that only other processes have."""

    def __init__(self, handlers: Iterable[Handler], elsewhere: Collection[str] = ()) -> None:
        self._handlers = {handler.kind: handler for handler in (*_built_in(), *handlers)}
        self._elsewhere = frozenset(elsewhere)

    def __getitem__(self, kind: str) -> Handler:
        return self._handlers[kind]

    def check(
        self, kind: str, args: Mapping[str, Any] | None, options: Mapping[str, Any], *, tenant: str = DEFAULT_TENANT
    ) -> NewJob:
        """The job as it would be inserted, its arguments as they come back from JSON. Raises SubmitError."""
        body = parse({"kind": kind, "args": dict(args or {}), **options})
        handler = self._handlers.get(kind)
        if handler is None and kind not in self._elsewhere:
            error = UnknownKind(kind)
            error.add_note(f"If another process has its handler, say so in the test: elsewhere=[{kind!r}]")
            raise error
        job = resolve(body, KindDefaults() if handler is None else handler.defaults, _IDS.next(), tenant=tenant)
        job = msgspec.structs.replace(job, args=msgspec.json.decode(msgspec.json.encode(job.args)))
        if handler is not None:
            try:
                handler.bind(job.args)
            except ArgsError as misfit:
                raise InvalidSubmit([misfit.error]) from None
        return job
