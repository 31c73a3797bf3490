"""Unique jobs: what makes two jobs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from quarterdeck.domain.errors import FieldError, InvalidSubmit
from quarterdeck.domain.template import canonical, render

DEFAULT_BY = ("kind", "args")
MAX_BY = 32


class UniqueOption(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The option `unique` where it is not just `true`: a `key` (a template over args), or what the key is made `by`.

    `period` is a duration: the key stays taken that long after the submit, even if the job ends before.
    """

    key: str | None = None
    by: list[str] | None = None
    period: float | int | str | None = None


def unique_key(option: UniqueOption, kind: str, queue: str, args: Mapping[str, Any]) -> str:
    """The key of a job, held within its tenant and queue.

    Of `by`, `kind`, `queue` and `args` mean those, every other name a top-level argument. A key made by anything is a
    digest, so that its length does not depend on the arguments'. Raises InvalidSubmit with a pointer.
    """
    if option.key is not None:
        if option.by is not None:
            raise InvalidSubmit([FieldError("/unique/by", "given together with key")])
        return render(option.key, args, "/unique/key")
    by = DEFAULT_BY if option.by is None else option.by
    if not 1 <= len(by) <= MAX_BY:
        raise InvalidSubmit([FieldError("/unique/by", f"must name 1 to {MAX_BY} parts")])
    whole = {"kind": kind, "queue": queue, "args": args}
    parts: dict[str, Any] = {}
    for index, name in enumerate(by):
        if name in whole:
            parts[name] = whole[name]
        elif name in args:
            parts[f"args.{name}"] = args[name]
        else:
            raise InvalidSubmit([FieldError(f"/unique/by/{index}", f"there is no argument {name!r:.80}")])
    return "sha256:" + hashlib.sha256(canonical(parts).encode()).hexdigest()
