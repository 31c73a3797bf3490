"""The front page: what this is, and where to go."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import quart

from quarterdeck.version import __version__
from quarterdeck.web.endpoint import Call, Endpoint, Media, endpoint

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>Quarterdeck</title>
</head>
<body>
<h1>Quarterdeck {version}</h1>
<p>Background jobs over REST, on PostgreSQL.</p>
<table>
<caption>What can be asked for</caption>
<thead><tr><th scope="col">Method</th><th scope="col">Path</th><th scope="col">What it does</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</body>
</html>
"""


def index_of(endpoints: Iterable[Endpoint]) -> Endpoint:
    """The endpoint of a page that lists `endpoints`."""
    rows = "\n".join(
        f"<tr><td>{each.method}</td><td><code>{escape(each.path)}</code></td><td>{escape(each.summary)}</td></tr>"
        for each in endpoints
    )
    page = _PAGE.format(version=escape(__version__), rows=rows).encode()

    @endpoint("GET", "/", summary="This page", responses={200: Media("text/html")})
    async def index(_call: Call) -> quart.Response:
        return quart.Response(page, content_type="text/html; charset=utf-8")

    return index
