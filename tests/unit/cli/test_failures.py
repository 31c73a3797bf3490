"""What failures of the service and its database mean to whoever started it."""

import asyncpg
import pytest

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError, one_line
from quarterdeck.cli.failures import told
from quarterdeck.config import ConfigError
from quarterdeck.store.embedded import EmbeddedError
from quarterdeck.store.migrator import SchemaAhead


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CommandError("as it is", 42), 42, "as it is"),
        (ConfigError("no such setting"), exits.WRONG_USAGE, "no such setting"),
        (EmbeddedError("not writable"), exits.WRONG_USAGE, "not writable"),
        (SchemaAhead("the database is ahead"), exits.WRONG_SCHEMA, "the database is ahead"),
        (asyncpg.InvalidPasswordError("wrong"), exits.WRONG_USAGE, "the database refuses: wrong"),
        (asyncpg.InvalidCatalogNameError("no database"), exits.WRONG_USAGE, "the database refuses: no database"),
        (asyncpg.InsufficientPrivilegeError("not yours"), exits.WRONG_USAGE, "the database refuses: not yours"),
        (asyncpg.ClientConfigurationError("bad DSN"), exits.WRONG_USAGE, "the database URL cannot be used: bad DSN"),
        (ConnectionRefusedError("refused"), exits.NO_SERVICE, "the database cannot be reached: refused"),
        (asyncpg.CannotConnectNowError("starting"), exits.NO_SERVICE, "the database cannot be reached: starting"),
        (TimeoutError(), exits.NO_SERVICE, "the database cannot be reached: TimeoutError"),
        (KeyError("what"), exits.LOOP_DIED, "the service failed: KeyError: 'what'"),
    ],
)
def test_a_failure_has_its_exit_code_and_words(error, code, words):
    command_error = told(error)
    assert command_error.exit_code == code
    assert command_error.message.startswith(words)


@pytest.mark.parametrize(("text", "line"), [("one\n  two\n", "one two"), ("", "ValueError"), ("plain", "plain")])
def test_an_error_is_told_on_one_line(text, line):
    assert one_line(ValueError(text)) == line
