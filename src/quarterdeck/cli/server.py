"""Hypercorn's configuration: where it is found, that it says what Hypercorn knows, and how requests are logged."""

import difflib
import logging
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypercorn.config import Config
from hypercorn.logging import Logger

import quarterdeck
from quarterdeck.config import ConfigError
from quarterdeck.telemetry.log import get_logger
from quarterdeck.telemetry.requests import record_of

if TYPE_CHECKING:
    from hypercorn.typing import ResponseSummary, WWWScope

LOCAL_FILE = Path("hypercorn.toml")

log = get_logger("quarterdeck.requests")

_NUMBER = (int, float)


class RequestLogger(Logger):
    """Logs requests as events; Hypercorn's own formatting copies the whole environment for each."""

    async def access(self, request: "WWWScope", response: "ResponseSummary | None", request_time: float) -> None:
        """Logs one request. The query is left out: it may hold a ticket."""
        if self.access_logger is None:
            return
        client = request.get("client")
        record = record_of(request)
        log.info(
            "request.answered",
            request_id=record.id if record else None,
            method=request.get("method", "WEBSOCKET"),
            path=request["path"],
            route=record.route if record else None,
            status=response["status"] if response is not None else None,
            seconds=round(request_time, 6),
            bytes=record.bytes if record else None,
            client=client[0] if client else None,
            principal=record.principal if record else None,
        )


def load_config(named: Path | None = None) -> Config:
    """The configuration from `named`, else `hypercorn.toml` in the working directory, else the one that comes along.

    Raises ConfigError for a file that cannot be read, and for what Hypercorn would ignore without a word: a name that
    it does not know, or a value of another type than it expects.
    """
    path = named or (LOCAL_FILE if LOCAL_FILE.exists() else _packaged())
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(f"Hypercorn's file {path} cannot be read: {reason}") from None
    _check(table, path)
    config = Config.from_mapping(table)
    config.logger_class = RequestLogger
    # Its lines take our way; what goes to a file of its own stays there.
    if config.accesslog == "-":
        config.accesslog = logging.getLogger("hypercorn.access")
    if config.errorlog == "-":
        config.errorlog = logging.getLogger("hypercorn.error")
        config.errorlog.setLevel(logging.WARNING)  # below that it only repeats what `service.ready` says
    if config.workers > 1:
        log.warning("workers.ignored", workers=config.workers, then="qd serve --workers says how many")
    # serve() warns of both by itself.
    config.workers, config.debug = 1, False
    return config


def _packaged() -> Path:
    package = Path(quarterdeck.__file__).parent
    installed = package / "hypercorn.toml"
    return installed if installed.exists() else package.parents[1] / "hypercorn.toml"


def _check(table: dict[str, Any], path: Path) -> None:
    names = {name for name in (*dir(Config), *Config.__annotations__) if not name.startswith("_")}
    known = {name for name in names if not callable(getattr(Config, name, None))} - {"log", "ssl_enabled"}
    for name, value in table.items():
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"unknown setting {name!r} in {path}{hint}")
        default = getattr(Config, name, None)
        expected: Any = (*_NUMBER, type(None)) if type(default) in _NUMBER else type(default)
        fits = isinstance(value, expected) and isinstance(value, bool) == isinstance(default, bool)
        if default is not None and not fits and not isinstance(default, property):
            raise ConfigError(f"{name} = {value!r} in {path}: expected such as {default!r}")
