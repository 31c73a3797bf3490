"""What schemathesis is told of this service: kinds there are, waits that are short, and what every answer must keep."""

from __future__ import annotations

import json
import re
from typing import Any

import schemathesis

KINDS = ["quarterdeck.echo", "quarterdeck.sleep", "fail", "turn"]
"""What jobs are submitted of; see the deck."""
QUEUE = re.compile("[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")
PROBLEM = "application/problem+json"
INSIDE = re.compile(r"Traceback|\.py\b|asyncpg|postgres(ql)?://|\bselect\b.*\bfrom\b|/usr/|/home/|/tmp/", re.IGNORECASE)
"""What no answer may show of the inside."""

# Good as the description has it, and refused for what a schema cannot say.
BEYOND_SCHEMAS = re.compile(
    "unknown"
    "|given together with"
    "|is too long: a duration"
    "|must be more than 0"
    "|must be from the years"
    "|expected.*(RFC3339|datetime)|invalid RFC3339"
    "|required, and not given|unexpected argument|expected `?(float|number|int)|expected float|unknown field"
    "|there is no argument|a lone brace|the key must have"
    "|nested deeper|contains a NUL|lone surrogate|a number beyond 64 bit|out of range"
)
BEYOND_QUERIES = re.compile(
    "cursor|JSON|only together with kind or queue|must be from the years|must be a time|is no tag|more than 32 times"
)


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Narrows what is made up to what leads somewhere: kinds and problems that there are."""
    raw_schema["components"]["schemas"]["Submit"]["properties"]["kind"] = {"enum": KINDS}
    for path, item in raw_schema["paths"].items():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter["in"] == "header" and parameter["schema"] == {"type": "string"}:
                    parameter["schema"] = {}  # any text will do: there is no wrong one to be made up
                if path == "/problems/{slug}" and parameter["in"] == "path":
                    parameter["schema"] = {"enum": list(raw_schema["components"]["examples"])}


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Asks for short waits only, since no answer may take two seconds; bounds and pauses no queue that has jobs."""
    name = str((case.path_parameters or {}).get("name", ""))
    if case.method == "PATCH" and QUEUE.fullmatch(name):
        case.path_parameters["name"] = f"_aside.{name}"[:128]
    if case.headers and "wait" in str(case.headers.get("Prefer", "")):
        case.headers["Prefer"] = "wait=1"


@schemathesis.check
def problems_are_problems(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Every error is a problem that says its own status and names a page; none shows the inside."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == [PROBLEM], response.headers["content-type"]
    problem = json.loads(response.content)
    assert problem["status"] == response.status_code
    assert re.fullmatch("/problems/[a-z-]+", problem["type"])
    assert problem["title"]
    assert problem["detail"]
    assert not INSIDE.search(problem["detail"]), problem["detail"]


@schemathesis.check
def good_requests_are_refused_for_a_reason(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """What fits the description and is refused all the same breaks a rule that no schema can say."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code not in (400, 422):
        return
    problem = json.loads(response.content)
    if problem["type"] in ("/problems/unknown-kind", "/problems/idempotency-mismatch"):
        return
    if response.status_code == 400:
        assert BEYOND_QUERIES.search(problem["detail"]) or problem["type"] == "/problems/malformed-json", problem
        return
    for error in problem.get("errors", []):
        assert BEYOND_SCHEMAS.search(error["detail"]), problem
