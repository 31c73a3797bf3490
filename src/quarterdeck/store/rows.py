"""Database rows as domain objects."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec

from quarterdeck.domain.job import Job
from quarterdeck.domain.state import Reason, State


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON text from the database, kept as it is; SQL null and JSON null are both None."""
    return None if text is None or text == "null" else msgspec.Raw(text.encode())


def job_of(row: asyncpg.Record | Mapping[str, Any]) -> Job:
    """A row of `job` or `job_history`, with or without `finalized_at` and `result`."""
    values: dict[str, Any] = dict(row)
    values.pop("fence", None)
    values.pop("retry", None)
    values.pop("traceparent", None)
    values["state"] = State(values["state"])
    if values["state_reason"] is not None:
        values["state_reason"] = Reason(values["state_reason"])
    values["progress"] = raw(values["progress"])
    values["result"] = raw(values.get("result"))
    values["errors"] = [msgspec.Raw(error.encode()) for error in values["errors"]]
    return Job(**values)
