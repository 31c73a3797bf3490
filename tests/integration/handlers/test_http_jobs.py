"""`quarterdeck.http` as its users meet it: jobs over REST, a service of its own, and servers that it calls."""

import asyncio
import datetime as dt
from email.utils import format_datetime
from time import monotonic

import httpx
import pytest

from tests.support.processes import free_port, running_service
from tests.support.waiting import eventually
from tests.support.web_servers import reply, web_server

AT_ONCE = {"backoff": [0.05], "jitter": False}


class Answers:
    """Answers by the path, and remembers when each was asked."""

    def __init__(self):
        self.times = {}

    async def __call__(self, asked, writer):
        times = self.times.setdefault(asked.target, [])
        times.append(monotonic())
        match asked.target:
            case "/ok":
                writer.write(reply(200, b'{"order": 7}', {"Content-Type": "application/json"}))
            case "/never":
                await asyncio.Event().wait()
            case "/later" | "/date" | "/soon" if len(times) > 1:
                writer.write(reply(200, b"at last"))
            case "/later":
                writer.write(reply(503, b"", {"Retry-After": "1"}))
            case "/date":
                when = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
                writer.write(reply(429, b"", {"Retry-After": format_datetime(when, usegmt=True)}))
            case "/soon":
                writer.write(reply(500))
            case status:
                writer.write(reply(int(status.removeprefix("/")), b"because"))


@pytest.fixture
async def service(tmp_path, database_url):
    settings = {"QUARTERDECK_DATABASE_URL": database_url, "QUARTERDECK_ALLOW_PRIVATE_TARGETS": "127.0.0.1"}
    async with running_service(tmp_path, settings=settings) as service:
        yield service


@pytest.fixture
async def rest(service):
    async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def run(rest):
    """Submits a call and waits for the end of its job."""

    async def run(url, *, options=None, **args):
        body = {"kind": "quarterdeck.http", "args": {"url": url, **args}, "retry": AT_ONCE, **(options or {})}
        answer = await rest.post("/v1/jobs", json=body, headers={"Prefer": "wait=20"})
        assert answer.is_success, answer.text
        return answer.json()

    return run


async def test_calls_are_made_refused_given_up_and_tried_again(rest, run):
    answers = Answers()
    async with web_server(answers) as server, web_server(host="127.0.0.2", port=server.port) as sink:
        done, refused, *given_up = await asyncio.gather(
            run(server.url("/ok"), json={"item": "rope"}),
            run(sink.url(host="127.0.0.2")),
            *(run(server.url(f"/{status}")) for status in (302, 404, 489)),
        )
        assert (done["state"], done["timeout"], done["attempt"]) == ("completed", 60, 1)
        assert done["result"]["json"] == {"order": 7}
        assert set(done["result"]) == {"status", "headers", "json", "elapsed"}
        (first,) = [asked for asked in server.asked if asked.target == "/ok"]
        assert first.headers["idempotency-key"] == done["id"]
        assert first.headers["quarterdeck-fence"] == "1"

        assert (refused["state"], refused["state_reason"], refused["attempt"]) == ("discarded", "rejected", 1)
        assert refused["state_detail"].startswith("127.0.0.2 is not on the public Internet")
        assert [error["type"] for error in refused["errors"]] == ["TargetRefused"]
        assert sink.connections == 0

        for job, status in zip(given_up, (302, 404, 489), strict=True):
            assert (job["state"], job["state_reason"], job["attempt"]) == ("discarded", "rejected", 1)
            assert f"was answered {status}" in job["state_detail"]
            assert [error["type"] for error in job["errors"]] == ["AnswerRefused"]
            assert "because" in job["errors"][0]["traceback"]
            assert "because" not in job["state_detail"]
            assert len(answers.times[f"/{status}"]) == 1


async def test_a_failed_call_is_tried_again_no_sooner_than_the_server_asks(rest, run):
    answers = Answers()
    nobody = f"http://127.0.0.1:{free_port()}/"
    async with web_server(answers) as server:
        later, date, soon, gone, slow = await asyncio.gather(
            run(server.url("/later")),
            run(server.url("/date")),
            run(server.url("/soon")),
            run(nobody, options={"max_attempts": 2}),
            run(server.url("/never"), options={"max_attempts": 1, "timeout": 0.3}),
        )
        for job in (later, date, soon):
            assert (job["state"], job["attempt"], job["result"]["body"]) == ("completed", 2, "at last")
            assert [error["type"] for error in job["errors"]] == ["AnswerAsksForRetry"]
        pauses = {path: times[1] - times[0] for path, times in answers.times.items() if len(times) == 2}
        assert pauses["/later"] >= 1
        assert pauses["/date"] >= 1, "a date has whole seconds"
        asked = [asked for asked in server.asked if asked.target == "/soon"]
        assert [each.headers["quarterdeck-fence"] for each in asked] == ["1", "2"]
        assert {each.headers["idempotency-key"] for each in asked} == {soon["id"]}
        assert (gone["state"], gone["state_reason"], gone["attempt"]) == ("discarded", "attempts_exhausted", 2)
        assert (slow["state"], slow["state_reason"]) == ("discarded", "timeout")


async def test_a_job_that_is_cancelled_hangs_up(rest, run):
    async with web_server(Answers()) as server:
        body = {"kind": "quarterdeck.http", "args": {"url": server.url("/never")}}
        job = (await rest.post("/v1/jobs", json=body)).json()
        await eventually(lambda: server.asked)
        await rest.post(f"/v1/jobs/{job['id']}/cancel")
        await eventually(lambda: not server.open)
        ended = (await rest.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=10"})).json()
        assert (ended["state"], ended["state_reason"]) == ("cancelled", "cancel_requested")


async def test_what_does_not_fit_is_refused_at_submit_and_the_schema_says_what_does(rest):
    async def pointers(**args):
        answer = await rest.post("/v1/jobs", json={"kind": "quarterdeck.http", "args": args})
        assert answer.status_code == 422, answer.text
        return [error["pointer"] for error in answer.json()["errors"]]

    assert await pointers(url="ftp://example.com/") == ["/args/url"]
    assert await pointers(url="http://user@example.com/") == ["/args/url"]
    assert await pointers(url="http://example.com/", json=1, body="1") == ["/args/body"]
    assert await pointers() == ["/args/url"]
    kinds = (await rest.get("/v1/kinds")).json()["items"]
    (kind,) = [kind for kind in kinds if kind["name"] == "quarterdeck.http"]
    assert kind["schema"]["properties"]["method"]["anyOf"][0]["enum"][0] == "DELETE"
