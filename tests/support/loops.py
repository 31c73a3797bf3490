"""The event loop of the tests."""

import asyncio


class CheckedLoop(asyncio.SelectorEventLoop):
    """A loop in debug mode, but for its most expensive part.

    It refuses calls from other threads and tells where a coroutine that nobody awaited was made. It does not keep the
    whole stack for each future, task and callback: that took 40 % of the processor time of the tests, and made races
    that only slow code loses or wins.
    """

    def get_debug(self) -> bool:
        """What futures, tasks and callbacks ask for when they are made; the loop itself asks for `set_debug`."""
        return False
