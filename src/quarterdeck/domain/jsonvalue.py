"""What may be stored as JSON: the limits at the edge, and the encoding of results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from quarterdeck.domain.errors import FieldError, ResultError

MAX_DEPTH = 32
MAX_RESULT_BYTES = 1024 * 1024
MAX_FINDINGS = 10
_LEAST, _GREATEST = -(2**63), 2**64 - 1

Path = tuple[str | int, ...]


def pointer(path: Path) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def check(value: object, at: Path = ()) -> list[FieldError]:
    """What in a decoded document cannot be stored: at most one finding a place, at most ten in all."""
    if _is_clean(value):
        return []
    found = []
    for path, detail in _findings(value, at):
        found.append(FieldError(pointer(path), detail))
        if len(found) == MAX_FINDINGS:
            break
    return found


_SCALARS = {str, int, float, bool, type(None)}
_JSON = {*_SCALARS, dict, list}


def _is_clean(root: Any) -> bool:
    """Whether there is nothing to find, at the speed of C: level by level, each looked at as a whole.

    False also means: look closer.
    """
    level: list[Any] = [root]
    for depth in range(1, MAX_DEPTH + 2):
        types = set(map(type, level))
        if not types <= _JSON or (depth > MAX_DEPTH and not types <= _SCALARS):
            return False
        objects = _of(dict, level, types)
        texts = chain(_of(str, level, types), chain.from_iterable(objects))
        if not (_clean_integers(_of(int, level, types)) and _clean_doubles(_of(float, level, types))):
            return False
        if not _clean_texts(texts):
            return False
        arrays = _of(list, level, types)
        level = list(chain(chain.from_iterable(arrays), chain.from_iterable(map(dict.values, objects))))
        if not level:
            return True
    return False


def _of(wanted: type, level: list[Any], types: set[type]) -> list[Any]:
    """The values of one of the types of a level. Where all are, or none, it takes no time."""
    if wanted not in types:
        return []
    return level if len(types) == 1 else [value for value in level if type(value) is wanted]


def _clean_integers(numbers: list[int]) -> bool:
    return not numbers or (min(numbers) >= _LEAST and max(numbers) <= _GREATEST)


def _clean_doubles(numbers: list[float]) -> bool:
    # The sum is finite only if all are, and tells it sooner; it may be infinite if they are large.
    return math.isfinite(sum(numbers)) or all(map(math.isfinite, numbers))


def _clean_texts(texts: Iterable[Any]) -> bool:
    try:
        text = "".join(texts)
        text.encode()
    except (TypeError, UnicodeEncodeError):  # a key that is no text; a lone surrogate
        return False
    return "\0" not in text


def _findings(root: object, at: Path) -> Iterator[tuple[Path, str]]:
    waiting: list[tuple[object, Path, int]] = [(root, at, 1)]
    while waiting:
        value, path, depth = waiting.pop()
        if not isinstance(value, dict | list | tuple):
            if flaw := _scalar_flaw(value):
                yield path, flaw
        elif depth > MAX_DEPTH:
            yield path[:MAX_DEPTH], f"nested deeper than {MAX_DEPTH}"
        elif isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str):
                    yield path, f"a key that is not a string but of type {type(key).__name__}"
                elif flaw := _text_flaw(key):
                    yield path, f"in a key: {flaw}"
                else:
                    waiting.append((item, (*path, key), depth + 1))
        else:
            waiting.extend((item, (*path, index), depth + 1) for index, item in enumerate(value))


def _scalar_flaw(value: object) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return _text_flaw(value)
        case int():
            return None if _LEAST <= value <= _GREATEST else "a number beyond 64 bit"
        case float():
            return None if math.isfinite(value) else "not a finite number"
    return f"not a JSON value: {type(value).__name__}"


def _text_flaw(text: str) -> str | None:
    if "\0" in text:
        return "contains a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains a lone surrogate"
    return None


_PLACE = re.compile(r"(key` in `)?\$[^`]*`")
_NAMING = {
    "Object contains unknown field `": "unknown field",
    "Object missing required field `": "required, and not given",
}


def locate(error: msgspec.ValidationError, root: str = "") -> FieldError:
    """Where msgspec found a misfit, as a pointer below `root`, and what it said of it."""
    # The place comes last; a field's own name, quoted before it, may look like one.
    detail, mark, place = str(error).rpartition(" - at `")
    if not mark or not _PLACE.fullmatch(place):
        detail, place = str(error), ""
    place = place.removesuffix("`")
    in_key = place.startswith("key` in `")
    path = place.removeprefix("key` in `").removeprefix("$")
    path = path.replace("[...]", "").replace("[", "/").replace("]", "").replace(".", "/")
    for start, said in _NAMING.items():
        if detail.startswith(start):
            return FieldError(root + path + pointer((detail.removeprefix(start).removesuffix("`"),)), said)
    detail = detail.replace("`", "")
    return FieldError(root + path, f"in a key: {detail}" if in_key else detail[:1].lower() + detail[1:])


def encode_result(value: Any) -> str:
    """The JSON text of what a handler returned; any string survives.

    Raises ResultError where the value is not JSON (NaN, bytes, objects, cycles) or takes more than 1 MiB.
    """
    if value is None:
        return "null"
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate: only its escape can be stored
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        size = len(text)
    except RecursionError:
        raise ResultError("the result is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - user objects may raise anything while they are looked at
        raise ResultError(f"the result is not JSON: {type(error).__name__}: {_said(error)}") from None
    if size > MAX_RESULT_BYTES:
        raise ResultError(f"the result takes {size} bytes of JSON; the limit is {MAX_RESULT_BYTES}")
    return text


def decode_stored(text: bytes) -> Any:
    """The value of stored JSON text. Slower where it holds lone surrogates, which only the standard library reads."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


def _said(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:  # noqa: BLE001 - a __str__ that raises
        return "(no message)"
