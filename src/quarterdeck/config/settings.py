"""The settings themselves: name, type, range, default and meaning of each."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from quarterdeck.config.values import (
    MASK,
    MAX_LIMIT,
    SHORT_SECRET,
    check_app,
    check_bus,
    check_database_url,
    is_loopback,
    mask_password,
    parse_bind,
    parse_keys,
    parse_queues,
    parse_servers,
    parse_targets,
)

MAX_WORKERS = 256

_SECRET: dict[str, object] = {"secret": True}
_DURATION: dict[str, object] = {"duration": True}


class ConfigError(Exception):
    """A setting cannot be used; the message names it, where it came from and the bad value, never a secret."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting of the service. Made by `load`, which checks the values; its own `repr` shows no secret."""

    database_url: Annotated[
        str, Meta(description="PostgreSQL URL, or `embedded` for a server of this process's own", extra=_SECRET)
    ] = "embedded"
    data_dir: Annotated[str, Meta(description="Directory of the embedded server's files", min_length=1)] = (
        ".quarterdeck"
    )
    bind: Annotated[str, Meta(description="Address to listen on, `host:port`; port 0 takes a free one")] = (
        "127.0.0.1:8000"
    )
    app: Annotated[
        str | None, Meta(description="`module:attribute` of the Quarterdeck object that holds your handlers")
    ] = None
    role: Annotated[
        Literal["all", "web", "worker"],
        Meta(description="What the process does: serve requests, run jobs, or both"),
    ] = "all"
    queues: Annotated[
        str | None,
        Meta(
            description="Queues to run, each with an optional limit for this process: `a,b=5,tenant-*`. Unset: every"
            " queue with work for its kinds"
        ),
    ] = None
    memcached: Annotated[
        str | None,
        Meta(description="memcached servers, `host:port`, comma-separated. Unset: a cache inside the process"),
    ] = None
    bus: Annotated[
        str,
        Meta(
            description="How processes tell each other that something has happened: `postgres`, the URL of a Redis or"
            " Valkey server, or `off`",
            extra=_SECRET,
        ),
    ] = "postgres"
    workers: Annotated[
        int,
        Meta(description="Processes that `qd serve` starts on the one address; each runs jobs", ge=1, le=MAX_WORKERS),
    ] = 1
    concurrency: Annotated[
        int, Meta(description="Jobs that run at the same time in one process", ge=1, le=MAX_LIMIT)
    ] = 100
    lease: Annotated[
        float,
        Meta(
            description="How long a worker may be silent before its jobs are given to others",
            ge=1,
            le=300,
            extra=_DURATION,
        ),
    ] = 15.0
    shutdown_grace: Annotated[
        float,
        Meta(description="How long running jobs may go on after a stop was asked for", ge=0, le=3600, extra=_DURATION),
    ] = 15.0
    auth: Annotated[
        Literal["off", "required"] | None,
        Meta(
            description="Whether requests need an API key. Unset: `required` where keys are given, else `off` on a"
            " loopback address and an error on any other"
        ),
    ] = None
    api_keys: Annotated[
        str | None,
        Meta(
            description="API keys with all scopes, `name:secret`, comma-separated; give a secret at least"
            f" {SHORT_SECRET} characters",
            extra=_SECRET,
        ),
    ] = None
    live_heartbeat: Annotated[
        float,
        Meta(
            description="How long a client of the live channel may be silent before it is pinged; after twice as long"
            " it is disconnected",
            ge=1,
            le=300,
            extra=_DURATION,
        ),
    ] = 30.0
    allow_private_targets: Annotated[
        str | None,
        Meta(description="Hosts or networks that outbound HTTP may reach although private, comma-separated"),
    ] = None
    migrate: Annotated[bool, Meta(description="Whether the start applies migrations that are missing")] = True
    log_level: Annotated[
        Literal["debug", "info", "warning", "error", "critical"], Meta(description="The least level that is logged")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="How log lines look; `auto`: `console` on a terminal, else `json`"),
    ] = "auto"

    def parsed_keys(self) -> dict[str, str]:
        """Return the name of each key by its secret."""
        return parse_keys(self.api_keys)

    def short_keys(self) -> list[str]:
        """Return the names of keys whose secret is easy to guess."""
        return sorted(name for secret, name in self.parsed_keys().items() if len(secret) < SHORT_SECRET)

    def auth_required(self) -> bool:
        """Return whether requests need an API key.

        Raises:
            ConfigError: neither `auth` nor keys are given, and other machines can reach the bind address.
        """
        if self.auth is not None:
            return self.auth == "required"
        if self.api_keys is not None:
            return True
        if is_loopback(parse_bind(self.bind)[0]):
            return False
        raise ConfigError(
            f"bind = {self.bind!r} can be reached from other machines, and no API keys are given: set"
            " QUARTERDECK_API_KEYS, or QUARTERDECK_AUTH=off to serve everybody"
        )

    def masked(self) -> dict[str, object]:
        """Return the values by name, fit to be shown: without passwords and without the secrets of keys."""
        values = msgspec.structs.asdict(self)
        values["database_url"] = mask_password(self.database_url)
        values["bus"] = mask_password(self.bus)
        if self.api_keys is not None:
            values["api_keys"] = MASK
        return values

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Give rich, whose tracebacks may show local variables, what `repr` gives."""
        return list(self.masked().items())

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.masked().items())})"


CHECKS: Mapping[str, Callable[[str], object]] = {
    "database_url": check_database_url,
    "bind": parse_bind,
    "app": check_app,
    "queues": parse_queues,
    "memcached": parse_servers,
    "bus": check_bus,
    "api_keys": parse_keys,
    "allow_private_targets": parse_targets,
}
"""Raises ValueError for a text that a type alone does not refuse, by the name of the setting."""
