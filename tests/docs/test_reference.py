"""The reference says what the code says: settings, commands, routes, problems, jobs, tables, figures."""

import datetime as dt
import inspect
import json
import re

import click
import msgspec
import pytest

from quarterdeck import Quarterdeck, bootstrap
from quarterdeck.cli import exits
from quarterdeck.cli.main import commands as program
from quarterdeck.config import settings_table
from quarterdeck.domain import job, jsonvalue, outcome, retry, submission
from quarterdeck.domain.handler import JobContext
from quarterdeck.domain.outcome import AttemptFacts, decide
from quarterdeck.domain.retry import DEFAULT_RETRY
from quarterdeck.domain.state import MOVES, Reason, State
from quarterdeck.engine import attempt, calls, completer, executor, producer, reader, results, submitter, tick, waiters
from quarterdeck.handlers import built_in
from quarterdeck.store import embedded, memcached_server, memory, migrator, sealer
from quarterdeck.web import app, index, problems
from quarterdeck.web.schemas import JobBody
from tests.docs.documents import DOCS, REFERENCE, REPOSITORY, blocks, code, sections

# Settings


def as_text(default: object) -> str:
    match default:
        case None:
            return "unset"
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}`"
    return f"`{default}`"


def test_every_setting_is_described_as_the_code_describes_it():
    rows = sections(REFERENCE / "settings.md")["The settings"].table("Setting")
    expected = [
        [f"`{info.name}`", f"`{info.env}`", info.type, as_text(info.default), info.description]
        for info in settings_table()
    ]
    assert rows == expected


# The command line


def commands(command: click.Command, path: tuple[str, ...] = ("qd",)) -> dict[str, click.Command]:
    found = {" ".join(path): command}
    if isinstance(command, click.Group):
        for called, inner in command.commands.items():
            found |= commands(inner, (*path, called))
    return found


COMMANDS = commands(program)


def options_of(command: click.Command) -> set[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}


def test_every_command_has_its_section_and_no_other_has():
    documented = {heading for heading in sections(REFERENCE / "cli.md") if heading.startswith("qd")}
    assert documented == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_of_a_command_is_documented(path):
    section = sections(REFERENCE / "cli.md")[path]
    options = options_of(COMMANDS[path])
    documented = {code(row[0]) for row in section.table("Option")} if options else set()
    assert documented == options


def test_every_exit_code_is_documented():
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    rows = sections(REFERENCE / "cli.md")["Exit codes"].table("Code")
    assert {int(row[0]) for row in rows} == codes


# The HTTP interface


ROUTES = {f"{each.method} {each.path}": each for each in (*app.ENDPOINTS, index.index_of(app.ENDPOINTS))}


def test_every_route_has_its_section_and_no_other_has():
    headings = [section.heading for section in sections(REFERENCE / "http-api.md").values() if section.level == 3]
    assert set(headings) == set(ROUTES)


@pytest.mark.parametrize("route", ROUTES)
def test_every_answer_of_a_route_is_documented(route):
    documented = set()
    for status, problem, _ in sections(REFERENCE / "http-api.md")[route].table("Status", "Problem"):
        slugs = re.findall(r"`([a-z-]+)`", problem)
        documented |= {(int(status), slug) for slug in slugs or [None]}
    answers = {(status, None) for status in ROUTES[route].responses}
    expected = answers | {(family.status, family.slug) for family in ROUTES[route].problems}
    assert documented == expected


@pytest.mark.parametrize("route", ROUTES)
def test_every_query_parameter_of_a_route_is_documented(route):
    query = ROUTES[route].query
    if query is None:
        with pytest.raises(LookupError):
            sections(REFERENCE / "http-api.md")[route].table("Query")
    else:
        rows = sections(REFERENCE / "http-api.md")[route].table("Query")
        assert [code(row[0]) for row in rows] == list(query.__struct_fields__)


def test_every_problem_is_documented_with_its_status():
    documented = {}
    for section in sections(REFERENCE / "problems.md").values():
        if section.level == 3:
            status = re.match(r"\s*\*\*(\d{3})\.\*\*", section.text)
            assert status, f"{section.heading} does not begin with its status"
            documented[section.heading] = int(status[1])
    assert documented == {family.slug: family.status for family in problems.CATALOGUE}


def test_the_example_of_a_problem_is_one():
    (example,) = [block for block in blocks(REFERENCE / "problems.md") if block.language == "json"]
    document = msgspec.json.decode(example.text, type=problems.Problem)
    assert (document.type, document.title) == ("/problems/invalid", problems.INVALID.title)


# A job


def job_table(heading: str, column: str) -> list[str]:
    return [code(row[0]) for row in sections(REFERENCE / "job.md")[heading].table(column)]


def test_every_field_of_a_job_is_documented():
    assert job_table("The document", "Field") == list(JobBody.__struct_fields__)


def test_every_field_of_an_error_is_documented():
    record = attempt.error_record(1, dt.datetime.now(dt.UTC), ValueError("no"))
    assert job_table("Errors", "Field") == list(json.loads(record))


def test_every_state_is_documented_and_moves_only_where_it_may():
    rows = sections(REFERENCE / "job.md")["States"].table("State")
    assert [code(row[0]) for row in rows] == [state.value for state in State]
    for row in rows:
        assert {State(moved) for moved in re.findall(r"`(\w+)`", row[2])} <= MOVES[State(code(row[0]))]


def test_every_reason_is_documented():
    assert job_table("Reasons", "Reason") == [reason.value for reason in Reason]


def test_everything_a_submit_may_say_is_documented():
    accepted = [field for field in submission.Submit.__struct_fields__ if field not in submission._LATER]
    assert sorted(job_table("What a submit may say", "Field")) == sorted(accepted)
    text = sections(REFERENCE / "job.md")["What a submit may say"].text
    assert all(f"`{later}`" in text for later in submission._LATER)


def test_everything_a_retry_option_may_say_is_documented():
    assert job_table("Retry", "Field") == list(submission.RetryOption.__struct_fields__)


ENDS = {
    "returned a JSON value": (1, outcome.Completed("1")),
    'returned `Cancel("why")`': (1, outcome.Cancel("why")),
    "returned `Snooze(seconds)`": (1, outcome.Snooze(5)),
    "raised, and attempts are left": (1, outcome.Failed("{}")),
    "raised in the last attempt": (3, outcome.Failed("{}")),
    "ran out of time, and attempts are left": (1, outcome.TimedOut("{}")),
    "ran out of time in the last attempt": (3, outcome.TimedOut("{}")),
    "could not begin: the arguments do not fit": (1, outcome.Rejected("{}", "")),
    "was ended by our shutdown, or given back unstarted": (1, outcome.Interrupted()),
}


def ends_table() -> dict[str, list[str]]:
    rows = sections(DOCS / "explanation" / "states.md")["What an attempt's end makes of the job"].table("The attempt")
    return {row[0]: row[1:] for row in rows}


def test_the_table_of_ends_is_complete():
    assert set(ends_table()) == set(ENDS)


@pytest.mark.parametrize("end", ENDS)
def test_an_end_makes_of_the_job_what_the_documentation_says(end):
    number, ended = ENDS[end]
    transition = decide(AttemptFacts(number, 3, DEFAULT_RETRY), ended, 0.5)
    state, reason, counts = ends_table()[end]
    assert state.startswith(f"`{transition.state}`")
    assert reason == (f"`{transition.reason}`" if transition.reason else "")
    assert counts == ("no" if transition.refund else "yes")


# Handlers

HANDLERS = DOCS / "how-to" / "write-a-handler.md"


def test_every_option_of_a_handler_is_documented():
    rows = sections(HANDLERS)["Options"].table("Option")
    parameters = list(inspect.signature(Quarterdeck.handler).parameters)
    assert [code(row[0]) for row in rows] == [name for name in parameters if name not in ("self", "kind", "run_in")]


def test_everything_in_the_context_is_documented():
    rows = sections(HANDLERS)["The context"].table("")
    documented = {re.search(r"ctx\.(\w+)", row[0])[1] for row in rows}
    assert documented == {name for name in dir(JobContext) if not name.startswith("_")}


def test_every_built_in_kind_is_documented():
    text = sections(HANDLERS)["Built-in kinds"].text
    assert set(re.findall(r"`(quarterdeck\.\w+)`", text)) == {handler.kind for handler in built_in()}


# The database


async def test_every_table_and_column_is_documented(connection):
    rows = await connection.fetch(
        """
        select c.table_name, c.column_name from information_schema.columns c
        join pg_class t on t.relname = c.table_name and t.relnamespace = 'quarterdeck'::regnamespace
        where c.table_schema = 'quarterdeck' and not t.relispartition
        """
    )
    there: dict[str, set[str]] = {}
    for table, column in rows:
        there.setdefault(table, set()).add(column)
    documented = {
        section.heading: {code(row[0]) for row in section.table("Column")}
        for section in sections(REFERENCE / "database.md").values()
        if section.heading in there
    }
    documented["job_history"] |= documented["job"]
    assert documented == there


async def test_every_function_is_documented(connection):
    rows = await connection.fetch("select proname from pg_proc where pronamespace = 'quarterdeck'::regnamespace")
    documented = sections(REFERENCE / "database.md")["Functions"].table("Function")
    assert {code(row[0]).partition("(")[0] for row in documented} == {row[0] for row in rows}


SQL = [block for block in blocks(REFERENCE / "database.md") if block.language == "sql"]


@pytest.mark.parametrize("block", SQL, ids=lambda block: f"line-{block.line}")
async def test_a_statement_of_the_reference_runs(block, connection):
    await connection.fetch(block.text)


def test_there_are_statements_in_the_reference():
    assert SQL


# Figures

COMPOSE = (REPOSITORY / "docker-compose.yml").read_text()
CONNECTIONS = bootstrap.API_CONNECTIONS + bootstrap.WORK_CONNECTIONS + 2

FIGURES = [
    ("explanation/a-jobs-way.md", f"up to {submitter.MAX_GROUP}, and inserts the group"),
    ("explanation/a-jobs-way.md", f"has waited {calls.CALL_TIMEOUT:g} seconds gets 503"),
    ("explanation/a-jobs-way.md", f"`intake` holds at most {submitter.INTAKE:,} requests".replace(",", " ")),
    ("explanation/a-jobs-way.md", f"at most {executor.MAX_PREFETCH:,}.".replace(",", " ")),
    ("explanation/a-jobs-way.md", f"After {attempt.ABANDON_AFTER:g} seconds it is abandoned"),
    ("explanation/a-jobs-way.md", f"the next group, up to {completer.MAX_GROUP}"),
    ("explanation/a-jobs-way.md", f"take up to {tick.BATCH:,} rows".replace(",", " ")),
    ("explanation/grouping.md", f"`src/quarterdeck/engine/submitter.py` | {submitter.MAX_GROUP} |"),
    ("explanation/grouping.md", f"`src/quarterdeck/engine/producer.py` | {producer.MAX_CLAIM} |"),
    ("explanation/grouping.md", f"`src/quarterdeck/engine/completer.py` | {completer.MAX_GROUP} |"),
    ("explanation/grouping.md", f"`src/quarterdeck/engine/reader.py` | {reader.MAX_GROUP} |"),
    ("explanation/grouping.md", f"`src/quarterdeck/engine/results.py` | {results.MAX_GROUP} |"),
    ("explanation/cache.md", f"more than {results.LARGE_FROM // 1024} KiB in PostgreSQL"),
    ("explanation/cache.md", f"up to {memory.MEMORY // 1024**2} MiB, and behind that"),
    ("explanation/cache.md", f"up to {sealer.MAX_SEALED // 1024} KiB of JSON"),
    ("explanation/cache.md", f"may take {memcached_server.OPERATION_TIMEOUT * 1000:g} ms, connecting included"),
    ("explanation/cache.md", f"at most {memcached_server.SLOT_TIMEOUT * 1000:g} ms for one of four connections"),
    ("adr/0007-reads-are-grouped.md", f"up to {reader.MAX_GROUP}, and reads"),
    ("explanation/polling-and-waking.md", "Every {} to {} seconds".format(*tick.INTERVAL)),
    (
        "explanation/polling-and-waking.md",
        f"at most {bootstrap.API_CONNECTIONS} connections for what callers ask, {bootstrap.WORK_CONNECTIONS} for",
    ),
    (
        "how-to/run-on-your-postgresql.md",
        f"at most {CONNECTIONS} connections: {bootstrap.API_CONNECTIONS} for what callers ask,",
    ),
    ("how-to/write-a-handler.md", f"has not ended {attempt.ABANDON_AFTER:g} seconds later is abandoned"),
    ("reference/job.md", f"cut at {attempt.MAX_MESSAGE:,} characters".replace(",", " ")),
    ("reference/job.md", f"the last {attempt.MAX_TRACEBACK:,} characters".replace(",", " ")),
    ("reference/job.md", f"up to {submission.MAX_TAGS} strings of 1 to {submission.MAX_TAG_CHARACTERS} characters"),
    ("reference/job.md", f"object, up to {submission.MAX_METADATA_BYTES // 1024} KiB"),
    ("reference/job.md", f"object, up to {submission.MAX_ARGS_BYTES // 1024**2} MiB"),
    ("reference/job.md", f"takes up to {jsonvalue.MAX_RESULT_BYTES // 1024**2} MiB"),
    ("reference/job.md", f"nested deeper than {jsonvalue.MAX_DEPTH} levels"),
    ("reference/job.md", f"How long one attempt may take | {job.DEFAULT_TIMEOUT / 60:g} minutes |"),
    ("reference/job.md", f"1 to {submission.MAX_ATTEMPTS} | How often it is tried | {job.DEFAULT_MAX_ATTEMPTS} |"),
    ("reference/job.md", f"0 to 9 | Lower runs first | {job.DEFAULT_PRIORITY} |"),
    ("reference/job.md", f"The first delay | {retry.DEFAULT_BASE:g} seconds |"),
    ("reference/job.md", f"The longest delay | {retry.DEFAULT_CAP / 3600:g} hour |"),
    ("explanation/embedded-postgresql.md", f"starts a PostgreSQL {embedded.MAJOR_VERSION} of its own"),
    ("how-to/run-on-your-postgresql.md", f"PostgreSQL {migrator.OLDEST_SERVER} or newer is needed"),
]


@pytest.mark.parametrize(("page", "words"), FIGURES, ids=lambda value: value.replace("/", " "))
def test_a_figure_is_the_one_in_the_code(page, words):
    assert words in (DOCS / page).read_text()


def test_the_half_second_is_one():
    # The pages say it in words.
    assert waiters.POLL == 0.5


def test_the_image_of_the_compose_page_is_the_one_in_the_stack():
    (image,) = re.findall(r"^ +image: (\w+)(?: +#.*)?$", COMPOSE, re.MULTILINE)
    assert f"FROM {image}\n" in (DOCS / "how-to" / "run-with-compose.md").read_text()


def test_the_way_to_contribute_names_every_directory_of_code_and_of_tests():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    directories = {
        file.relative_to(REPOSITORY).parts[:depth]
        for pattern, depth in (("src/quarterdeck/*/**/*.py", 3), ("tests/*/**/*", 2))
        for file in REPOSITORY.glob(pattern)
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert {("src", "quarterdeck", "engine"), ("tests", "unit")} <= directories
    assert [each for each in sorted(directories) if f"{each[-1]}/`" not in text] == []
