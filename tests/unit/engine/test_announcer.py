import asyncio
import contextlib
import time
import uuid

import pytest

from quarterdeck.engine import announcer as module
from quarterdeck.engine.announcer import Announcer
from quarterdeck.engine.hints import MOST_MESSAGES, Message, to_text
from tests.support.memory_bus import MemoryHub
from tests.support.waiting import eventually


def ids(count):
    return [uuid.uuid4() for _ in range(count)]


class Process:
    """An announcer, and what its process was told."""

    def __init__(self, bus):
        self.bus = bus
        self.looks = 0
        self.jobs = []
        self.work = []
        self.cancels = []
        self.topics = []
        self.feeds = 0
        self.announcer = Announcer(
            bus,
            on_jobs=self._on_jobs,
            on_work=self.work.extend,
            on_cancel=self.cancels.append,
            on_topic=lambda tenant, name: self.topics.append((tenant, name)),
            on_feed=self._on_feed,
        )

    def _on_jobs(self, ids):
        if ids is None:
            self.looks += 1
        else:
            self.jobs.extend(ids)

    def _on_feed(self):
        self.feeds += 1

    def knows(self, count=1):
        return len(self.announcer._peers) == count


@contextlib.asynccontextmanager
async def running(*processes):
    tasks = [asyncio.create_task(loop()) for each in processes for _, loop in each.announcer.loops()]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def hub():
    return MemoryHub()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Newcomers are answered at once, and no more than a moment after they have come."""
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.0)
    monkeypatch.setattr(module, "NEWCOMER", 0.05)


@contextlib.asynccontextmanager
async def acquainted(hub, *, watching=True):
    """Two processes that know each other; the second one watches jobs. Nothing of that is left to be seen."""
    one, two = Process(hub.bus()), Process(hub.bus())
    if watching:
        two.announcer.watch(True)
    async with running(one, two):
        await eventually(lambda: one.knows() and two.knows())
        await eventually(lambda: not one.announcer._new_until and not two.announcer._new_until)
        await settled(hub)
        one.announcer._bucket._left = float(module.BURST)
        hub.sent.clear()
        one.looks = two.looks = one.feeds = two.feeds = 0
        yield one, two


async def settled(hub):
    """Waits until nothing is sent any more, at three looks: one may come late, and before what is as late as it."""
    seen = [-1]
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        seen.append(len(hub.sent))
        await asyncio.sleep(0.03)


async def test_hints_of_every_kind_reach_the_other_process_and_not_the_own(hub):
    async with acquainted(hub) as (one, two):
        changed, cancelled = ids(3), uuid.uuid4()
        one.announcer.jobs(changed)
        one.announcer.work(["a", "b"])
        one.announcer.cancel(cancelled)
        one.announcer.topic("default", "näws")
        one.announcer.feed()
        await eventually(lambda: two.feeds)
        assert (set(two.jobs), set(two.work), two.cancels, two.topics) == (
            set(changed),
            {"a", "b"},
            [cancelled],
            [("default", "näws")],
        )
        assert (one.jobs, one.work, one.cancels, one.topics, one.feeds) == ([], [], [], [], 0)
        assert len(hub.sent) == 1


async def test_hints_that_come_together_are_one_message(hub):
    async with acquainted(hub) as (one, two):
        changed = ids(100)
        for job_id in changed:
            one.announcer.jobs([job_id, job_id])
        await eventually(lambda: set(two.jobs) == set(changed))
        assert len(hub.sent) == 1
        assert len(two.jobs) == len(changed)


async def test_a_burst_of_jobs_becomes_a_look_at_all(hub):
    async with acquainted(hub) as (one, two):
        one.announcer.jobs(ids(600))
        await eventually(lambda: len(two.jobs) == 600)
        assert 1 < len(hub.sent) <= MOST_MESSAGES
        hub.sent.clear()
        one.announcer.jobs(ids(10_000))
        await eventually(lambda: two.looks)
        assert len(hub.sent) == 1
        assert len(two.jobs) == 600


async def test_what_finds_no_room_in_one_go_goes_with_the_next(hub):
    async with acquainted(hub) as (one, two):
        names = {f"{'q' * 100}{number}" for number in range(600)}
        one.announcer.work(names)
        one.announcer.jobs(ids(10))
        await eventually(lambda: set(two.work) == names)
        assert two.looks == 1
        assert len(hub.sent) > MOST_MESSAGES


async def test_no_more_than_so_many_messages_are_sent(hub, monkeypatch):
    monkeypatch.setattr(module, "MERGE", 0.0)
    async with acquainted(hub) as (one, two):
        began, told = time.monotonic(), []
        while time.monotonic() < began + 1.5:
            told.append(uuid.uuid4())
            one.announcer.jobs(told[-1:])
            await asyncio.sleep(0.001)
        await eventually(lambda: set(two.jobs) == set(told))
        most = module.BURST + module.RATE * (time.monotonic() - began) + 1
        assert module.BURST < len(hub.sent) <= most


async def test_the_first_hint_goes_at_once(hub):
    async with acquainted(hub) as (one, two):
        one.announcer.work(["a"])
        for _ in range(5):
            await asyncio.sleep(0)
        assert two.work == ["a"]


async def test_alone_a_process_says_hello_and_nothing_else(hub):
    one = Process(hub.bus())
    async with running(one):
        one.announcer.jobs(ids(1))
        one.announcer.work(["a"])
        await eventually(lambda: not one.announcer._new_until)
        one.announcer.watch(True)
        one.announcer.jobs(ids(1))
        one.announcer.work(["a"])
        one.announcer.cancel(uuid.uuid4())
        one.announcer.topic("default", "a")
        one.announcer.feed()
        await settled(hub)
        (hello,) = hub.messages
        assert hello.new
        assert hello == Message(hello.process, hello=hello.hello, new=True)


async def test_changes_of_jobs_are_told_only_to_who_watches_jobs(hub):
    async with acquainted(hub, watching=False) as (one, two):
        one.announcer.jobs(ids(1))
        await settled(hub)
        assert hub.sent == []
        two.announcer.watch(True)
        # What was not told is made up for.
        await eventually(lambda: two.looks)
        one.announcer.jobs(changed := ids(1))
        await eventually(lambda: two.jobs == changed)


async def test_a_kind_of_hints_that_nobody_wants_is_not_sent(hub):
    async with acquainted(hub) as (one, two):
        two.announcer.watch(False, "topics")
        two.announcer._hello_by(0.0)
        await eventually(lambda: "topics" not in one.announcer._wanted)
        hub.sent.clear()
        one.announcer.topic("default", "a")
        await settled(hub)
        assert hub.sent == []
        two.announcer.watch(True, "topics")
        await eventually(lambda: "topics" in one.announcer._wanted)


async def test_watching_now_and_then_is_not_said_each_time(hub):
    async with acquainted(hub) as (_, two):
        for _ in range(100):
            two.announcer.watch(False)
            two.announcer.watch(True)
        await settled(hub)
        assert hub.sent == []


async def test_hints_from_before_the_hellos_wait_for_them(hub):
    one, two = Process(hub.bus()), Process(hub.bus())
    two.announcer.watch(True)
    async with running(two):
        await eventually(lambda: hub.sent)
        one.announcer.jobs(changed := ids(2))
        async with running(one):
            await eventually(lambda: set(two.jobs) == set(changed))


async def test_a_newcomer_is_answered_once_by_each_and_the_answers_are_not_answered(hub):
    processes = [Process(hub.bus()) for _ in range(4)]
    async with running(*processes):
        await eventually(lambda: all(each.knows(3) for each in processes))
        await settled(hub)
        hub.sent.clear()
        newcomer = Process(hub.bus())
        async with running(newcomer):
            await eventually(lambda: newcomer.knows(4))
            await settled(hub)
        assert len(hub.sent) == 5


async def test_a_silent_process_is_forgotten(hub, monkeypatch):
    monkeypatch.setattr(module, "FORGET_AFTER", 1.0)
    monkeypatch.setattr(module, "HELLO_EVERY", 0.1)
    one, two = Process(hub.bus()), Process(hub.bus())
    async with running(one):
        async with running(two):
            await eventually(one.knows)
            await asyncio.sleep(1.5)
            assert one.knows()  # its hellos keep it
        await eventually(lambda: one.knows(0))
        await eventually(lambda: not one.announcer._taken)


async def test_a_new_link_means_a_look_at_all(hub):
    async with acquainted(hub) as (one, two):
        two.bus.cut()
        await eventually(lambda: two.looks == 1 and two.feeds == 1)
        assert two.work == []
        one.announcer.jobs(changed := ids(1))
        await eventually(lambda: two.jobs == changed)


async def test_what_was_to_be_told_while_the_link_was_away_is_told_later(hub):
    async with acquainted(hub) as (one, two):
        one.bus.refuses = ConnectionError("gone")
        one.bus.cut()
        changed = ids(2)
        one.announcer.jobs(changed)
        one.announcer.topic("default", "a")
        await eventually(lambda: one.bus.tries > 4)
        assert two.jobs == []
        one.bus.refuses = None
        await eventually(lambda: set(two.jobs) == set(changed) and two.topics == [("default", "a")])


@pytest.mark.parametrize("error", [ConnectionError("gone"), RuntimeError("odd"), ValueError(), KeyError("x")])
async def test_a_bus_that_fails_hurts_nobody(hub, error, caplog):
    one = Process(hub.bus())
    one.bus.refuses = error
    async with running(one):
        await eventually(lambda: one.bus.tries > 3)
        one.announcer.jobs(ids(100_000))
        one.announcer.work(f"{number}" for number in range(10_000))
        one.announcer.topic("default", "a")
        assert one.looks == 0
    assert len([record for record in caplog.records if "bus.lost" in record.getMessage()]) == 1
    assert "Traceback" not in caplog.text


async def test_a_bus_that_never_answers_hurts_nobody(hub, monkeypatch):
    monkeypatch.setattr(module, "SEND_TIMEOUT", 0.05)
    async with acquainted(hub) as (one, two):
        one.bus.hangs = True
        for _ in range(100):
            one.announcer.jobs(ids(100))
        await eventually(lambda: one.bus.tries > 3)
        one.bus.hangs = False
        await eventually(lambda: two.looks)


async def test_what_is_kept_for_a_bus_that_never_comes_is_bounded(hub):
    one = Process(hub.bus())
    for number in range(300):
        one.announcer.jobs(ids(100))
        one.announcer.work([f"{number}-{each}" for each in range(100)])
        one.announcer.cancel(uuid.uuid4())
        one.announcer.topic("default", f"{number}")
    hints = one.announcer._hints
    assert (hints._jobs, hints._all_jobs) == (set(), True)
    assert len(hints._work) < 4096 + 100


async def test_without_a_bus_nothing_happens():
    one = Process(None)
    assert list(one.announcer.loops()) == []
    one.announcer.watch(True)
    one.announcer.jobs(ids(3))
    one.announcer.work(["a"])
    one.announcer.cancel(uuid.uuid4())
    one.announcer.topic("default", "a")
    one.announcer.feed()
    assert not one.announcer._hints.kinds()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "null",
        "[]",
        "{}",
        '"x"',
        "1e999",
        "\x00",
        "{" * 100_000,
        "[" * 100_000,
        '{"process":1}',
        '{"process":"x","jobs":["x"]}',
        '{"process":"x","hello":[1]}',
        '{"process":"x","topics":[["a"]]}',
        '{"process":"x","work":"a"}',
        '{"process":"\udc00"}',
    ],
    ids=lambda text: ascii(text[:30]),
)
async def test_garbage_is_passed_over(hub, text):
    async with acquainted(hub) as (one, two):
        hub.say(text)
        one.announcer.work(["a"])
        await eventually(lambda: two.work == ["a"])
        assert (two.looks, two.jobs, two.feeds) == (0, [], 0)
        assert one.knows()
        assert two.knows()


async def test_what_a_newer_version_says_beside_is_passed_over(hub):
    async with acquainted(hub) as (one, _):
        hub.say('{"process":"x","hello":["jobs","moons"],"moons":[1],"work":["a"]}')
        assert one.knows(2)
        assert one.work == ["a"]


async def test_only_so_many_processes_are_remembered(hub, monkeypatch):
    monkeypatch.setattr(module, "MOST_PEERS", 3)
    async with acquainted(hub) as (one, _):
        for number in range(10):
            hub.say(to_text(Message(f"p{number}", hello=["jobs"])))
        assert one.knows(3)


async def test_a_callback_that_fails_hurts_nobody(hub, caplog):
    async with acquainted(hub) as (one, two):
        two.announcer._on_work = lambda _: 1 / 0
        one.announcer.work(["a"])
        one.announcer.feed()
        await eventually(lambda: two.feeds)
    assert "bus.hint_failed" in caplog.text


async def test_a_link_that_brings_no_own_message_back_is_said_to_be_deaf_once(hub, monkeypatch, caplog):
    monkeypatch.setattr(module, "HELLO_EVERY", 0.05)
    monkeypatch.setattr(module, "ECHO_WITHIN", 0.1)
    one = Process(hub.bus())
    hub.say = lambda _: None
    async with running(one):
        await eventually(lambda: len(hub.sent) > 6)
    assert caplog.text.count("bus.deaf") == 1


async def test_a_link_that_hears_itself_is_not(hub, monkeypatch, caplog):
    monkeypatch.setattr(module, "HELLO_EVERY", 0.05)
    monkeypatch.setattr(module, "ECHO_WITHIN", 0.1)
    async with running(Process(hub.bus())):
        await eventually(lambda: len(hub.sent) > 6)
    assert "bus.deaf" not in caplog.text


async def test_names_that_cannot_be_sent_are_passed_over(hub):
    async with acquainted(hub) as (one, two):
        one.announcer.topic("default", "\ud800")
        one.announcer.topic("default", "x" * 8000)
        one.announcer.topic("default", "fine \x00 \"'")
        await eventually(lambda: two.topics == [("default", "fine \x00 \"'")])


async def test_nobody_interested_costs_next_to_nothing(hub):
    one = Process(hub.bus())
    async with running(one):
        await eventually(lambda: not one.announcer._new_until)
        changed = ids(100)
        one.announcer.jobs(changed)
        assert not one.announcer._hints.kinds()
        assert not one.announcer._somebody._event.is_set()
