"""Job kinds that come with the service."""

from quarterdeck.domain.handler import Handler
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.handlers import echo, sleep


def built_in() -> list[Handler]:
    """The built-in handlers. A sleep has no time limit of its own: its length is its argument."""
    return [
        Handler(echo.KIND, echo.echo, KindDefaults()),
        Handler(sleep.KIND, sleep.sleep, KindDefaults(timeout=None)),
    ]
