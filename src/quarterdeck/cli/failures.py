"""What a failure of the service or of its database means to whoever started it."""

from quarterdeck.cli import exits
from quarterdeck.cli.exits import CommandError
from quarterdeck.config import ConfigError
from quarterdeck.store import pool
from quarterdeck.store.embedded import EmbeddedError
from quarterdeck.store.migrator import MigrationError

_CHECK = "check --database-url or QUARTERDECK_DATABASE_URL"
# Who we say we are, or which database we ask for, is not accepted; or we may not do what the schema needs.
_REFUSED = ("28", "3D", "42501")


def told(error: BaseException) -> CommandError:
    """The error in words, with the exit code that the contract has for it."""
    if isinstance(error, CommandError):
        return error
    said = exits.one_line(error)
    words, code = f"the service failed: {type(error).__name__}: {said}", exits.LOOP_DIED
    if isinstance(error, ConfigError | EmbeddedError):
        words, code = str(error), exits.WRONG_USAGE
    elif isinstance(error, MigrationError):
        words, code = str(error), exits.WRONG_SCHEMA
    elif str(getattr(error, "sqlstate", None) or "").startswith(_REFUSED):
        words, code = f"the database refuses: {said}; {_CHECK}", exits.WRONG_USAGE
    elif isinstance(error, ValueError):
        words, code = f"the database URL cannot be used: {said}", exits.WRONG_USAGE
    elif pool.is_passing(error):
        words, code = f"the database cannot be reached: {said}; {_CHECK}", exits.NO_SERVICE
    return CommandError(words, code)
