"""Descriptions of interfaces, as JSON."""

from typing import Any


def references(value: Any) -> list[str]:
    """Every `$ref` in a document."""
    match value:
        case dict():
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [found for each in value.values() for found in references(each)]
        case list():
            return [found for each in value for found in references(each)]
    return []
