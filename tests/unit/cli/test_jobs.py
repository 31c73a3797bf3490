"""`qd jobs list` and `qd jobs retry`: what they ask for, and what they print."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from quarterdeck.cli import exits, jobs
from quarterdeck.cli.main import run
from tests.unit.cli.test_api import no_environment, service  # noqa: F401 (fixtures)

JOB = {
    "id": "some-id",
    "kind": "add",
    "queue": "default",
    "state": "completed",
    "state_reason": None,
    "attempt": 1,
    "max_attempts": 5,
    "priority": 5,
    "created_at": "2026-01-31T12:00:00.000Z",
    "generation": 2,
}


def page(count, cursor=None):
    return 200, {"items": [JOB] * count, "next": cursor}


def asked(server):
    return [parse_qs(urlsplit(path).query) for _, path, _, _ in server.requests]


def listed(server, *arguments):
    return run(["jobs", "list", "--url", server.url, *arguments])


def test_filters_are_passed_on_as_they_are(service):  # noqa: F811 (the fixture)
    service.answers = [page(0)]
    arguments = (
        "--state",
        "running",
        "--state",
        "retryable",
        "--tag",
        "a",
        "--tag",
        "b c",
        "--kind",
        "k",
        "--queue",
        "q",
    )
    times = ("--created-after", "2026-01-31T12:00:00+09:00", "--created-before", "2026-02-01T00:00:00Z")
    assert listed(service, *arguments, *times, "--workflow", "w", "--args", '{"a": 1}', "--limit", "7") == exits.DONE
    assert asked(service) == [
        {
            "state": ["running", "retryable"],
            "tag": ["a", "b c"],
            "kind": ["k"],
            "queue": ["q"],
            "created_after": ["2026-01-31T12:00:00+09:00"],
            "created_before": ["2026-02-01T00:00:00Z"],
            "workflow_id": ["w"],
            "args": ['{"a": 1}'],
            "limit": ["7"],
        }
    ]


def test_pages_are_followed_until_there_are_as_many_as_were_asked_for(service, capsys):  # noqa: F811
    service.answers = [page(200, "one"), page(0, "two"), page(50, "three")]
    assert listed(service, "--limit", "250", "--json") == exits.DONE
    printed = json.loads(capsys.readouterr().out)
    assert (len(printed["items"]), printed["next"]) == (250, "three")
    assert [(query.get("cursor"), query["limit"]) for query in asked(service)] == [
        (None, ["200"]),
        (["one"], ["50"]),
        (["two"], ["50"]),
    ]


def test_all_goes_on_to_the_end(service, capsys):  # noqa: F811
    service.answers = [page(200, "one"), page(3, "two"), page(1)]
    assert listed(service, "--all", "--json") == exits.DONE
    printed = json.loads(capsys.readouterr().out)
    assert (len(printed["items"]), printed["next"]) == (204, None)


def test_even_all_ends_somewhere(service, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(jobs, "MOST_PAGES", 3)
    service.answers = [page(0, "on")]
    assert listed(service, "--all") == exits.DONE
    assert len(service.requests) == 3
    assert "--cursor on" in capsys.readouterr().err


def test_people_get_a_table(service, capsys):  # noqa: F811
    service.answers = [(200, {"items": [{**JOB, "kind": "a\x1bb", "state_reason": "timeout"}], "next": None})]
    assert listed(service) == exits.DONE
    out, err = capsys.readouterr()
    for text in ("some-id", "a\\x1bb", "completed (timeout)", "1 of 5", "2026-01-31T12:00:00.000Z"):
        assert text in out
    assert err == ""


@pytest.mark.parametrize(
    "arguments", [["--limit", "0"], ["--limit", "10001"], ["--state", "done"], ["--limit", "many"], ["what"]]
)
def test_wrong_usage_is_exit_code_2_and_asks_nobody(service, arguments, capsys):  # noqa: F811
    assert listed(service, *arguments) == exits.WRONG_USAGE
    assert service.requests == []
    assert capsys.readouterr().err.startswith("qd: ")


def test_a_refusal_is_exit_code_3(service, capsys):  # noqa: F811
    service.answers = [(400, {"type": "/problems/bad-query", "title": "t", "status": 400, "detail": "no such kind"})]
    assert listed(service, "--kind", "a b") == exits.NO_SERVICE
    assert "no such kind" in capsys.readouterr().err


def test_retry_asks_for_it_and_says_what_became_of_the_job(service, capsys):  # noqa: F811
    service.answers = [(200, {**JOB, "state": "available"})]
    assert run(["jobs", "retry", "--url", service.url, "some/id"]) == exits.DONE
    assert [(method, path) for method, path, _, _ in service.requests] == [("POST", "/v1/jobs/some%2Fid/retry")]
    assert capsys.readouterr().out == "some-id is available, generation 2\n"
    assert run(["jobs", "retry", "--url", service.url, "some-id", "--json"]) == exits.DONE
    assert json.loads(capsys.readouterr().out) == {**JOB, "state": "available"}
