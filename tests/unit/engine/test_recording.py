"""What an attempt tells: which progress is stored, when its handler waits, and where it ends."""

import asyncio
import heapq
import itertools
import json
import uuid

import pytest

from quarterdeck.domain.errors import ResultError
from quarterdeck.domain.recorded import Entry, output_entry
from quarterdeck.engine import recording as module
from quarterdeck.engine.recording import LONGEST_INTERVAL, Recording, interval
from tests.support.waiting import eventually


class DrivenClock:
    """An event loop's clock and timers, as far as they are used; time passes where the test says so."""

    def __init__(self):
        self.now = 100.0
        self._order = itertools.count()
        self._timers = []

    def time(self):
        return self.now

    def call_later(self, delay, callback):
        timer = DrivenTimer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return timer

    @property
    def pending(self):
        return [timer for *_, timer in self._timers if not timer.cancelled]

    def pass_by(self, seconds):
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.callback()
        self.now = until


class DrivenTimer:
    def __init__(self, callback):
        self.callback = callback
        self.cancelled = False

    def cancel(self):
        self.cancelled = True


class Stage:
    """A recording whose entries are written when the test says so."""

    def __init__(self):
        self.clock = DrivenClock()
        self.puts = 0
        self.recording = Recording(uuid.uuid4(), 1, 2, put=self._put, clock=self.clock)
        self.written = []

    def _put(self, _):
        self.puts += 1

    def take(self):
        return self.recording.take(1000, 10**9)

    def write(self, entries=None):
        entries = self.take() if entries is None else entries
        self.written += entries
        self.recording.written(entries)
        return [fraction(entry) for entry in entries if entry.event == "progress"]

    @property
    def fractions(self):
        return [fraction(entry) for entry in self.written if entry.event == "progress"]


def fraction(entry):
    return json.loads(entry.data)["fraction"]


@pytest.fixture
def stage():
    return Stage()


async def test_the_first_progress_is_taken_at_once_and_of_those_that_follow_the_latest(stage):
    for number in range(5):
        await stage.recording.progress(number / 10, None)
    assert stage.write() == [0.0]
    stage.clock.pass_by(0.099)
    assert stage.write() == []
    stage.clock.pass_by(0.001)
    assert stage.write() == [0.4]
    stage.clock.pass_by(1.0)
    assert stage.write() == []
    await stage.recording.progress(0.9, None)
    assert stage.write() == [0.9]


async def test_at_most_ten_a_second_are_stored(stage):
    for number in range(1000):
        await stage.recording.progress(number / 1000, None)
        stage.write()
        stage.clock.pass_by(0.002)
    assert 19 <= len(stage.fractions) <= 21
    assert stage.fractions == sorted(stage.fractions)


async def test_a_progress_waits_while_another_is_not_written(stage):
    await stage.recording.progress(0.1, None)
    under_way = stage.take()
    for number in (2, 3, 4):
        await stage.recording.progress(number / 10, None)
        stage.clock.pass_by(1.0)
    assert not stage.recording.waits
    stage.write(under_way)
    assert stage.write() == [0.4]


async def test_the_interval_doubles_with_every_thousand(stage, monkeypatch):
    assert [interval(n) for n in (0, 999, 1000, 1999, 2000, 3000)] == [0.1, 0.1, 0.2, 0.2, 0.4, 0.8]
    assert interval(10**9) == LONGEST_INTERVAL
    monkeypatch.setattr(module, "PROGRESS_STEP", 10)
    times = []
    for _ in range(500):
        await stage.recording.progress(0.5, None)
        if stage.write():
            times.append(stage.clock.now)
        stage.clock.pass_by(0.01)
    steps = [round(after - before, 1) for before, after in itertools.pairwise(times)]
    assert steps[:9] == [0.1] * 9
    assert steps[10:19] == [0.2] * 9


async def test_what_is_pending_is_taken_when_the_attempt_ends_after_all_else(stage):
    await stage.recording.progress(0.1, None)
    await stage.recording.progress(0.9, "last")
    await stage.recording.log("info", "a line")
    assert stage.recording.close()
    assert [entry.event for entry in stage.take()] == ["progress", "log", "progress"]
    assert not stage.clock.pending, "a timer keeps what is over"
    stage.clock.pass_by(10)
    assert not stage.recording.waits


