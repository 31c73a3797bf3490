"""Lists: which jobs one asks for, and cursors, which say where a page ended."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import uuid
from typing import Any

import msgspec

from quarterdeck.domain import jsonvalue
from quarterdeck.domain.errors import QuarterdeckError
from quarterdeck.domain.state import State
from quarterdeck.domain.submission import MAX_TAG_CHARACTERS, MAX_TAGS, NAME, YEARS

MAX_LIMIT = 200
DEFAULT_LIMIT = 50

_POSITION_BYTES = 16
_SUM_BYTES = 8
# 24 bytes are 32 characters without padding: no two texts stand for the same bytes.
_CURSOR = re.compile(r"[A-Za-z0-9_-]{32}")
_encode = msgspec.json.Encoder(order="deterministic").encode


class InvalidListing(QuarterdeckError):
    """A list was asked for in a way that makes no sense: the `parameter`, and what is wrong with it."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"Parameter {parameter!r}: {detail}")
        self.parameter = parameter
        self.detail = detail


class JobFilter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which jobs to list: those that fit every field that is given.

    A job has one of `states` and all of `tags`; `created_after` is the first moment of the time in which it was
    created, `created_before` the first one after it; its args contain `args`, as PostgreSQL's `@>` has it.
    """

    states: tuple[State, ...] = ()
    kind: str | None = None
    queue: str | None = None
    tags: tuple[str, ...] = ()
    workflow_id: uuid.UUID | None = None
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None
    args: dict[str, Any] | None = None

    def checked(self) -> JobFilter:
        """The same filter in its one form: in order, in UTC. Raises InvalidListing where it breaks a rule."""
        for parameter, name in (("kind", self.kind), ("queue", self.queue)):
            if name is not None and not NAME.fullmatch(name):
                raise InvalidListing(parameter, "is no name")
        if len(self.tags) > MAX_TAGS:
            raise InvalidListing("tag", f"given more than {MAX_TAGS} times")
        for tag in self.tags:
            if not 1 <= len(tag) <= MAX_TAG_CHARACTERS or jsonvalue.check(tag):
                raise InvalidListing("tag", "is no tag")
        if self.args is not None:
            if self.kind is None and self.queue is None:
                raise InvalidListing("args", "may be given only together with kind or queue")
            if flaws := jsonvalue.check(self.args):
                raise InvalidListing("args", f"{flaws[0].pointer or '/'}: {flaws[0].detail}")
        return msgspec.structs.replace(
            self,
            states=tuple(sorted(set(self.states))),
            tags=tuple(sorted(set(self.tags))),
            created_after=_moment("created_after", self.created_after),
            created_before=_moment("created_before", self.created_before),
        )


class Bookmarks:
    """Cursors of one list: they hold a position and fit no other list, of another filter or tenant.

    The sum in a cursor is no secret: it finds mistakes, not attacks. Whoever makes one up sees nothing but another page
    of what is theirs.
    """

    def __init__(self, *list_of: object) -> None:
        """`list_of` says which list it is: tenant, filter, and so on."""
        self._scope = _encode(list_of)

    def cursor(self, position: int) -> str:
        """The cursor of a position, 0 to 2^128 - 1."""
        place = position.to_bytes(_POSITION_BYTES)
        return base64.urlsafe_b64encode(place + self._sum(place)).decode()

    def position(self, cursor: str) -> int:
        """The position in a cursor. Raises InvalidListing where it is not one of this list."""
        if _CURSOR.fullmatch(cursor):
            content = base64.urlsafe_b64decode(cursor)
            place = content[:_POSITION_BYTES]
            if content[_POSITION_BYTES:] == self._sum(place):
                return int.from_bytes(place)
        raise InvalidListing("cursor", "is none of this list: take `next` as it came, with the same other parameters")

    def _sum(self, place: bytes) -> bytes:
        return hashlib.blake2b(place + self._scope, digest_size=_SUM_BYTES, person=b"list 1").digest()


def _moment(parameter: str, moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidListing(parameter, "must say its time zone, for example a final Z")
    if moment.year not in YEARS:
        raise InvalidListing(parameter, f"must be from the years {YEARS.start} to {YEARS.stop - 1}")
    return moment.astimezone(dt.UTC)
