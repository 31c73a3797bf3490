"""`qd migrate`: the schema of the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from quarterdeck.cli.options import config_option, data_dir_option, database_url_option, examples, json_option
from quarterdeck.cli.output import print_json
from quarterdeck.clock import rfc3339
from quarterdeck.config import load

if TYPE_CHECKING:
    from quarterdeck.store.migrator import Applied, Migration, Migrator, Status

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def migrate() -> None:
    """Bring the schema of the database up to date, or check it.

    `qd serve` does that by itself; this is for those who want it to be a step of its own.
    """


def _database_options(command: F) -> F:
    return database_url_option(data_dir_option(config_option(json_option(command))))


@migrate.command(
    epilog=examples(
        "QUARTERDECK_DATABASE_URL=postgresql://me@db/jobs qd migrate up",
        "qd migrate up --data-dir /srv/quarterdeck  # the embedded server's",
    )
)
@_database_options
def up(*, file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Apply the migrations that are missing."""
    applied = _run(flags, file, lambda migrator: migrator.up())
    if as_json:
        print_json({"applied": [_facts(migration) for migration in applied]})
    for migration in [] if as_json else applied:
        click.echo(f"applied {migration.label}")
    if not applied and not as_json:
        click.echo("nothing to apply: the database is up to date")


@migrate.command()
@_database_options
def status(*, file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Show which migrations are applied and which are missing."""
    found: Status = _run(flags, file, lambda migrator: migrator.status())
    if as_json:
        lists: Mapping[str, Sequence[Any]] = {
            "applied": found.applied,
            "pending": found.pending,
            "ahead": found.ahead,
            "drifted": found.drifted,
        }
        print_json({name: [_facts(migration) for migration in migrations] for name, migrations in lists.items()})
        return
    from quarterdeck.cli.tables import show_table  # noqa: PLC0415 - slow

    wrong = {one.version: "unknown to this program" for one in found.ahead}
    wrong |= {one.version: "applied with another content" for one in found.drifted}
    rows = [(one.label, wrong.get(one.version, "applied"), rfc3339(one.applied_at)) for one in found.applied]
    rows += [(one.label, "pending", "") for one in found.pending]
    show_table(("migration", "state", "applied at"), sorted(rows))


@migrate.command()
@_database_options
def verify(*, file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Check that the schema is exactly that of this program.

    Exits with 0 if so, else with 4.
    """
    _run(flags, file, lambda migrator: migrator.verify())
    if as_json:
        print_json({"ok": True})
    else:
        click.echo("the database has the schema of this program")


def _facts(migration: Applied | Migration) -> dict[str, object]:
    facts: dict[str, object] = {"version": migration.version, "name": migration.name}
    applied_at = getattr(migration, "applied_at", None)
    return facts if applied_at is None else {**facts, "applied_at": rfc3339(applied_at)}


def _run(flags: Mapping[str, object], file: Path | None, work: Callable[[Migrator], Awaitable[T]]) -> T:
    settings = load(flags, file=file).settings
    from quarterdeck.cli.database import on_database  # noqa: PLC0415 - slow

    return on_database(settings, work)
