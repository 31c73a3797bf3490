"""Pages for people: made on the server, without scripts, from templates that escape whatever they are given."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import Any

import jinja2
import quart
from markupsafe import Markup, escape

from quarterdeck.web.body import Request

HTML = "text/html"

# A page loads its style sheet from here, and nothing else from anywhere.
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_CODE = re.compile(r"([^`]+|`(?![^`]*`))|`([^`]*)`")
_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("quarterdeck", "web/templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def prose(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    shown = Markup("")
    for words, code in _CODE.findall(text):
        shown += escape(words) if words else Markup("<code>{}</code>").format(code)
    return shown


_environment.filters["prose"] = prose


def page(template: str, **values: Any) -> bytes:
    """A page, made of a template."""
    return _environment.get_template(template).render(values).encode()


def static(name: str) -> bytes:
    """A file that comes with the package."""
    return (resources.files("quarterdeck") / "web" / "static" / name).read_bytes()


def fixed(request: Request, content: bytes, content_type: str, *, vary: str | None = None) -> quart.Response:
    """An answer that is the same until the next release: 304 where the caller has it already."""
    tag = hashlib.sha256(content).hexdigest()[:32]
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if vary is not None:
        headers["Vary"] = vary
    if content_type.startswith(HTML):
        headers["Content-Security-Policy"] = _POLICY
    if request.if_none_match.contains_weak(tag):
        response = quart.Response(b"", 304, headers)
        del response.headers["Content-Type"]
        del response.headers["Content-Length"]
        return response
    return quart.Response(content, 200, headers, content_type=content_type)
