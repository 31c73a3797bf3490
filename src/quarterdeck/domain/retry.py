"""How long a failed job waits before its next attempt."""

from typing import Literal

import msgspec

Backoff = Literal["exponential", "linear", "fixed"]

DEFAULT_BASE = 2.0
DEFAULT_CAP = 3600.0
_MAX_EXPONENT = 62  # beyond it the cap has long been reached, and the power would only cost time


class RetryPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """When to try again.

    `backoff` is a growth or a list of delays, the last of which repeats. `base` and `cap` are seconds. With `jitter`
    the delay is drawn evenly between 0 and the computed one ("full jitter": Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015), so that jobs that failed together do not come back together. `jitter` is on for
    exponential backoff unless it is switched off, and off elsewhere unless it is switched on.
    """

    backoff: Backoff | tuple[float, ...] = "exponential"
    base: float = DEFAULT_BASE
    cap: float = DEFAULT_CAP
    jitter: bool | None = None

    def delay(self, attempt: int, draw: float) -> float:
        """Seconds to wait after the failure of `attempt` (1 for the first); `draw` is a random number in [0, 1)."""
        match self.backoff:
            case "exponential":
                delay = self.base * 2.0 ** min(attempt - 1, _MAX_EXPONENT)
            case "linear":
                delay = self.base * attempt
            case "fixed":
                delay = self.base
            case delays:
                delay = delays[min(attempt, len(delays)) - 1]
        delay = min(delay, self.cap)
        jitter = self.backoff == "exponential" if self.jitter is None else self.jitter
        return delay * draw if jitter else delay


DEFAULT_RETRY = RetryPolicy()
