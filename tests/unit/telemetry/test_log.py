import asyncio
import contextlib
import io
import logging
import os
import re
import select
import subprocess
import sys
import threading
import warnings

import msgspec
import pytest
import structlog

from quarterdeck.config import Settings
from quarterdeck.telemetry import log
from quarterdeck.telemetry.writer import MAX_WAITING, LineWriter


@pytest.fixture(autouse=True)
def unconfigured():
    """Leaves the process's logging as it was."""
    root, chain = logging.getLogger(), log._chain[:]
    level, handlers = root.level, root.handlers[:]
    yield
    log.flush()
    log._chain[:] = chain
    for name, method in vars(structlog.make_filtering_bound_logger("notset")).items():
        if not name.startswith("__"):
            setattr(log._BoundLogger, name, method)
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def stream():
    return io.StringIO()


@pytest.fixture
def lines(stream):
    """Logs as JSON into `stream`; call it for what was written since the last call."""
    log.configure("info", "json", stream=stream)

    def read() -> list[dict]:
        assert log.flush()
        written = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return [msgspec.json.decode(line) for line in written.split("\n")[:-1]]

    return read


def raised(error: Exception) -> Exception:
    with contextlib.suppress(type(error)):
        raise error
    return error


# Lines.


def test_an_event_is_one_line_of_json_with_time_level_name_and_fields(lines):
    log.get_logger("engine.completer").info("job.finish_refused", job_id="7", fence=3, nested={"a": [1, None]})
    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "logger", "job_id", "fence", "nested"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "event": "job.finish_refused",
        "logger": "engine.completer",
        "job_id": "7",
        "fence": 3,
        "nested": {"a": [1, None]},
    }


def test_lines_keep_their_order(lines):
    logger = log.get_logger("a")
    for number in range(500):
        logger.info("a.b", number=number)
    assert [line["number"] for line in lines()] == list(range(500))


def test_what_a_request_or_job_bound_is_in_every_line(lines):
    with structlog.contextvars.bound_contextvars(job_id="7"):
        log.get_logger("a").info("a.b")
        logging.getLogger("other").warning("text")
    log.get_logger("a").info("a.c")
    assert [line.get("job_id") for line in lines()] == ["7", "7", None]


def test_a_field_that_json_cannot_hold_does_not_cost_the_line(lines):
    class Unshowable:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    circle: list = []
    circle.append(circle)
    log.get_logger("a").info(
        "a.b", plain=1, surrogate="\ud800", key={(1, 2): 3}, bad=Unshowable(), circle=circle, big=10**30, obj=object
    )
    (line,) = lines()
    assert line["event"] == "a.b"
    assert line["plain"] == 1
    assert line["surrogate"] == "\\ud800"
    assert line["bad"] == "<Unshowable>"
    assert line["circle"] == "[[...]]"
    assert {"key", "big"} <= set(line)
    assert line["obj"] == "<class 'object'>"


def test_text_with_line_breaks_stays_in_one_line(lines, stream):
    log.get_logger("a").info("a.b", text="x\ny\u2028z\r")
    assert log.flush()
    assert stream.getvalue().count("\n") == 1
    assert lines()[0]["text"] == "x\ny\u2028z\r"


def test_a_long_text_is_cut_to_its_ends(lines):
    log.get_logger("a").info("a.b", text="<" + "x" * 10 * log.MAX_TEXT + ">")
    text = lines()[0]["text"]
    assert len(text) < log.MAX_TEXT + 10
    assert text.startswith("<x")
    assert text.endswith("x>")


# Exceptions.


def test_an_exception_is_one_field(lines):
    logger = log.get_logger("a")
    logger.error("a.given", exc_info=raised(KeyError("k")))
    try:
        int("boom")
    except ValueError:
        logger.exception("a.current")
        logging.getLogger("other").exception("text")
    given, current, other = lines()
    assert given["exception"].endswith("KeyError: 'k'")
    for line in (current, other):
        assert line["level"] == "error"
        assert line["exception"].startswith("Traceback (most recent call last):\n")
        assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'boom'")
        assert "exc_info" not in line


def test_a_database_that_is_away_is_told_of_in_one_line(lines):
    try:
        raise ConnectionRefusedError(111, "Connection\nrefused")
    except OSError:
        logging.getLogger("asyncpg.pool").warning("no luck", exc_info=True)
    (line,) = lines()
    assert line["error"] == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert "exception" not in line


def test_local_variables_are_in_no_traceback(stream):
    def fail() -> None:
        password = "correct-horse"  # noqa: F841 (must not be seen)
        raise ValueError("boom")

    for format in ("json", "console"):  # noqa: A001 (the name of the setting)
        log.configure("info", format, stream=stream)
        try:
            fail()
        except ValueError:
            log.get_logger("a").exception("a.b")
    assert log.flush()
    assert stream.getvalue().count("ValueError: boom") == 2
    assert "correct-horse" not in stream.getvalue()


# Levels.


