"""What the start of a service says: where it answers, and which settings are risky."""

import socket
import sys

import click
from hypercorn.config import Config

from quarterdeck.cli.listen import address_of
from quarterdeck.config import Settings, is_loopback, parse_bind
from quarterdeck.telemetry.log import get_logger
from quarterdeck.version import __version__

log = get_logger(__name__)


def url_of(listener: socket.socket, config: Config) -> str:
    """Where clients find what listens there."""
    return f"{'https' if config.ssl_enabled else 'http'}://{address_of(listener)}"


def warn(settings: Settings, url: str) -> None:
    """Tells of settings that are obeyed although they may not be meant."""
    if settings.auth == "off" and not is_loopback(parse_bind(settings.bind)[0]):
        log.warning("auth.off", url=url, then="every machine that reaches this address may submit work")


def tell_ready(url: str, settings: Settings, **facts: object) -> None:
    """Says that requests are answered."""
    log.info("service.ready", url=url, role=settings.role, app=settings.app, **facts)
    if sys.stdout.isatty():
        click.echo(f"Quarterdeck {__version__} serves {url} (Ctrl-C stops it)")
