"""The pages about the live channel say what the code says: frames, events, close codes, figures."""

import re
import uuid
from typing import get_args

import msgspec
import pytest

from quarterdeck import bootstrap
from quarterdeck.config import Settings
from quarterdeck.domain import events, topic
from quarterdeck.domain.state import State
from quarterdeck.engine import announcer, feed, feed_following, feed_ring, streams, tickets, topics, waiters
from quarterdeck.store import postgres_bus
from quarterdeck.web import asyncapi, frames, live, socket, socket_session, sse
from tests.docs.documents import DOCS, REFERENCE, code, sections

LIVE = REFERENCE / "live.md"


def documented(heading):
    """The frames of a table with their fields; a frame's name stands in its first row only."""
    found = {}
    for frame, field, _ in sections(LIVE)[heading].table("Frame", "Field"):
        if frame:
            fields = found.setdefault(code(frame), [])
        if field:
            fields.append(code(field))
    return found


@pytest.mark.parametrize(
    ("heading", "types"),
    [("What a client sends", frames.AnyClientFrame), ("What a client gets", frames.AnyServerFrame)],
)
def test_every_frame_is_documented_with_its_fields(heading, types):
    expected = {each.__struct_config__.tag: list(each.__struct_fields__) for each in get_args(types)}
    assert documented(heading) == expected


def test_every_event_is_documented():
    rows = sections(LIVE)["Events"].table("Event", "When")
    assert [code(row[0]) for row in rows] == list(get_args(events.EventName))


# What the timeline has beside the number, the name and the time, and what the handler wrote.
ENTRIES = {
    "submitted": {"state": "available"},
    "started": {"attempt": 1},
    "updated": {"state": "available", "changed": ["priority"], "priority": 1},
    "snoozed": {"attempt": 1},
    "interrupted": {"attempt": 1},
    "rescued": {"attempt": 1},
    "retried": {"generation": 2},
}
WRITTEN = {"progress": {"fraction": 0.5}, "log": {"level": "info", "message": "so"}, "output": 7}
# What stands beside the names in the column, and what is not always there.
BESIDE = {
    "job.submitted": {"available", "scheduled"},
    "job.progress": {"fraction", "message"},
    "job.updated": {"crashes", "queue", "run_at"},
}


@pytest.mark.parametrize("name", get_args(events.EventName))
def test_what_an_event_carries_is_documented(name):
    short = name.removeprefix("job.")
    written = []
    entries = [[1, "started", 0, {"attempt": 1}]] if short in ("retryable", "cancelled", "discarded") else []
    if short in WRITTEN:
        written = [events.Written(1, short, 1, 0, msgspec.Raw(msgspec.json.encode(WRITTEN[short])))]
    else:
        entries.append([len(entries) + 1, short, 0, *([ENTRIES[short]] if short in ENTRIES else [])])
    seq = len(entries) + len(written)
    past = events.Past(
        id=uuid.UUID(int=1),
        tenant="default",
        queue="default",
        kind="k",
        tags=[],
        state=State.AVAILABLE,
        state_reason=None,
        state_detail=None,
        generation=1,
        seq=seq,
        timeline="\n".join(msgspec.json.encode(entry).decode() for entry in entries),
        result=msgspec.Raw(b"7"),
        errors=[msgspec.Raw(b'{"attempt": 1}')] if short in ("retryable", "cancelled", "discarded") else [],
        written=written,
    )
    event = events.events_after(past, seq - 1)[-1]
    assert event.event == name
    data = msgspec.json.decode(msgspec.json.encode(event.data))
    (row,) = [row for row in sections(LIVE)["Events"].table("Event") if code(row[0]) == name]
    assert set(re.findall(r"`(\w+)`", row[2])) - BESIDE.get(name, set()) == set(data)


def test_every_close_code_is_documented():
    rows = sections(LIVE)["Close codes"].table("Code")
    shown = [int(number) for row in rows for number in re.findall(r"\d+", row[0])]
    assert sorted(shown) == sorted({*asyncapi._CODES, 1009})
    assert live.UNAUTHENTICATED in shown