@pytest.mark.parametrize(("level", "count"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_what_is_below_the_level_is_not_logged(stream, level, count):
    log.configure(level, "json", stream=stream)
    for logger in (log.get_logger("a"), logging.getLogger("b")):
        for method in ("debug", "info", "warning", "error", "critical"):
            getattr(logger, method)("a.b")
    assert log.flush()
    assert stream.getvalue().count("\n") == 2 * count


def test_a_change_of_level_reaches_loggers_that_are_in_use(stream, lines):
    logger = log.get_logger("a").bind(x=1)
    logger.debug("a.b")
    log.configure("debug", "json", stream=stream)
    logger.debug("a.c")
    assert [line["event"] for line in lines()] == ["a.c"]


@pytest.mark.parametrize(("level", "format"), [("loud", "json"), ("info", "xml"), ("", ""), ("INFO", "json")])
def test_an_unknown_level_or_format_is_refused(level, format):  # noqa: A002 (the name of the setting)
    with pytest.raises(ValueError, match="no such level or format"):
        log.configure(level, format)


# The standard library.


def test_the_standard_library_takes_the_same_way(lines, monkeypatch):
    # A Hypercorn that another test ran in this process has set its logger up for itself.
    logger = logging.getLogger("hypercorn.error")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])
    logger.setLevel(logging.NOTSET)
    logger.info("Running on %s", "http://127.0.0.1:8000")
    (line,) = lines()
    assert line.pop("timestamp")
    assert line == {"level": "info", "event": "Running on http://127.0.0.1:8000", "logger": "hypercorn.error"}


def test_a_wrong_format_string_costs_neither_the_line_nor_the_caller(lines):
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, log._Handler)]  # pytest's own raise
    logging.getLogger("other").warning("%d items", "x")
    assert lines()[0]["event"] == "%d items ('x',)"


def test_configuring_twice_does_not_double_lines(stream, lines):
    log.configure("info", "json", stream=stream)
    logging.getLogger("other").warning("text")
    assert len(lines()) == 1


def test_warnings_are_logged(lines):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["event"]


def test_a_handler_that_uses_structlog_itself_is_logged_too(lines):
    structlog.get_logger().info("mail.sent", to=1)
    assert lines()[0]["event"] == "mail.sent"


