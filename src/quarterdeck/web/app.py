"""The Quart application: routes, their service's life, and what becomes of requests that no route takes."""

from __future__ import annotations

from typing import cast

import quart

from quarterdeck.web import (
    health,
    index,
    job_edits,
    job_list,
    jobs,
    kinds,
    metrics,
    problem_pages,
    queues,
    sse,
    tickets,
    topics,
    workers,
)
from quarterdeck.web.auth import access_of
from quarterdeck.web.body import LIMIT, Request
from quarterdeck.web.endpoint import mount, problem_response
from quarterdeck.web.gate import Gate
from quarterdeck.web.live import LiveChannel
from quarterdeck.web.problems import refusal_of
from quarterdeck.web.reference import with_reference
from quarterdeck.web.service import Service

ENDPOINTS = with_reference(
    (
        *jobs.ENDPOINTS,
        *job_list.ENDPOINTS,
        *job_edits.ENDPOINTS,
        *sse.ENDPOINTS,
        *queues.ENDPOINTS,
        *kinds.ENDPOINTS,
        *workers.ENDPOINTS,
        *topics.ENDPOINTS,
        *tickets.ENDPOINTS,
        *health.ENDPOINTS,
        *metrics.ENDPOINTS,
        *problem_pages.ENDPOINTS,
    )
)

CONFIG = {
    "MAX_CONTENT_LENGTH": LIMIT,
    "BODY_TIMEOUT": 20,  # seconds for all of a body
    "RESPONSE_TIMEOUT": 60,  # seconds for sending an answer, not for making it; streams set their own
    "BACKGROUND_TASK_SHUTDOWN_TIMEOUT": 1,  # Quart's background tasks are not used: the engine owns its own
    "PROPAGATE_EXCEPTIONS": False,
    "PROVIDE_AUTOMATIC_OPTIONS": False,
    "TRAP_BAD_REQUEST_ERRORS": False,
    "TRAP_HTTP_EXCEPTIONS": False,
}


def create_app(service: Service) -> quart.Quart:
    """The application in front of `service`, which starts and stops with it.

    Raises ConfigError where the settings would serve other machines without keys.
    """
    app = quart.Quart("quarterdeck", static_folder=None, template_folder=None)
    app.config.update(CONFIG)
    app.request_class = Request
    # A path that is not written as it should be is unknown, not redirected: redirects are pages, and name hosts.
    app.url_map.merge_slashes = False
    mount(app, (index.index_of(ENDPOINTS), *ENDPOINTS), service)

    @app.before_serving
    async def start() -> None:
        await service.start()

    @app.after_serving
    async def stop() -> None:
        await service.stop()

    # Exception is the base of what Quart raises where no route fits, and of what nobody expected.
    @app.errorhandler(Exception)
    async def refuse(error: Exception) -> quart.Response:
        return problem_response(refusal_of(error))

    @app.after_request
    async def settle(response: quart.Response) -> quart.Response:
        await cast("Request", quart.request).settle()
        return response

    access = access_of(service.settings)
    gate = Gate(LiveChannel(app.asgi_app, service, access), access, service.metrics.answered)  # type: ignore[arg-type]
    app.asgi_app = gate  # type: ignore[method-assign, assignment]
    return app