KIB, MIB = 1024, 1024**2
FIGURES = [
    ("reference/live.md", f"at `{live.PATH}`"),
    ("reference/live.md", f"subprotocol `{frames.SUBPROTOCOL}`"),
    ("reference/live.md", f"a first frame `auth`, within {live.AUTH_TIMEOUT:g} seconds"),
    ("reference/live.md", f"| Time to say who asks | {live.AUTH_TIMEOUT:g} seconds |"),
    ("reference/live.md", f"In place of `job`: up to {frames.MAX_JOBS} of them"),
    ("reference/live.md", f"| Jobs in one `submit` | {frames.MAX_JOBS} |"),
    ("reference/live.md", f"A value of more than {events.MAX_VALUE // KIB} KiB is"),
    ("reference/live.md", f"| A frame from a client | {socket.MAX_FRAME // KIB} KiB |"),
    ("reference/live.md", f"| A frame over {socket.MAX_FRAME // KIB} KiB |"),
    (
        "reference/live.md",
        "| Frames from a client | {:g} a second, {:g} at once |".format(*socket_session.FRAMES),
    ),
    (
        "reference/live.md",
        "| Bytes from a client | {:g} MiB a second, {:g} MiB at once |".format(
            *(size / MIB for size in socket_session.BYTES)
        ),
    ),
    ("reference/live.md", f"| Requests of a client under way | {socket_session.MAX_REQUESTS};"),
    ("reference/live.md", f"| Subscriptions of a socket | {socket_session.MAX_SUBSCRIPTIONS} |"),
    ("reference/live.md", f"after the heartbeat, {Settings().live_heartbeat:g} seconds unless"),
    ("reference/live.md", f"Whoever is more than {streams.MERGED_OVER} events behind"),
    ("reference/live.md", f"takes nothing for {socket.SEND_TIMEOUT:g} seconds is disconnected"),
    ("reference/live.md", f"where it reads again within {socket.CATCH_UP_TIMEOUT:g} seconds"),
    ("reference/live.md", f"After {sse.HEARTBEAT:g} seconds of silence a comment"),
    ("reference/live.md", f"the latest {topic.KEPT} of them"),
    ("reference/live.md", f"held up the log for {feed.HELD:g} seconds"),
    ("reference/live.md", f"once, within {tickets.LIFE:g} seconds"),
    ("how-to/watch-jobs-live.md", f"retry: {sse.RETRY}\n"),
    ("explanation/live-updates.md", f"a group of up to {streams.MAX_READ} jobs"),
    ("explanation/live-updates.md", f"the latest {streams.MAX_KEPT} events of a job"),
    ("explanation/live-updates.md", f"at most {announcer.RATE:g} messages a second"),
    ("explanation/live-updates.md", f"say hello every {announcer.HELLO_EVERY:g} seconds"),
    ("explanation/live-updates.md", f"one ring of the latest {feed_ring.MAX_EVENTS:,}".replace(",", " ")),
    ("explanation/live-updates.md", f"stays open for {feed.HELD:g} seconds"),
    ("explanation/live-updates.md", f"takes nothing for {socket.SEND_TIMEOUT:g} seconds"),
    ("explanation/live-updates.md", f"a ping every {postgres_bus.PING_EVERY:g} seconds"),
    ("explanation/polling-and-waking.md", f"at most {announcer.RATE:g} messages a second"),
    (
        "how-to/run-on-your-postgresql.md",
        f"at most {bootstrap.API_CONNECTIONS + bootstrap.WORK_CONNECTIONS + 2} connections:",
    ),
]


@pytest.mark.parametrize(("page", "words"), FIGURES, ids=lambda value: value.replace("/", " "))
def test_a_figure_is_the_one_in_the_code(page, words):
    assert words in (DOCS / page).read_text()


def test_figures_that_the_pages_say_in_words():
    assert waiters.POLL == topics.POLL == feed.POLL == 0.5, "half a second"
    assert streams.MERGED_OVER == feed_following.MERGED_OVER, "jobs and feeds alike"
    assert topic.KEPT_SECONDS == 3600, "an hour"
    assert feed.WANTED == 60, "a minute"
    assert sse.RETRY == 1000, "a second"
    assert socket_session.RECONNECT_AFTER == (0.5, 3.0), "within half a second to three seconds"
