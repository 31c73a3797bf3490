"""Who takes the place of a child that goes, and when."""

import asyncio

import pytest

from quarterdeck.cli import places
from quarterdeck.cli.places import Place
from tests.support.waiting import eventually


class FakeChild:
    """A child that does what the test says."""

    def __init__(self):
        self.served = places.STEADY
        self.told = []
        self._begun = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()

    @property
    def serves(self):
        return self._begun.done() and self._begun.result() and not self._gone.is_set()

    def begin(self, well=True):
        self._begun.set_result(well)

    def go(self):
        self._gone.set()

    def stop(self):
        self.told.append("stop")
        self.go()

    async def begins(self, _timeout):
        return await self._begun

    async def leaves(self):
        await self._gone.wait()

    async def ends(self):
        await self._gone.wait()


class Nursery:
    """Starts children, and keeps what was heard of them."""

    def __init__(self):
        self.children = []
        self.failures = []
        self.full = False

    async def start(self):
        if self.full:
            raise OSError("no room")
        self.children.append(FakeChild())
        return self.children[-1]

    async def next(self, number):
        """The child of that number, once it is there."""
        await eventually(lambda: len(self.children) >= number)
        return self.children[number - 1]


@pytest.fixture
def nursery():
    return Nursery()


@pytest.fixture
def full(nursery):
    nursery.full = True


@pytest.fixture
async def place(nursery):
    place = Place(nursery.start, nursery.failures.append)
    keeping = asyncio.create_task(place.keep())
    yield place
    keeping.cancel()
    await asyncio.wait({keeping})


@pytest.fixture
def pauses(monkeypatch):
    """Pauses that are over at once, by the seconds they would have taken."""
    taken = []

    async def pause(backoff):
        taken.append(backoff.next())
        await asyncio.sleep(0)

    monkeypatch.setattr(places.Backoff, "pause", pause)
    return taken


async def test_a_child_that_has_served_for_a_while_is_replaced_at_once(place, nursery, pauses):
    first = await nursery.next(1)
    first.begin()
    await place.filled.wait()
    first.go()
    (await nursery.next(2)).begin()
    await eventually(lambda: place.child is nursery.children[1])
    assert pauses == []
    assert nursery.failures == []


async def test_children_that_go_soon_are_replaced_after_growing_pauses(place, nursery, pauses):
    for number in range(1, 8):
        child = await nursery.next(number)
        child.served = 0.1
        child.begin()
        await eventually(lambda child=child: place.child is child)
        child.go()
    await nursery.next(8)
    assert len(pauses) == 7
    assert pauses[0] <= places.FIRST_PAUSE
    assert max(pauses) <= places.LONGEST_PAUSE
    assert pauses[-1] > places.FIRST_PAUSE


async def test_a_child_that_never_serves_is_told_of_and_tried_again_after_a_pause(place, nursery, pauses):
    failed = await nursery.next(1)
    failed.begin(well=False)
    (await nursery.next(2)).begin()
    await place.filled.wait()
    assert (nursery.failures, len(pauses)) == ([failed], 1)


async def test_a_system_that_has_no_room_for_a_child_is_tried_again(full, place, nursery, pauses):
    await eventually(lambda: pauses)
    nursery.full = False
    (await nursery.next(1)).begin()
    await place.filled.wait()
    assert set(nursery.failures) == {None}


async def test_a_renewed_child_goes_when_the_new_one_serves_and_not_before(place, nursery, pauses):
    old = await nursery.next(1)
    old.begin()
    await place.filled.wait()
    renewing = asyncio.create_task(place.renew())
    new = await nursery.next(2)
    assert old.told == []
    new.begin()
    assert await renewing
    assert (old.told, place.child, pauses) == (["stop"], new, [])


async def test_the_old_child_goes_on_where_the_new_one_cannot_begin(place, nursery, pauses):
    old = await nursery.next(1)
    old.begin()
    await place.filled.wait()
    renewing = asyncio.create_task(place.renew())
    (await nursery.next(2)).begin(well=False)
    assert not await renewing
    assert (old.told, place.child, pauses) == ([], old, [])


async def test_a_child_that_was_being_started_before_the_renewal_does_not_count_as_renewed(place, nursery):
    early = await nursery.next(1)
    renewing = asyncio.create_task(place.renew())
    await eventually(lambda: place._renewal is not None)
    early.begin()
    (await nursery.next(2)).begin()
    assert await renewing
    assert (early.told, place.child) == (["stop"], nursery.children[1])
