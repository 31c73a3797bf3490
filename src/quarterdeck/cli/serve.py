"""`qd serve`: run the service."""

from pathlib import Path

import click

from quarterdeck.cli.child import Child
from quarterdeck.cli.options import config_option, data_dir_option, database_url_option, examples
from quarterdeck.cli.stopping import Stopping
from quarterdeck.config import load

_ROLES = ("all", "web", "worker")
_LEVELS = ("debug", "info", "warning", "error", "critical")
_FORMATS = ("auto", "console", "json")


@click.command(
    epilog=examples(
        "qd serve  # the built-in kinds, on a database of its own in .quarterdeck",
        "qd serve myapp:deck  # with the handlers of `deck` in myapp.py",
        "qd serve myapp:deck --workers 4 --database-url postgresql://me@db/jobs",
        "qd serve myapp:deck --role worker --queues mail=5,reports",
    )
)
@click.argument("app", required=False)
@click.option(
    "--bind", metavar="HOST:PORT", help="Address to listen on; port 0 takes a free one [default: 127.0.0.1:8000]."
)
@click.option(
    "--role", type=click.Choice(_ROLES, case_sensitive=False), help="Serve requests, run jobs, or both [default: all]."
)
@click.option("--queues", metavar="A,B=5,C-*", help="Queues to run, with limits [default: every queue].")
@click.option("--workers", metavar="N", help="Processes that serve the address and run jobs [default: 1].")
@click.option("--concurrency", metavar="N", help="Jobs that run at the same time, in each process [default: 100].")
@database_url_option
@data_dir_option
@click.option("--migrate/--no-migrate", default=None, help="Apply migrations that are missing [default: --migrate].")
@click.option(
    "--log-level", type=click.Choice(_LEVELS, case_sensitive=False), help="The least that is logged [default: info]."
)
@click.option(
    "--log-format", type=click.Choice(_FORMATS, case_sensitive=False), help="How log lines look [default: auto]."
)
@config_option
@click.option(
    "--hypercorn", "server_file", type=click.Path(path_type=Path), help="Hypercorn's file [default: hypercorn.toml]."
)
def serve(*, file: Path | None, server_file: Path | None, **flags: object) -> int:
    """Run the service, with the handlers of APP (module:attribute).

    Every option is a setting too: `qd config show` lists them. INT or TERM stops it: running jobs get the grace period,
    and a second signal ends that. With several workers, HUP replaces them one by one.

    Exit codes: 0 it was stopped, 2 wrong setting or port in use, 3 no database, 4 the database has another schema, 5 it
    died.
    """
    stopping = Stopping()
    child = Child.adopt()
    if child is not None:
        child.obey(stopping)
    settings = load(flags, file=file).settings
    settings.auth_required()  # raises where the service would be open to other machines
    if child is None and settings.workers > 1:
        from quarterdeck.cli.supervisor import run_supervisor  # noqa: PLC0415 - slow

        return run_supervisor(settings, server_file, stopping)
    from quarterdeck.cli.service import run_service  # noqa: PLC0415 - slow

    return run_service(settings, server_file, stopping, child)
