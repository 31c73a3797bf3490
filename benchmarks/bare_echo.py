"""`python -m benchmarks.bare_echo`: the least that Quart can do with a POST, served as `qd serve` serves.

Prints where it listens as a line of JSON, like the service's own `service.ready`, then Hypercorn's access log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from typing import Any

import quart
from hypercorn.asyncio import serve
from hypercorn.logging import Logger

from benchmarks.callers import LOOP
from quarterdeck.cli.listen import address_of, listen
from quarterdeck.cli.server import load_config

PATH = "/echo"

app = quart.Quart("bare", static_folder=None, template_folder=None)


@app.post(PATH)
async def echo() -> Any:
    """The body, read as JSON and written as JSON."""
    return await quart.request.get_json()


async def _serve(config: Any) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await serve(app, config, shutdown_trigger=stopped.wait)


def main() -> None:
    """Serves until SIGTERM."""
    config = load_config()
    config.logger_class = Logger
    config.accesslog = "-"
    config.errorlog = logging.getLogger("hypercorn.error")
    opened = listen("127.0.0.1:0", config.backlog)
    print(json.dumps({"event": "service.ready", "url": f"http://{address_of(opened)}"}), flush=True)
    config.bind = [f"fd://{opened.detach()}"]
    with asyncio.Runner(loop_factory=LOOP) as runner:
        runner.run(_serve(config))


if __name__ == "__main__":
    main()