def test_an_application_that_configured_structlog_keeps_its_own_way(stream):
    seen = []

    def keep(_logger, _method, event):
        seen.append(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    log.configure("info", "json", stream=stream)
    structlog.get_logger().info("theirs")
    log.get_logger("a").info("ours.logged")
    assert log.flush()
    assert seen == ["theirs"]
    assert "ours.logged" in stream.getvalue()


def test_before_configure_events_go_to_the_standard_library(caplog):
    logger = log.get_logger("quarterdeck.engine")
    with caplog.at_level("INFO"):
        logger.debug("job.debugged")
        logger.info("job.finished", job_id=7, password="p")
        logger.error("job.broken", exc_info=raised(ValueError("boom")))
    assert caplog.messages == ["job.finished job_id=7 password='***'", "job.broken"]
    assert [record.name for record in caplog.records] == ["quarterdeck.engine"] * 2
    assert caplog.records[1].exc_info[0] is ValueError


# Secrets.


def test_fields_named_like_secrets_are_hidden(lines):
    log.get_logger("a").info("a.b", api_key="k", Authorization="Bearer k", password="p", keys=3)
    (line,) = lines()
    assert [line["api_key"], line["Authorization"], line["password"], line["keys"]] == ["***", "***", "***", 3]


@pytest.mark.parametrize("format", ["json", "console"])
def test_the_password_of_a_url_is_hidden_wherever_it_stands(stream, format):  # noqa: A002 (the name of the setting)
    log.configure("info", format, stream=stream)
    url = "postgresql://qd:hunter2@db/app"
    logger = log.get_logger("a")
    logger.info("a.b", text=f"cannot reach {url} today", nested=[{"url": url}])
    logger.error("a.c", exc_info=raised(ValueError(url)))
    logging.getLogger("other").warning("see %s", url)
    assert log.flush()
    assert stream.getvalue().count("qd:***@db") >= 4
    assert "hunter2" not in stream.getvalue()


def test_settings_show_no_secret_when_they_are_logged(lines):
    log.get_logger("a").info("a.b", settings=Settings(api_keys="ci:0123456789abcdef"))
    assert "0123456789abcdef" not in str(lines())


def test_the_libraries_that_log_whole_requests_are_kept_quiet(stream):
    log.configure("debug", "json", stream=stream)
    logging.getLogger("httpx").info("HTTP Request: GET http://h/?token=secret")
    logging.getLogger("httpcore.connection").debug("Authorization: secret")
    assert log.flush()
    assert stream.getvalue() == ""


# The console.


def test_a_terminal_gets_lines_to_read_and_a_pipe_json(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("NO_COLOR", "1")
    terminal, pipe = Terminal(), io.StringIO()
    for stream in (terminal, pipe):
        log.configure("info", "auto", stream=stream)
        log.get_logger("a").info("job.done", took=3)
        assert log.flush()
    assert re.search(r"\[info +\] job\.done +\[a\] took=3\n$", terminal.getvalue())
    assert pipe.getvalue().startswith("{")


def test_text_from_outside_does_not_command_the_terminal(stream):
    log.configure("info", "console", stream=stream)
    log.get_logger("a").info("a.b", text="\x1b[2J\x9b31m\x07")
    logging.getLogger("other").warning("\x1b]0;title\x07")
    assert log.flush()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", stream.getvalue())
    assert "\\x1b[2J" in stream.getvalue()


# The writer.


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        yield reader, stream
    os.close(reader)


def read_all(reader: int, until: bytes) -> bytes:
    text = b""
    while until not in text:
        assert select.select([reader], [], [], 30)[0], f"{until!r} never came"
        text += os.read(reader, 65_536)
    return text


async def test_a_pipe_that_nobody_reads_stops_neither_the_loop_nor_the_logger(pipe):
    reader, stream = pipe
    before = log.dropped()
    log.configure("info", "json", stream=stream)
    logger = log.get_logger("a")
    ticks = 0
    for _ in range(100):
        for _ in range(200):
            logger.info("a.b", filler="x" * 100)
        await asyncio.sleep(0)
        ticks += 1
    assert ticks == 100
    assert log.dropped() > before
    assert not log.flush(0.01)
    # Once somebody reads, what waited is written, and a line says how much is missing.
    text = await asyncio.to_thread(read_all, reader, b"log.dropped")
    lines = [msgspec.json.decode(line) for line in text.splitlines() if line.endswith(b"}")]
    (told,) = (line for line in lines if line["event"] == "log.dropped")
    assert told["level"] == "warning"
    assert told["total"] == log.dropped()


def test_the_queue_is_bounded(pipe):
    _, stream = pipe
    writer = LineWriter()
    writer.start(stream)
    for _ in range(3 * MAX_WAITING):
        writer.put(b"x" * 1000 + b"\n")
    held_by_the_pipe_and_the_thread = 200
    assert MAX_WAITING <= 3 * MAX_WAITING - writer.dropped <= MAX_WAITING + held_by_the_pipe_and_the_thread


def test_a_reader_that_went_away_costs_lines_but_nothing_else():
    reader, descriptor = os.pipe()
    with os.fdopen(descriptor, "w") as stream:
        os.close(reader)
        writer = LineWriter()
        writer.start(stream)
        writer.put(b"lost\n")
        assert writer.flush(5)
        assert writer.dropped == 1
    replacement = io.StringIO()
    writer.start(replacement)
    writer.put(b"kept\n")
    assert writer.flush(5)
    assert replacement.getvalue() == "kept\n"


def test_a_pipe_that_was_made_non_blocking_loses_nothing(pipe):
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    writer = LineWriter()
    writer.start(stream)
    for number in range(3000):
        writer.put(b"%06d" % number + b"x" * 100 + b"\n")
    writer.put(b"last\n")
    numbers = [line[:6] for line in read_all(reader, b"last\n").splitlines()[:-1]]
    assert numbers == [b"%06d" % number for number in range(3000)]
    assert writer.dropped == 0


def test_lines_of_many_threads_do_not_mix(lines):
    def work(name: int) -> None:
        logger = log.get_logger(str(name))
        for _ in range(200):
            logger.info("a.b", filler="x" * name)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = lines()
    assert len(written) == 1600
    assert all(line["filler"] == "x" * int(line["logger"]) for line in written)


# Whole processes.


def run(program: str, **options) -> subprocess.CompletedProcess:
    prefix = "from quarterdeck.telemetry.log import configure, get_logger\n"
    return subprocess.run([sys.executable, "-c", prefix + program], timeout=50, check=False, **options)


def test_what_was_logged_just_before_the_end_is_written_and_nothing_goes_to_stdout():
    program = "configure('info', 'auto')\nfor n in range(1000): get_logger('a').info('a.b', n=n)"
    done = run(program, capture_output=True)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1000
    assert done.stdout == b""


def test_a_pipe_that_nobody_reads_does_not_hold_up_the_end():
    reader, writer = os.pipe()
    program = "configure('info', 'json')\nfor n in range(9000): get_logger('a').info('a.b', n='x' * 100)"
    try:
        assert run(program, stderr=writer).returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_process_without_standard_error_logs_into_nothing():
    program = "import os, sys\nos.close(2); sys.stderr = None\nconfigure('info', 'auto')\nget_logger('a').info('a.b')"
    assert run(program).returncode == 0


def test_a_forked_child_logs_too():
    program = (
        "import os\nconfigure('info', 'json')\nget_logger('a').info('parent.ran')\n"
        "if (pid := os.fork()) == 0:\n    get_logger('a').info('child.ran')\nelse:\n    os.waitpid(pid, 0)"
    )
    done = run(program, capture_output=True)
    assert done.returncode == 0
    assert done.stderr.count(b"child.ran") == 1
    assert done.stderr.count(b"parent.ran") == 1
