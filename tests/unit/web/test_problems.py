import msgspec
import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge

from quarterdeck.domain.errors import Draining, FieldError, InvalidSubmit, JobNotFound, Unavailable, UnknownKind
from quarterdeck.web import problems
from quarterdeck.web.problems import CATALOGUE, Family, Refusal, refusal_of


def test_the_catalogue_has_every_family_once():
    families = [value for value in vars(problems).values() if isinstance(value, Family)]
    assert sorted(families, key=id) == sorted(CATALOGUE, key=id)
    assert len({family.slug for family in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize(
    ("error", "status", "slug", "headers"),
    [
        (InvalidSubmit([FieldError("/a", "no")]), 422, "invalid", {}),
        (UnknownKind("a"), 422, "unknown-kind", {}),
        (JobNotFound("no"), 404, "not-found", {}),
        (Unavailable("out"), 503, "unavailable", {"Retry-After": "1"}),
        (Draining("out"), 503, "draining", {"Retry-After": "1"}),
        (NotFound(), 404, "not-found", {}),
        (MethodNotAllowed(["PUT", "GET"]), 405, "method-not-allowed", {"Allow": "GET, PUT"}),
        (RequestEntityTooLarge(), 413, "body-too-large", {}),
        (ZeroDivisionError("by zero"), 500, "internal", {}),
    ],
)
def test_an_error_becomes_its_problem(error, status, slug, headers):
    refusal = refusal_of(error)
    document = msgspec.json.decode(refusal.body())
    assert list(document)[:4] == ["type", "title", "status", "detail"]
    assert (refusal.status, document["status"], document["type"]) == (status, status, f"/problems/{slug}")
    assert refusal.headers == {"Content-Type": "application/problem+json", **headers}
    assert "by zero" not in refusal.body().decode()


def test_what_was_sent_is_quoted_in_part_only():
    refusal = Refusal(problems.INVALID, "x" * 10_000, errors=[FieldError("/" + "y" * 10_000, "z" * 10_000)])
    assert len(refusal.body()) < 2000
