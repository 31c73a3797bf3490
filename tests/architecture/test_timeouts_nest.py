"""What waits for something else waits longer: statement < soft stop < Hypercorn < container."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from quarterdeck.bootstrap import COMMAND_TIMEOUT
from quarterdeck.config import Settings
from quarterdeck.engine import heartbeat
from quarterdeck.engine.service import CLOSE_TIMEOUT, FLUSH_TIMEOUT, INTERRUPT_TIMEOUT, LEAVE_TIMEOUT
from quarterdeck.store import breaker, embedded, memcached_server
from quarterdeck.web import socket

REPOSITORY = Path(__file__).parents[2]
HYPERCORN = tomllib.loads((REPOSITORY / "hypercorn.toml").read_text())
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
UNITS = {"s": 1, "m": 60}

# What Engine.stop waits for, one after the other: submits that came in (within the grace period), running handlers,
# what they ended with, the statement that gives back the rest, and the end of the lease.
ENGINE_STOP = Settings().shutdown_grace + CLOSE_TIMEOUT + INTERRUPT_TIMEOUT + FLUSH_TIMEOUT + 2 * LEAVE_TIMEOUT


def seconds(duration: str) -> float:
    parts = re.findall(r"([\d.]+)([a-z]+)", duration)
    return sum(float(amount) * UNITS[unit] for amount, unit in parts)


def test_a_statement_ends_before_a_soft_stop_does():
    assert Settings().shutdown_grace > COMMAND_TIMEOUT


def test_a_beat_fails_before_the_next_one_is_due():
    assert Settings().lease / heartbeat.BEATS_PER_LEASE > heartbeat.COMMAND_TIMEOUT


def test_the_engine_stops_within_what_the_contract_promises():
    assert ENGINE_STOP <= 25


def test_hypercorn_waits_longer_than_the_engine_and_the_embedded_server_take_to_stop():
    embedded_stop = sum(patience for _, patience in embedded.STOP_SIGNALS)
    assert ENGINE_STOP + embedded_stop < HYPERCORN["shutdown_timeout"]


@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_container_waits_longer_than_hypercorn(service):
    stop = HYPERCORN["graceful_timeout"] + HYPERCORN["shutdown_timeout"]
    assert stop < seconds(COMPOSE["services"][service]["stop_grace_period"])


def test_hypercorn_waits_longer_than_the_embedded_server_takes_to_start():
    assert HYPERCORN["startup_timeout"] > embedded.START_TIMEOUT


def test_a_cache_adds_no_more_than_30_milliseconds_and_is_tried_again_within_5_seconds():
    assert memcached_server.SLOT_TIMEOUT + memcached_server.OPERATION_TIMEOUT <= 0.03
    assert breaker.LONGEST_PAUSE < 5


def test_a_stalled_socket_is_gone_ten_seconds_after_it_has_read_last():
    assert socket.SEND_TIMEOUT + max(socket.CATCH_UP_TIMEOUT, socket.CLOSE_TIMEOUT) < 10


@pytest.mark.parametrize(("duration", "expected"), [("40s", 40), ("1m30s", 90), ("2m", 120)])
def test_a_duration_of_compose_is_read(duration, expected):
    assert seconds(duration) == expected
