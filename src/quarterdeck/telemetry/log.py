"""Structured logs: events named `noun.verb` with fields, to standard error, never in the way of the event loop.

Until `configure` is called, events go to the standard library's loggers of the same names: mounted in somebody else's
application, the service logs as that application says. `configure` is for a process of our own. From then on events
are written here, one line each, and everything the standard library logs (hypercorn, asyncio, quart, a handler's own
lines) takes the same way. Servers must leave their loggers without handlers of their own; for Hypercorn that is
`errorlog = logging.getLogger("hypercorn.error")`.
"""

import atexit
import logging
import os
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Literal, TextIO, cast, get_args

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from quarterdeck.telemetry.writer import LineWriter

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "console", "json"]

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for lines that are not written yet."""
MAX_TEXT = 16 * 1024
"""Characters of one field that are written; of a longer one, its two ends."""

_Event = MutableMapping[str, Any]

_HIDDEN = "***"
_SECRET_NAMES = frozenset(
    {"password", "secret", "token", "authorization", "cookie", "api_key", "api_keys", "database_url", "dsn"}
)
_URL_PASSWORD = re.compile(rb"(://[^:/@\s\"]{0,128}:)[^@\s\"]{1,512}@")
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
# They write whole URLs and headers, keys included, at levels that are on in production or in a debugging session.
_TOO_OPEN = ("httpx", "httpcore")
# It tells of each attempt to connect while the database is away, which is no fault of the program's, with a traceback.
_TOO_WORDY = ("asyncpg.pool",)

_writer = LineWriter(lambda dropped: get_logger(__name__).warning("log.dropped", total=dropped))
atexit.register(_writer.flush, FLUSH_SECONDS)


class _Sink:
    """What structlog calls last."""

    debug = info = warning = error = critical = msg = staticmethod(_writer.put)


class _BoundLogger(structlog.make_filtering_bound_logger(logging.NOTSET)):  # type: ignore[misc] # a class made at run time
    """The class of all loggers of this package. `configure` puts other methods into it, so it reaches every logger."""


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger called `name`, a module's name by custom."""
    return cast("FilteringBoundLogger", _BoundLogger(_Sink(), processors=_chain, context={"logger": name}))


def configure(level: str, format: str, *, stream: TextIO | None = None) -> None:  # noqa: A002 (the name of the setting)
    """Log everything from `level` on, as lines to read (`console`) or JSON; `auto` is `console` on a terminal.

    `stream` is standard error where it is not given. May be called again.

    Raises:
        ValueError: an unknown level or format.
    """
    if level not in get_args(Level) or format not in get_args(Format):
        raise ValueError(f"no such level or format: {level!r}, {format!r}")
    target = stream or sys.stderr
    terminal = target is not None and target.isatty()
    console = format == "console" or (format == "auto" and terminal)
    _writer.start(stream)
    _chain[:] = [
        *_ENRICH,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _fit_to_show,
        _line(_console(colors=terminal and "NO_COLOR" not in os.environ) if console else _json),
    ]
    filtering = structlog.make_filtering_bound_logger(level)
    for name, method in vars(filtering).items():
        if not name.startswith("__"):
            setattr(_BoundLogger, name, method)
    if not structlog.is_configured():  # a handler's own use of structlog; whoever configures it has his way
        structlog.configure(processors=_chain, wrapper_class=_BoundLogger, logger_factory=lambda *_names: _Sink())
    _route_standard_library(level.upper())


def dropped() -> int:
    """Return how many lines were not written, because too many waited or nobody could take them."""
    return _writer.dropped


def flush(timeout: float = FLUSH_SECONDS) -> bool:
    """Wait at most `timeout` seconds until what was logged is written; return whether it is."""
    return _writer.flush(timeout)


class _Handler(logging.Handler):
    """Sends a record of the standard library through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        event: Any = {"logger": record.name, "event": _message(record)}
        if record.exc_info and record.name in _TOO_WORDY:
            event["error"] = " ".join(f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}".split())
        elif record.exc_info:
            event["exc_info"] = record.exc_info
        for processor in _chain:
            event = processor(None, record.levelname.lower(), event)
        _writer.put(event)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (a wrong format string must not cost the line, nor the caller its work)
        return f"{record.msg} {record.args!r}"


def _route_standard_library(level: str) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(handler)
    root.addHandler(_Handler())
    root.setLevel(level)
    for name in _TOO_OPEN:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _to_standard_library(_logger: object, method: str, event: _Event) -> Any:
    """End the chain before `configure`: hand the event to the standard library."""
    logger = logging.getLogger(event.pop("logger", None))
    level = logging.getLevelNamesMapping()[method.upper()]
    if logger.isEnabledFor(level):
        exc_info = event.pop("exc_info", None)
        name = event.pop("event")
        fields = "".join(
            f" {key}={value!r}" for key, value in _hide_secrets(None, method, event).items() if key != "level"
        )
        logger.log(level, "%s%s", name, fields, exc_info=exc_info)
    raise structlog.DropEvent


def _hide_secrets(_logger: object, _method: str, event: _Event) -> _Event:
    for key in event:
        if key.lower() in _SECRET_NAMES:
            event[key] = _HIDDEN
    return event


def _fit_to_show(_logger: object, _method: str, event: _Event) -> _Event:
    """Cut long texts, and show a Struct by its own `repr`: msgspec would write out its secrets too."""
    for key, value in event.items():
        if isinstance(value, str):
            if len(value) > MAX_TEXT:
                event[key] = f"{value[: MAX_TEXT // 2]} … {value[-MAX_TEXT // 2 :]}"
        elif isinstance(value, msgspec.Struct):
            event[key] = _shown(value)
    return event


def _line(render: Callable[[Any, str, _Event], bytes]) -> Processor:
    """End the chain with a line that nobody can keep from being written, and that shows no password of a URL."""

    def to_line(logger: Any, method: str, event: _Event) -> bytes:
        try:
            line = render(logger, method, event)
        except Exception:  # noqa: BLE001 (whatever a field holds, its event is logged)
            line = _json(logger, method, {_escape(key): _encodable(value) for key, value in event.items()})
        return (_URL_PASSWORD.sub(rb"\1***@", line) if b"://" in line else line) + b"\n"

    return to_line


def _json(_logger: object, _method: str, event: _Event) -> bytes:
    first = {"timestamp": event["timestamp"], "level": event["level"], "event": event["event"]}
    return _encode({**first, **event})


def _console(*, colors: bool) -> Callable[[Any, str, _Event], bytes]:
    render = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)

    def to_text(logger: Any, method: str, event: _Event) -> bytes:
        # Text from outside must not command the terminal.
        plain = {key: value.translate(_CONTROL) if isinstance(value, str) else value for key, value in event.items()}
        return _escape(render(logger, method, plain)).encode()

    return to_text


def _encodable(value: object) -> object:
    try:
        _encode(value)
    except Exception:  # noqa: BLE001 (lone surrogates, circles, objects whose repr fails)
        return _escape(_shown(value))
    return value


def _escape(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold."""
    return text.encode(errors="backslashreplace").decode()


def _shown(value: object) -> str:
    try:
        return str(value) if isinstance(value, str | os.PathLike) else repr(value)[:MAX_TEXT]
    except Exception:  # noqa: BLE001 (an object that cannot be shown must not cost its event)
        return f"<{type(value).__name__}>"


_encode = msgspec.json.Encoder(enc_hook=_shown).encode
_ENRICH: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _hide_secrets]
# One list for ever: every logger holds it, and `configure` changes what is in it.
_chain: list[Processor] = [*_ENRICH, _to_standard_library]
