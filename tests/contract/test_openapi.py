"""The interface's description: valid, whole, and true to the types and limits."""

import re

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from quarterdeck.bootstrap import Runtime
from quarterdeck.config import Settings
from quarterdeck.domain import duration, queue, submission
from quarterdeck.domain.errors import InvalidSubmit
from quarterdeck.web import headers, notes, problems
from quarterdeck.web.app import ENDPOINTS, create_app
from quarterdeck.web.endpoint import Media
from quarterdeck.web.openapi import common_problems, document
from quarterdeck.web.refinement import public_name
from quarterdeck.web.schemas import JobBody
from tests.contract.client import Client
from tests.support.documents import references

DOCUMENT = document(ENDPOINTS)
SCHEMAS = DOCUMENT["components"]["schemas"]
ROUTES = {f"{each.method} {each.path}": each for each in ENDPOINTS}
KEY = "the-secret-of-a-key"


def operation(route):
    method, path = route.split(" ")
    return DOCUMENT["paths"][path][method.lower()]


def validator(schema):
    """What checks values against a schema that may refer to the types."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def test_the_description_is_valid():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_reference_leads_somewhere_and_every_type_is_used():
    found = set(references(DOCUMENT))
    for reference in found:
        value = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            value = value[part]
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= found


def test_every_route_is_described_and_nothing_else():
    described = {f"{method.upper()} {path}" for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == set(ROUTES)


def test_every_route_has_a_name_of_its_own():
    names = [each.name for each in ENDPOINTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_is_described_with_all_its_parameters_answers_and_problems(route):
    each, described = ROUTES[route], operation(route)
    names = {(parameter["in"], parameter["name"]) for parameter in described["parameters"]}
    expected = {("path", name) for name in re.findall(r"\{(\w+)\}", each.path)}
    expected |= {("query", field.encode_name) for field in (msgspec.structs.fields(each.query) if each.query else ())}
    expected |= {("header", header.name) for header in headers.REQUEST.get(route, ())}
    assert names == expected
    assert ("requestBody" in described) == (each.body is not None)
    families = {*each.problems, *common_problems(each)}
    statuses = {str(status) for status in each.responses} | {str(family.status) for family in families}
    assert set(described["responses"]) == statuses
    for family in families:
        content = described["responses"][str(family.status)]["content"][problems.CONTENT_TYPE]
        assert f"/problems/{family.slug}" in content["schema"]["allOf"][1]["properties"]["type"]["enum"]


def test_every_header_that_is_described_belongs_to_a_route_and_one_of_its_answers():
    assert set(headers.REQUEST) <= set(ROUTES)
    assert {(route, status) for route, found in headers.RESPONSE.items() for status in found} <= {
        (route, status) for route, each in ROUTES.items() for status in each.responses
    }


def test_every_field_and_parameter_has_a_meaning():
    fields = [
        (name, field, of) for name, schema in SCHEMAS.items() for field, of in schema.get("properties", {}).items()
    ]
    parameters = [(route, each["name"], each) for route in ROUTES for each in operation(route)["parameters"]]
    assert [(of, name) for of, name, described in fields + parameters if not described.get("description")] == []


def test_every_note_is_about_a_type_a_field_or_a_parameter_that_is_there():
    queries = {each.query.__name__: each.query.__struct_fields__ for each in ENDPOINTS if each.query}
    fields = {f"{name}.{field}" for name, schema in SCHEMAS.items() for field in schema.get("properties", {})}
    fields |= {f"{name}.{field}" for name, found in queries.items() for field in found}
    noted = {name for name in notes.FIELDS if "." in name}
    assert {f"{public_name(name.split('.')[0])}.{name.split('.')[1]}" for name in noted} <= fields
    assert {public_name(name) for name in notes.TYPES} <= set(SCHEMAS)


def test_what_a_submit_may_say_is_what_is_accepted():
    accepted = {name for name in submission.Submit.__struct_fields__ if name not in submission._LATER}
    assert set(SCHEMAS["Submit"]["properties"]) == accepted
    assert SCHEMAS["Submit"]["additionalProperties"] is False
    assert set(SCHEMAS["Job"]["properties"]) == set(SCHEMAS["Job"]["required"]) == set(JobBody.__struct_fields__)


def accepted(body):
    try:
        submission.resolve(submission.parse(body), submission.KindDefaults(), None)
    except InvalidSubmit:
        return False
    return True


EDGES = [
    ("kind", ["a", "a" * 128, "_a.b:c-d", "0"], ["", "a" * 129, "-a", ".a", "ä", "a b", 1, None]),
    ("queue", ["a", "a" * 128, None], ["", "a" * 129, "-a", 1]),
    ("priority", [0, 9, None], [-1, 10, 1.5, "1", True]),
    ("max_attempts", [1, 1000, None], [0, 1001, 2.5, "1"]),
    ("delay", [0, 0.5, "10s", "1h30m", duration.MAX_SECONDS, None], [-1, "", "P", "PT", "10", "1m1h", 4e8, []]),
    ("ttl", ["1d", "PT10S", "P1W", "P1DT2H", "250ms"], ["1y", "P1Y", "-1s", True]),
    ("timeout", [1, "0.5s"], [-0.5, {}]),
    ("tags", [[], ["a"], ["a" * 128] * 32, None], [["a"] * 33, [""], ["a" * 129], [1], "a", {}]),
    ("metadata", [{}, {"a": [1]}, None], [[], "a", 1]),
    ("args", [{}, {"a": {"b": None}}], [[], None, "a"]),
    ("retry", [{}, {"backoff": "fixed", "base": 1}, {"backoff": ["1s", 2]}, None], [{"backoff": "x"}, {"x": 1}, []]),
    ("unique", [True, {}, {"by": ["kind"]}, {"key": "k"}, {"period": "1h"}], [1, [], {"by": []}, {"key": ""}]),
]  # fmt: skip


@pytest.mark.parametrize(("field", "good", "bad"), EDGES, ids=[edge[0] for edge in EDGES])
def test_the_limits_of_a_submit_are_those_of_the_checks(field, good, bad):
    submit = validator({"$ref": "#/components/schemas/Submit"})
    for value, expected in [*((each, True) for each in good), *((each, False) for each in bad)]:
        body = {"kind": "a", field: value}
        assert (submit.is_valid(body), accepted(body)) == (expected, expected), body


def test_a_time_without_a_zone_is_neither_described_nor_accepted():
    check = jsonschema.Draft202012Validator(
        {"type": "string", "format": "date-time"}, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for value, expected in {
        "2026-01-31T12:00:00Z": True,
        "2026-01-31T12:00:00.5+09:00": True,
        "2026-01-31T12:00:00": False,
    }.items():
        assert (check.is_valid(value), accepted({"kind": "a", "run_at": value})) == (expected, expected), value
    assert SCHEMAS["Submit"]["properties"]["run_at"]["anyOf"][0]["format"] == "date-time"


@given(st.from_regex(notes.DURATION, fullmatch=True).filter(lambda text: len(text) <= 64))
def test_every_duration_that_is_described_is_one(text):
    try:
        assert 0 <= duration.parse_duration(text) <= duration.MAX_SECONDS
    except ValueError as error:
        if "too long" not in str(error):  # how long it is, a pattern cannot say
            raise


def test_what_a_queue_cannot_do_yet_is_described_as_such():
    assert {name: SCHEMAS["QueuePatch"]["properties"][name]["type"] for name in queue.LATER} == dict.fromkeys(
        queue.LATER, "null"
    )


def test_every_example_fits_its_schema():
    for schema in SCHEMAS.values():
        for example in schema.get("examples", ()):
            validator(schema).validate(example)
    for route in ROUTES:
        for media in operation(route).get("requestBody", {}).get("content", {}).values():
            for example in media.get("examples", {}).values():
                validator(media["schema"]).validate(example["value"])
        for response in operation(route)["responses"].values():
            for media in response.get("content", {}).values():
                for example in media.get("examples", {}).values():
                    slug = example["$ref"].rpartition("/")[2]
                    validator(media["schema"]).validate(DOCUMENT["components"]["examples"][slug]["value"])


def test_every_problem_of_the_catalogue_has_an_example():
    assert set(DOCUMENT["components"]["examples"]) == {family.slug for family in problems.CATALOGUE}


def test_a_job_that_was_answered_leads_to_what_can_be_done_with_it():
    links = operation("POST /v1/jobs")["responses"]["202"]["links"]
    assert {"get_job", "get_result", "cancel_job"} <= set(links)
    for name in links:
        link = DOCUMENT["components"]["links"][name]
        assert link["parameters"] == {"id": "$response.body#/id"}


def test_what_is_not_json_is_described_by_its_media_type():
    for route, each in ROUTES.items():
        for status, answer in each.responses.items():
            alternatives = answer if isinstance(answer, tuple) else (answer,)
            media = {kind.type for kind in alternatives if isinstance(kind, Media)}
            assert media <= set(operation(route)["responses"][str(status)].get("content", {}))


@pytest.fixture
def client():
    """A client of a service that was not started: its description needs none of it."""
    return Client(create_app(Runtime(Settings())))


async def test_the_description_is_served_and_need_not_be_sent_twice(client):
    answer = await client.get("/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == DOCUMENT
    assert answer.headers["Cache-Control"] == "private, no-cache"
    again = await client.get("/openapi.json", If_None_Match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert (await client.get("/openapi.json", If_None_Match='"other"')).status == 200


async def test_a_service_with_keys_describes_that_and_keeps_its_description_to_itself():
    settings = Settings(auth="required", api_keys=f"ci:{KEY}")
    client = Client(create_app(Runtime(settings)))
    for path in ("/openapi.json", "/docs", "/docs/style.css", "/problems", "/problems/invalid"):
        (await client.get(path)).problem(401, "unauthenticated")
        assert (await client.get(path, Authorization=f"Bearer {KEY}")).status == 200
    described = (await client.get("/openapi.json", Authorization=f"Bearer {KEY}")).json
    assert described["security"] == [{"bearer": []}]
    assert described["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in described["paths"]["/v1/jobs"]["post"]
    assert "security" not in DOCUMENT


async def test_below_a_path_of_its_own_the_server_is_that_path(client):
    answer = await client.app.test_client().get("/jobs/openapi.json", root_path="/jobs")
    assert (await answer.get_json())["servers"] == [{"url": "/jobs"}]
