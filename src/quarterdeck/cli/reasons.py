"""Why a job has come to where it is, as far as it says so."""

from collections.abc import Mapping
from typing import Any


def reasons(facts: Mapping[str, Any], error: object) -> list[str]:
    """The reason and the detail in `facts`, and the error of the last attempt; what says the same is said once."""
    said = [text for text in (facts.get("state_reason"), facts.get("state_detail")) if text]
    if isinstance(error, Mapping) and "type" in error:
        message = error.get("message")
        said = [*(text for text in said if text != message), f"{error['type']}: {message}"]
    return said
