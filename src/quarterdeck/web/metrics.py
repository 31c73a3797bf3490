"""Metrics for Prometheus."""

from __future__ import annotations

import quart
from werkzeug.http import parse_accept_header

from quarterdeck.telemetry.metrics import CONTENT_TYPES, Format
from quarterdeck.web.endpoint import Call, Media, endpoint

_OPENMETRICS = "application/openmetrics-text"


@endpoint(
    "GET",
    "/metrics",
    summary="Metrics for Prometheus",
    responses={200: (Media("text/plain"), Media(_OPENMETRICS))},
)
async def get_metrics(call: Call) -> quart.Response:
    """The metrics in Prometheus's text format, or in OpenMetrics where `Accept` prefers that."""
    wanted = preferred(call.request.headers.get("Accept", ""))
    return quart.Response(await call.service.metrics_text(wanted), content_type=CONTENT_TYPES[wanted])


ENDPOINTS = (get_metrics,)


def preferred(accept: str) -> Format:
    """Which format an `Accept` header asks for; plain text unless OpenMetrics is wanted at least as much."""
    qualities = {"text": 0.0, "openmetrics": 0.0}
    for item, quality in parse_accept_header(accept):
        media_type = item.partition(";")[0].strip().lower()
        if media_type == _OPENMETRICS:
            qualities["openmetrics"] = max(qualities["openmetrics"], quality)
        elif media_type in ("text/plain", "text/*", "*/*"):
            qualities["text"] = max(qualities["text"], quality)
    return "openmetrics" if qualities["openmetrics"] >= max(qualities["text"], 0.001) else "text"
