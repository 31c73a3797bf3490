"""What `qd` and `quarterdeck` start: outside of the package, whose import takes so long that a Ctrl-C may hit it."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # that of `typing`, whose import takes longer than all the rest here
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line; a Ctrl-C ends it from the first moment on, in the same way and without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started us wants none
        signal.signal(signal.SIGINT, _end)
    from quarterdeck.cli.main import main as run_command  # noqa: PLC0415 - slow

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    line = b"qd: interrupted\n"
    os.write(2, b"\n" + line if os.isatty(2) else line)  # the terminal has written ^C
    os._exit(130)
