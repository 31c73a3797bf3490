"""Requests: what a client of the live channel asks for, and may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from quarterdeck.domain.errors import FieldError, InvalidSubmit, UnknownKind
from quarterdeck.domain.feeds import FeedFilter
from quarterdeck.domain.jsonvalue import locate
from quarterdeck.domain.listing import InvalidListing
from quarterdeck.domain.submission import Submit
from quarterdeck.domain.ticket import Ticket
from quarterdeck.domain.topic import is_topic_name
from quarterdeck.engine.service import Engine
from quarterdeck.engine.stored import Submitted
from quarterdeck.web.auth import Principal
from quarterdeck.web.frames import (
    CancelFrame,
    OkFrame,
    PublishFrame,
    SubmitFrame,
    SubmittedFrame,
    SubscribeFrame,
    text_of,
)
from quarterdeck.web.idempotency import MAX_CHARACTERS, can_be_key, keyed
from quarterdeck.web.paging import number_of
from quarterdeck.web.problems import BAD_QUERY, FORBIDDEN, INVALID, UNKNOWN_KIND, Refusal
from quarterdeck.web.schemas import job_body
from quarterdeck.web.subscriptions import (
    FeedSubscription,
    JobSubscription,
    Subscription,
    TopicSubscription,
    WatchSubscription,
)

_FEEDS = ("queue", "kind", "tag", "workflow", "batch", "all")


class Requests:
    """One client's. Every method raises Refusal, and what the engine raises."""

    def __init__(
        self, engine: Engine, principal: Principal, limit: Ticket | None, *, ready: Callable[[str], None]
    ) -> None:
        """`ready` hears of subscriptions that may have something, by their names."""
        self._engine = engine
        self._tenant = principal.tenant
        self._limit = limit
        self._ready = ready

    async def subscription(self, frame: SubscribeFrame) -> Subscription:
        """What the frame asks to follow, not begun yet."""
        targets = frame.targets()
        if len(targets) != 1:
            names = ", ".join(frame.TARGETS)
            raise Refusal(INVALID, f"Follow exactly one of {names}", errors=[FieldError("", f"give one of {names}")])
        (target,) = targets
        _require_fitting(frame, target)
        self._require_allowed(target, getattr(frame, target))
        ready = partial(self._ready, frame.sub)
        if frame.job is not None:
            return JobSubscription(
                self._engine, frame.sub, frame.job, ready, tenant=self._tenant, after=frame.after, wait=frame.wait
            )
        if frame.topic is not None:
            if not is_topic_name(frame.topic):
                raise Refusal(INVALID, "A rule is broken", errors=[FieldError("/topic", "no topic can have that name")])
            following = await self._engine.live.topics.follow(
                self._tenant, frame.topic, after=_message_id(frame.cursor), ready=ready
            )
            return TopicSubscription(frame.sub, frame.topic, following)
        wanted = FeedFilter(**{target: getattr(frame, target)})
        if isinstance(frame.cursor, int):
            raise Refusal(INVALID, "The frame does not fit", errors=[FieldError("/cursor", "expected str, got int")])
        try:
            feed = await self._engine.live.feed.follow(wanted, tenant=self._tenant, cursor=frame.cursor, ready=ready)
        except InvalidListing as error:
            if error.parameter == "cursor":
                raise Refusal(BAD_QUERY, f"The cursor {error.detail}") from None
            found = FieldError(f"/{error.parameter}", error.detail)
            raise Refusal(INVALID, "A rule is broken", errors=[found]) from None
        return FeedSubscription(frame.sub, feed)

    async def submit(self, frame: SubmitFrame) -> tuple[str, Subscription | None]:
        """Submits what the frame holds: the answer, and what it asks to follow."""
        self._require_allowed("submit", None)
        if (frame.job is None) == (frame.jobs is None):
            raise Refusal(INVALID, "Give either job or jobs", errors=[FieldError("", "give either job or jobs")])
        if frame.sub is not None and not frame.watch:
            raise Refusal(INVALID, "sub goes with watch", errors=[FieldError("/sub", "goes with watch")])
        if frame.job is not None:
            stored = [await self._submit_one(*self._parsed(frame.job, "/job"), "/job")]
        else:
            stored = await self._submit_all(frame.jobs or [])
        bodies = [job_body(each.job) for each in stored]
        answer = SubmittedFrame(
            frame.ref,
            job=bodies[0] if frame.job is not None else None,
            jobs=bodies if frame.job is None else None,
            duplicates=[each.job.id for each in stored if each.duplicate],
        )
        watched = None
        places = [(each.job.id, each.job.seq) for each in stored if not each.job.terminal]
        if frame.watch and places:  # nothing more is heard of one that has ended
            name = frame.sub or frame.ref
            watched = WatchSubscription(self._engine, name, places, partial(self._ready, name))
        return text_of(answer), watched

    async def _submit_all(self, documents: list[dict[str, Any]]) -> list[Submitted]:
        parsed = [self._parsed(document, f"/jobs/{number}") for number, document in enumerate(documents)]
        for number, (body, _) in enumerate(parsed):
            await self._checked(body, f"/jobs/{number}")
        return list(
            await asyncio.gather(
                *(self._submit_one(body, key, f"/jobs/{number}") for number, (body, key) in enumerate(parsed))
            )
        )

    def _parsed(self, document: dict[str, Any], at: str) -> tuple[Submit, str | None]:
        document = dict(document)
        key = document.pop("idempotency_key", None)
        if key is not None and not (isinstance(key, str) and can_be_key(key)):
            detail = f"must have 1 to {MAX_CHARACTERS} printable ASCII characters"
            raise Refusal(INVALID, "A rule is broken", errors=[FieldError(f"{at}/idempotency_key", detail)])
        try:
            return msgspec.convert(document, Submit), key
        except msgspec.ValidationError as error:
            raise Refusal(INVALID, "The frame does not fit", errors=[locate(error, at)]) from None

    async def _checked(self, body: Submit, at: str) -> None:
        try:
            await self._engine.jobs.check(body, tenant=self._tenant)
        except (InvalidSubmit, UnknownKind) as error:
            raise _placed(error, at) from None

    async def _submit_one(self, body: Submit, key: str | None, at: str) -> Submitted:
        # The same key finds the same answer over REST: a client whose socket broke may try again there.
        idempotency = None if key is None else keyed(self._tenant, "POST", "/v1/jobs", key, body)
        try:
            return await self._engine.jobs.submit(body, tenant=self._tenant, idempotency=idempotency)
        except (InvalidSubmit, UnknownKind) as error:
            raise _placed(error, at) from None

    async def cancel(self, frame: CancelFrame) -> str:
        """Cancels a job, or asks it to stop."""
        self._require_allowed("cancel", None)
        await self._engine.jobs.cancel(frame.job, tenant=self._tenant)
        return text_of(OkFrame(frame.ref))

    async def publish(self, frame: PublishFrame) -> str:
        """Publishes a message."""
        self._require_allowed("topic", frame.topic)
        number = await self._engine.live.topics.publish(self._tenant, frame.topic, msgspec.json.encode(frame.data))
        return text_of(OkFrame(frame.ref, number))

    def _require_allowed(self, target: str, value: Any) -> None:
        """A ticket may be limited to one job, tag or topic: to following that, and publishing to that topic."""
        if self._limit is not None and not self._limit.allows(target, value):
            raise Refusal(FORBIDDEN, "The ticket of this socket does not allow that")


def _require_fitting(frame: SubscribeFrame, target: str) -> None:
    for option, given, fits in (
        ("after", frame.after is not None, target == "job"),
        ("wait", frame.wait, target == "job"),
        ("cursor", frame.cursor is not None, target != "job"),
    ):
        if given and not fits:
            raise Refusal(
                INVALID, f"{option} does not go with {target}", errors=[FieldError(f"/{option}", f"not with {target}")]
            )


def _message_id(cursor: str | int | None) -> int | None:
    if cursor is None:
        return None
    number = number_of(str(cursor))
    if number is None:
        raise Refusal(BAD_QUERY, "The cursor of a topic is the id of a message")
    return number


def _placed(error: InvalidSubmit | UnknownKind, at: str) -> Exception:
    """The error, pointing into the frame."""
    if isinstance(error, UnknownKind):
        return Refusal(UNKNOWN_KIND, str(error), errors=[FieldError(f"{at}/kind", "unknown")])
    return InvalidSubmit([FieldError(f"{at}{each.pointer}", each.detail) for each in error.errors])
