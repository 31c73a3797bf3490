"""Job kinds that come with the service."""

from quarterdeck.domain.handler import Handler
from quarterdeck.domain.submission import KindDefaults
from quarterdeck.handlers import echo, http, http_args, sleep
from quarterdeck.handlers.outbound import Outbound

__all__ = ["Outbound", "built_in"]


def built_in(outbound: Outbound | None = None) -> list[Handler]:
    """The built-in handlers. A sleep has no time limit of its own: its length is its argument.

    Calls go through `outbound`, which whoever made it closes; without one they reach public addresses only.
    """
    calls = http.HttpCalls(outbound or Outbound())
    return [
        Handler(echo.KIND, echo.echo, KindDefaults()),
        Handler(http.KIND, calls.call, KindDefaults(timeout=http.TIMEOUT), check=http_args.check),
        Handler(sleep.KIND, sleep.sleep, KindDefaults(timeout=None)),
    ]
