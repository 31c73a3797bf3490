"""The ASGI application for servers that are given one: `hypercorn -c hypercorn.toml quarterdeck.asgi:app`.

Everything comes from the environment and `quarterdeck.toml`, QUARTERDECK_APP with the handlers among it. Such a server
tells of a stop only when it has stopped listening, so long polls end by its patience; `qd serve` ends them at once.
"""

from quart import Quart

from quarterdeck.bootstrap import Runtime, application, load_deck
from quarterdeck.config import load
from quarterdeck.telemetry import log


def _application() -> Quart:
    settings = load().settings
    log.configure(settings.log_level, settings.log_format)
    return application(Runtime(settings, load_deck(settings.app) if settings.app else None))


app = _application()
