"""Exit codes, and the error that ends a command with one of them and one line of explanation."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

DONE = 0
"""What was asked for happened; a service that was stopped by INT or TERM included."""
JOB_FAILED = 1
"""The job that was waited for ended discarded or cancelled, or the demo's results were wrong."""
WRONG_USAGE = 2
"""Wrong usage or setting, a port in use, a data directory that is not writable."""
NO_SERVICE = 3
"""The service, or the database of `qd migrate`, could not be reached or refused."""
WRONG_SCHEMA = 4
"""The database is ahead of this program, behind it, or drifted."""
LOOP_DIED = 5
"""An inner loop of the service died; of any other command: a fault of this program."""
INTERRUPTED = 130
"""A client command was interrupted."""


class CommandError(Exception):
    """Ends a command: `message` says in one line what is wrong and what to do next."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Meaning:
    """What it means that a command is interrupted now; empty where that needs no words."""

    def __init__(self, words: str) -> None:
        self.words = words


@contextmanager
def interrupted(words: str = "") -> Iterator[Meaning]:
    """Ends the command with one line at a Ctrl-C. `words` say what it means, and may be changed on the way."""
    meaning = Meaning(words)
    try:
        yield meaning
    except KeyboardInterrupt:
        hear_no_more()
        raise CommandError("; ".join(filter(None, ("interrupted", meaning.words))), INTERRUPTED) from None


def hear_no_more() -> None:
    """Ignores every further Ctrl-C: the command ends already, and what it still says must not be lost."""
    with suppress(ValueError):  # outside of the main thread, where no Ctrl-C is heard anyway
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def after_submit(job_id: str, error: CommandError) -> CommandError:
    """What went wrong once a job was submitted: its id must not be lost."""
    return CommandError(f"job {job_id} was submitted, but: {error.message}", error.exit_code)


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
