"""What the parent of several processes waits for, and for how many of them there is room."""

import tomllib
from pathlib import Path

from quarterdeck import bootstrap
from quarterdeck.cli import child, places, stopping, supervisor
from quarterdeck.config import Settings
from quarterdeck.store import embedded

HYPERCORN = tomllib.loads((Path(__file__).parents[3] / "hypercorn.toml").read_text())
RESERVED = 3
"""Connections that PostgreSQL keeps for administrators."""


def test_children_end_before_their_parent_kills_them_and_that_is_over_before_its_own_deadline():
    assert child.MARGIN < supervisor.KILL_MARGIN < supervisor.LAST_MARGIN


def test_all_is_over_within_what_the_contract_promises():
    assert Settings().shutdown_grace + supervisor.LAST_MARGIN <= 25
    assert Settings().shutdown_grace + stopping.STOP_MARGIN <= 25


def test_the_embedded_server_has_connections_for_all_children_also_while_one_is_replaced():
    each = bootstrap.API_CONNECTIONS + bootstrap.WORK_CONNECTIONS + 1
    most = int(embedded.SETTINGS["max_connections"]) - RESERVED
    assert each * (supervisor.EMBEDDED_WORKERS + 1) <= most


def test_a_child_has_the_time_to_start_that_hypercorn_gives_it():
    assert HYPERCORN["startup_timeout"] < places.START_TIMEOUT
