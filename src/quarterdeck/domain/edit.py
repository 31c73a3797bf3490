"""What may be changed about a job that waits, and the rules that the change must keep."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from quarterdeck.domain.errors import InvalidSubmit
from quarterdeck.domain.submission import MAX_ARGS_BYTES, MAX_METADATA_BYTES, Check


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """New values for fields of a waiting job; what is not given stays. Nothing is merged: a value replaces a value."""

    args: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    priority: int | msgspec.UnsetType = msgspec.UNSET
    run_at: dt.datetime | msgspec.UnsetType = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    queue: str | msgspec.UnsetType = msgspec.UNSET

    def check(self) -> None:
        """Raises InvalidSubmit with every rule that is broken: the rules of a submit."""
        check = Check()
        if self.args is not msgspec.UNSET:
            check.document("args", self.args, MAX_ARGS_BYTES)
        if self.priority is not msgspec.UNSET:
            check.among("priority", self.priority, 0, 9)
        if self.run_at is not msgspec.UNSET:
            check.moment("run_at", self.run_at)
        if self.tags is not msgspec.UNSET:
            check.tags(self.tags)
        if self.metadata is not msgspec.UNSET:
            check.document("metadata", self.metadata, MAX_METADATA_BYTES)
        if self.queue is not msgspec.UNSET:
            check.name("queue", self.queue)
        if check.errors:
            raise InvalidSubmit(check.errors)