async def test_an_attempt_that_told_nothing_has_nothing_unwritten(stage):
    assert not stage.recording.close()
    assert stage.puts == 0


async def test_a_handler_waits_where_many_are_unwritten(stage, monkeypatch):
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 3)
    told = []

    async def tell():
        for number in range(10):
            await stage.recording.log("info", str(number))
            told.append(number)

    teller = asyncio.create_task(tell())
    await eventually(lambda: stage.recording.unwritten == 3)
    for _ in range(10):
        await asyncio.sleep(0)
    assert told == [0, 1, 2]
    first = stage.take()
    for _ in range(10):
        await asyncio.sleep(0)
    assert told == [0, 1, 2], "what is under way is not written"
    stage.write(first)
    await eventually(lambda: told == [0, 1, 2, 3, 4, 5])
    while not teller.done():
        stage.write()
        await asyncio.sleep(0)
    stage.write()
    assert [json.loads(entry.data)["message"] for entry in stage.written] == [str(n) for n in range(10)]


async def test_it_waits_where_much_is_unwritten_and_a_progress_does_not(stage):
    await stage.recording.output(output_entry("x" * 1_000_000))
    await stage.recording.output(output_entry("x" * 1_000_000))
    waits = asyncio.create_task(stage.recording.output(output_entry(1)))
    await stage.recording.progress(0.5, None)
    assert not waits.done()
    assert stage.recording.unwritten == 3
    waits.cancel()
    await asyncio.wait([waits])
    assert waits.cancelled()
    assert stage.recording.unwritten == 3


@pytest.mark.parametrize("how", ["lost", "over"])
async def test_a_call_that_waits_returns_when_the_attempt_is_lost_and_fails_when_it_is_over(stage, monkeypatch, how):
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 1)
    await stage.recording.log("info", "a")
    waits = asyncio.create_task(stage.recording.log("info", "b"))
    await asyncio.sleep(0)
    if how == "lost":
        stage.recording.lose()
        await waits
        await stage.recording.output(output_entry(1))
        await stage.recording.progress(0.5, None)
    else:
        stage.recording.close()
        stage.write()
        with pytest.raises(RuntimeError, match="has ended"):
            await waits
        for call in (stage.recording.log("info", "c"), stage.recording.progress(1, None)):
            with pytest.raises(RuntimeError, match="has ended"):
                await call
    assert stage.recording.unwritten == 0
    assert not stage.recording.waits


async def test_lines_past_the_limit_are_dropped_after_one_that_says_so(stage, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINES", 3)
    for number in range(10):
        await stage.recording.log("info", str(number))
        stage.write()
    lines = [json.loads(entry.data) for entry in stage.written]
    assert [line["message"] for line in lines[:-1]] == ["0", "1", "2"]
    assert (lines[-1]["level"], lines[-1]["message"]) == ("warning", module.LAST_LINE)


async def test_outputs_past_the_limit_are_refused(stage, monkeypatch):
    monkeypatch.setattr(module, "MAX_OUTPUTS", 3)
    for number in range(3):
        await stage.recording.output(output_entry(number))
    with pytest.raises(ResultError, match="3 values"):
        await stage.recording.output(output_entry(3))
    assert len(stage.take()) == 3


async def test_outputs_may_take_so_many_bytes_together(stage, monkeypatch):
    monkeypatch.setattr(module, "MAX_OUTPUT_BYTES", 10)
    await stage.recording.output(output_entry("üü"))  # six bytes, with its quotes
    with pytest.raises(ResultError, match="10 bytes"):
        await stage.recording.output(output_entry("abc"))
    await stage.recording.output(output_entry("ab"))
    assert [entry.data for entry in stage.take()] == ['"üü"', '"ab"']


async def test_a_group_takes_at_least_one_and_stops_where_it_is_full(stage):
    for text in ("aa", "bb", "cc"):
        await stage.recording.output(Entry("output", text))
    assert [entry.data for entry in stage.recording.take(10, 0)] == ["aa"]
    assert [entry.data for entry in stage.recording.take(1, 100)] == ["bb"]
    assert [entry.data for entry in stage.recording.take(10, 1)] == ["cc"]
