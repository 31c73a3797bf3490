"""Which handler runs which kind in this process."""

from collections.abc import Iterable

from quarterdeck.domain.handler import Handler


class Registry:
    """Handlers by kind. Filled before the engine starts."""

    def __init__(self, handlers: Iterable[Handler] = ()) -> None:
        self._handlers: dict[str, Handler] = {}
        for handler in handlers:
            self.register(handler)

    def register(self, handler: Handler) -> None:
        """Adds a handler. Raises ValueError where its kind is taken."""
        if handler.kind in self._handlers:
            raise ValueError(f"two handlers for kind {handler.kind!r}")
        self._handlers[handler.kind] = handler

    def get(self, kind: str) -> Handler | None:
        """The handler of `kind`, if this process has one."""
        return self._handlers.get(kind)

    @property
    def kinds(self) -> list[str]:
        """All registered kinds, sorted."""
        return sorted(self._handlers)

    @property
    def handlers(self) -> list[Handler]:
        """All handlers, by kind."""
        return [self._handlers[kind] for kind in self.kinds]
