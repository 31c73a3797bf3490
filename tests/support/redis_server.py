"""A Redis server of a test's own."""

from __future__ import annotations

from tests.support.daemon import HERE, Daemon


class RedisServer(Daemon):
    """A `redis-server` that keeps nothing on disk."""

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://{HERE}:{self.port}/0"

    def command(self) -> list[str]:
        """What starts it."""
        options = {"port": str(self.port), "bind": HERE, "save": "", "appendonly": "no", "loglevel": "warning"}
        return ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", value))]
