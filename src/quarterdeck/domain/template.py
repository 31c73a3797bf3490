"""Keys made from arguments: `"customer:{customer_id}"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.domain.errors import FieldError, InvalidSubmit

MAX_KEY_CHARACTERS = 512
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_canonical = msgspec.json.Encoder(order="deterministic").encode


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same text for the same value."""
    return _canonical(value).decode()


def render(template: str, args: Mapping[str, Any], pointer: str) -> str:
    """The key that `template` makes of `args`: `{name}` stands for a top-level argument, `{{` for a brace.

    Strings stand as they are, other values as canonical JSON. Raises InvalidSubmit at `pointer` for an argument that is
    not there, a lone brace, an empty key, a template or a key over 512 characters.
    """

    def refuse(detail: str) -> InvalidSubmit:
        return InvalidSubmit([FieldError(pointer, detail)])

    def bounded(text: str, least: int = 0) -> str:
        if not least <= len(text) <= MAX_KEY_CHARACTERS:
            raise refuse(f"the key must have 1 to {MAX_KEY_CHARACTERS} characters")
        return text

    def part(match: re.Match[str]) -> str:
        text, name = match[0], match[1]
        if text in ("{{", "}}"):
            return text[0]
        if name is None:
            raise refuse("a lone brace: write {{ or }} for one")
        if name not in args:
            raise refuse(f"there is no argument {name!r:.80}")
        value = args[name]
        return bounded(value if isinstance(value, str) else canonical(value))

    # The template and each part are bounded, too: they could be many, and each of them long.
    return bounded(_PART.sub(part, bounded(template)), least=1)
