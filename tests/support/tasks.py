"""Tasks that a test leaves behind."""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Any

from tests.support.waiting import eventually


async def no_task_left(before: AbstractSet[asyncio.Task[Any]], within: float = 10.0) -> None:
    """Wait until no task runs but the present one and those in `before`. Raises `AssertionError` with those that do."""

    def none_left() -> bool:
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        assert not left, f"tasks still running: {sorted(map(repr, left))}"
        return True

    await eventually(none_left, within)
