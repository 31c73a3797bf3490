"""Why a job has come to where it is, as far as it says so."""

from collections.abc import Mapping
from typing import Any

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.cli.output import printable


def reasons(facts: Mapping[str, Any], error: object) -> list[str]:
    """The reason and the detail in `facts`, and the error of the last attempt; what says the same is said once."""
    said = [text for text in (facts.get("state_reason"), facts.get("state_detail")) if text]
    if isinstance(error, Mapping) and "type" in error:
        message = error.get("message")
        said = [*(text for text in said if text != message), f"{error['type']}: {message}"]
    return said


def not_completed(job_id: str, how: str, facts: Mapping[str, Any], error: object) -> CommandError:
    """What to raise for a job that has ended in another way, `how`."""
    why = ", ".join(reasons(facts, error))
    because = f": {printable(why)}" if why else ""
    return CommandError(f"job {job_id} was {how}{because}", exits.JOB_FAILED)
