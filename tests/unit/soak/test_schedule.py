"""What the soak's faults are drawn from a seed."""

import typing

import pytest

from tests.soak.history import LOSING, RESTARTS, FaultName
from tests.soak.schedule import REPLICAS, plan

LEASE = 15.0
SEEDS = range(20)


def test_a_seed_says_it_all():
    assert plan(7, 300, LEASE) == plan(7, 300, LEASE)
    assert plan(7, 300, LEASE) != plan(8, 300, LEASE)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minute_holds_every_sort_of_fault(seed):
    planned = plan(seed, 60, LEASE)
    assert {fault.name for fault in planned} == set(typing.get_args(FaultName))
    assert {fault.replica for fault in planned} == {*range(REPLICAS), None}
    assert all(2 <= fault.at <= 50 for fault in planned), "room for the work to come back"


def losing(planned):
    return [fault for fault in planned if fault.name in LOSING and not fault.application]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_process_is_lost_once_a_minute_and_for_longer_than_a_lease(seed):
    lost = losing(plan(seed, 60, LEASE))
    assert sorted(fault.replica for fault in lost) == list(range(REPLICAS))
    assert all(fault.seconds > LEASE + 1 for fault in lost)


@pytest.mark.parametrize("seed", SEEDS)
def test_in_the_first_minute_no_restart_disturbs_a_rescue(seed):
    planned = plan(seed, 60, LEASE)
    lost = max(fault.at for fault in losing(planned))
    assert min(fault.at for fault in planned if fault.name in RESTARTS) > lost + LEASE + 5


def test_a_long_soak_restarts_the_database_during_rescues_too():
    mixed = [fault for fault in plan(1, 600, LEASE) if fault.name in RESTARTS and (fault.at - 2) % 57 < LEASE + 5]
    assert mixed


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_soak_leaves_out_the_long_silences(seed):
    names = [fault.name for fault in plan(seed, 20, LEASE)]
    assert {"kill", "term", "lose_replies", "reset", "end_backends"} <= set(names)
    assert "stop" not in names
    assert set(names) & RESTARTS


def test_too_short_a_soak_has_no_faults():
    assert plan(1, 10, LEASE) == []
