"""The Python client's calls against a real service."""

import asyncio
import json
import uuid
from pathlib import Path

import pytest

from quarterdeck.client import (
    BadRequest,
    Client,
    Closed,
    Conflict,
    Gone,
    IdempotencyMismatch,
    Invalid,
    JobCancelled,
    JobDiscarded,
    JobEnded,
    JobFailed,
    NotFound,
    QueueFull,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    UnknownKind,
    Unreachable,
    errors,
)
from quarterdeck.web.problems import CATALOGUE
from tests.support.processes import free_port
from tests.support.relay import relaying
from tests.support.waiting import eventually

NO_JOB = uuid.UUID("0193b5c0-0000-7000-8000-000000000000")
SECRET = "a-secret-of-some-length"
CERTIFICATE = str(Path(__file__).parents[1] / "data/tls/localhost.pem")


@pytest.fixture
async def client(service):
    async with Client(service.url) as client:
        yield client


async def test_a_job_from_submit_to_result(client):
    job = await client.submit("add", {"left": 1, "right": 2}, tags=["x"], priority=1, delay=0.01)
    assert (job.kind, job.state, job.args, job.tags, job.priority) == (
        "add",
        "scheduled",
        {"left": 1, "right": 2},
        ["x"],
        1,
    )
    assert await client.result(job.id, timeout=10) == 3
    ended = await client.wait(str(job.id), timeout=10)
    assert (ended.id, ended.state, ended.ended, ended.result) == (job.id, "completed", True, 3)
    assert await client.get(job.id) == ended
    assert ended.created_at <= ended.finalized_at


async def test_what_has_no_result_is_raised_with_the_job(client):
    failed = await client.submit("fail")
    with pytest.raises(JobDiscarded, match="was discarded: attempts_exhausted, ValueError: no such luck") as caught:
        await client.result(failed.id, timeout=10)
    assert (caught.value.job.id, caught.value.job.attempt) == (failed.id, 2)
    given_up = await client.submit("give_up")
    with pytest.raises(JobCancelled, match="no use") as caught:
        await client.result(given_up.id, timeout=10)
    assert isinstance(caught.value, JobFailed)
    assert (await client.wait(given_up.id)).state == "cancelled"


async def test_a_wait_ends_when_its_time_is_over(client, gate):
    job = await client.submit("hold")
    with pytest.raises(TimeoutError):
        await client.result(job.id, timeout=0.1)
    with pytest.raises(TimeoutError):
        await client.wait(job.id, timeout=0.1)
    gate.set()
    assert await client.result(job.id) == "let go"


async def test_cancel_and_retry(client, gate):
    job = await client.submit("hold")
    await eventually(lambda: is_in(client, job.id, "running"))
    assert (await client.cancel(job.id)).state_reason == "cancel_requested"
    assert (await client.wait(job.id)).state == "cancelled"
    assert (await client.cancel(job.id)).state == "cancelled"
    again = await client.retry(job.id)
    assert (again.id, again.generation) == (job.id, 2)
    with pytest.raises(Conflict) as caught:
        await client.retry(job.id)
    assert caught.value.status == 409
    gate.set()
    assert await client.result(job.id) == "let go"


async def is_in(client, job_id, state):
    return (await client.get(job_id)).state == state


async def test_what_a_handler_told_is_listed(client):
    job = await client.submit("report", {"steps": 3})
    await client.wait(job.id)
    lines = [(line.level, line.message) async for line in client.logs(job.id)]
    assert lines == [("info", "step 3"), ("info", "step 2"), ("info", "step 1")]
    assert [output.data async for output in client.outputs(job.id)] == [{"step": 3}, {"step": 2}, {"step": 1}]


async def test_lists_are_followed_page_by_page(client):
    job = await client.submit("report", {"steps": 70})  # 50 to a page
    await client.wait(job.id)
    assert [output.data["step"] async for output in client.outputs(job.id)] == list(range(70, 0, -1))


async def test_messages_are_published_whatever_they_are(client):
    async with client.watch(topic="t") as messages:
        published = [await client.publish("t", data) for data in ({"a": [1, "é"]}, None, 0, "text")]
        found = [await anext(messages) for _ in published]
    assert [message.id for message in found] == published == [1, 2, 3, 4]
    assert [message.data for message in found] == [{"a": [1, "é"]}, None, 0, "text"]


async def test_arguments_may_be_what_json_has_as_text(client):
    day, one = uuid.uuid4(), uuid.uuid4()
    job = await client.submit("quarterdeck.echo", {"day": day, "ids": {one}})
    assert await client.result(job.id) == {"day": str(day), "ids": [str(one)]}
    with pytest.raises(ValueError, match="JSON"):
        await client.submit("quarterdeck.echo", {"n": float("nan")})


async def test_errors_say_what_is_wrong(client, http):
    with pytest.raises(UnknownKind, match=r"refused: .*no_such_kind") as caught:
        await client.submit("no_such_kind")
    assert (caught.value.status, caught.value.slug) == (422, "unknown-kind")
    with pytest.raises(Invalid, match="/args/left: expected int, got str") as caught:
        await client.submit("add", {"left": "one", "right": 2})
    assert caught.value.problem["errors"][0]["pointer"] == "/args/left"
    for call in (client.get, client.wait, client.result, client.cancel, client.retry):
        with pytest.raises(NotFound):
            await call(NO_JOB)
    await client.submit("quarterdeck.echo", {"n": 1}, idempotency_key="same")
    with pytest.raises(IdempotencyMismatch):
        await client.submit("quarterdeck.echo", {"n": 2}, idempotency_key="same")
    job = await client.submit("add", {"left": 1, "right": 2})
    await client.wait(job.id)
    await http.delete(f"/v1/jobs/{job.id}")
    with pytest.raises((NotFound, Gone)):
        await client.get(job.id)


async def test_a_full_queue_is_waited_for_and_then_told(service, http, gate):
    await http.patch("/v1/queues/small", json={"max_depth": 1, "paused": True})
    async with Client(service.url, patience=0) as client:
        await client.submit("add", {"left": 1, "right": 2}, queue="small")
        with pytest.raises(QueueFull) as caught:
            await client.submit("add", {"left": 1, "right": 2}, queue="small")
        assert caught.value.retry_after >= 1
    async with Client(service.url) as client:
        waiting = asyncio.create_task(client.submit("add", {"left": 2, "right": 2}, queue="small"))
        await http.patch("/v1/queues/small", json={"max_depth": 2, "paused": False})
        assert await client.result((await waiting).id) == 4


async def test_a_key_is_needed_and_given(serve):
    service = await serve(auth="required", api_keys=f"me:{SECRET}")
    async with Client(service.url, SECRET) as client:
        job = await client.submit("add", {"left": 1, "right": 2})
        assert await client.result(job.id, timeout=10) == 3
    for wrong in (None, "another-secret-of-some-length"):
        async with Client(service.url, wrong) as client:
            with pytest.raises(Unauthenticated):
                await client.get(job.id)
            with pytest.raises(Unauthenticated):
                await anext(client.watch(job=job.id))


@pytest.mark.parametrize("key", [f"{SECRET}\n", f" {SECRET}\t"])
async def test_spaces_around_a_key_are_not_part_of_it(serve, key):
    service = await serve(auth="required", api_keys=f"me:{SECRET}")
    async with Client(service.url, key) as client:
        assert (await client.submit("add", {"left": 1, "right": 2})).kind == "add"


@pytest.mark.parametrize("key", ["two words of it", "s\u00e9cret-of-some-length", "a\nb"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(key):
    with pytest.raises(ValueError, match="no key has") as caught:
        Client("http://127.0.0.1:1", key)
    assert key not in str(caught.value)


async def test_a_certificate_is_believed_for_requests_and_for_the_live_channel_alike(serve, monkeypatch):
    service = await serve(certificate=CERTIFICATE)
    async with Client(service.url, patience=0) as client:
        with pytest.raises(Unreachable, match="certificate"):
            await client.submit("add", {"left": 1, "right": 2})
        with pytest.raises(Unreachable, match="certificate"):
            await anext(client.watch(all=True))
    monkeypatch.setenv("SSL_CERT_FILE", CERTIFICATE)
    async with Client(service.url) as client:
        job = await client.submit("add", {"left": 1, "right": 2})
        assert [event.event async for event in client.watch(job=job.id)][-1] == "job.completed"
        assert await client.result(job.id) == 3


async def test_the_same_submit_is_one_job_whatever_the_network_does(service, http):
    async with relaying(service.url) as relay, Client(relay.url, timeout=0.3) as client:
        relay.passes_answers = False
        submitted = asyncio.create_task(client.submit("add", {"left": 1, "right": 2}))
        await eventually(lambda: relay.connections >= 2)
        await eventually(lambda: stored(http, 1))
        (job,) = (await http.get("/v1/jobs")).json()["items"]
        relay.passes_answers = True
        assert str((await submitted).id) == job["id"]
    assert len((await http.get("/v1/jobs")).json()["items"]) == 1


class Answers:
    """A server that gives the answers it was told to, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.url = ""

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append((head[0], headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            status, extra, document = answer
            text = json.dumps(document).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n{extra}\r\n".encode() + text)
        writer.close()


def problem(status, slug):
    return {"type": f"/problems/{slug}", "title": slug, "status": status}


OK = (202, "", {"id": 7})


@pytest.mark.parametrize(
    "trouble",
    [
        None,
        (503, "", problem(503, "unavailable")),
        (503, "Retry-After: 0\r\n", problem(503, "draining")),
        (502, "", "a proxy says so"),
        (429, "Retry-After: 0\r\n", problem(429, "queue-full")),
        (409, "", problem(409, "idempotency-in-flight")),
        (408, "", problem(408, "request-timeout")),
    ],
    ids=str,
)
async def test_what_passes_is_tried_again_with_the_same_key_and_body(trouble):
    async with Answers(trouble, trouble, OK) as server, Client(server.url) as client:
        assert await client.publish("t", {"n": 1}) == 7
    assert len(server.asked) == 3
    (key,) = {headers["idempotency-key"] for _, headers, _ in server.asked}
    assert len(key) == 32
    assert {body for _, _, body in server.asked} == {b'{"n": 1}'}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, "", problem(400, "of-a-later-version")), BadRequest),
        ((500, "", problem(500, "internal")), errors.ServerError),
        ((200, "", "hello"), UnexpectedAnswer),
        ((200, "", {"id": "seven"}), UnexpectedAnswer),
        ((404, "", "not here"), UnexpectedAnswer),
        ((409, "", problem(409, "job-ended")), JobEnded),
        ((503, "Retry-After: 3600\r\n", problem(503, "unavailable")), Unavailable),
    ],
    ids=str,
)
async def test_what_does_not_pass_is_raised_at_once(answer, error):
    async with Answers(answer) as server, Client(server.url) as client:
        with pytest.raises(error):
            await client.publish("t", 1)
    assert len(server.asked) == 1


async def test_a_retry_by_hand_is_not_done_twice():
    async with Answers((503, "", problem(503, "unavailable"))) as server, Client(server.url) as client:
        with pytest.raises(Unavailable):
            await client.retry(NO_JOB)
    assert len(server.asked) == 1


async def test_the_time_that_is_tried_has_a_limit():
    began = asyncio.get_running_loop().time()
    async with Client(f"http://127.0.0.1:{free_port()}", patience=0.5) as client:
        with pytest.raises(Unreachable, match="no service can be reached at http://127"):
            await client.submit("add")
        with pytest.raises(Unreachable, match="no service can be reached"):
            await anext(client.watch(all=True))
    assert 0.3 < asyncio.get_running_loop().time() - began < 15


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", ""])
def test_what_is_no_url_is_refused_at_once(url):
    with pytest.raises(ValueError, match="is no URL"):
        Client(url)


async def test_what_is_no_key_is_refused(service, client):
    with pytest.raises(ValueError, match="no key has"):
        Client(service.url, "naïve\n")
    with pytest.raises(ValueError, match="no such request"):
        await client.submit("quarterdeck.echo", idempotency_key="two\nlines")


async def test_a_client_that_is_not_open_does_nothing(service):
    client = Client(service.url)
    with pytest.raises(Closed):
        await client.get(NO_JOB)
    async with client:
        pass
    with pytest.raises(Closed):
        client.watch(all=True)
    with pytest.raises(Closed):
        client.submit_many([])


@pytest.mark.parametrize("family", CATALOGUE, ids=lambda family: family.slug)
def test_each_family_of_problems_has_an_error_of_its_own(family):
    error = errors.error_of(family.status, {"type": f"/problems/{family.slug}", "title": family.title})
    named = errors._OF_SLUG.get(family.slug)
    if family.slug in ("job-cancelled", "job-discarded"):  # of a result: JobCancelled and JobDiscarded have the job
        assert type(error) is Conflict
    else:
        assert type(error) is named
        assert [slug for slug, kind in errors._OF_SLUG.items() if kind is named] == [family.slug]
    assert (error.status, str(error)) == (family.status, family.title)


# Many


async def numbers(count, read):
    for number in range(count):
        read.append(number)
        yield "add", {"left": number, "right": 0}


async def test_many_jobs_come_in_order(client):
    submissions = [
        *(("add", {"left": number, "right": 1}) for number in range(30)),
        {"kind": "add", "args": {"left": 30, "right": 1}, "tags": ["last"], "idempotency_key": "k"},
    ]
    jobs = [job async for job in client.submit_many(submissions, concurrency=4)]
    assert [job.args["left"] for job in jobs] == list(range(31))
    assert jobs[-1].tags == ["last"]
    assert [job async for job in client.submit_many([])] == []


async def test_no_more_is_read_than_was_taken_and_fits(client, http):
    read = []
    jobs = client.submit_many(numbers(1000, read), concurrency=4)
    for taken in range(1, 6):
        assert (await anext(jobs)).args["left"] == taken - 1
        # What was read has been stored, so that nothing but who takes the jobs holds the reading up.
        await eventually(lambda taken=taken: stored(http, taken + 3))
        assert len(read) == taken + 3
    await jobs.aclose()
    assert len(read) == 8


async def stored(http, count):
    return len((await http.get("/v1/jobs")).json()["items"]) == count


async def test_a_job_is_given_when_it_is_submitted_and_not_when_others_are(client):
    more = asyncio.Event()

    async def slow():
        yield "add", {"left": 1, "right": 2}
        await more.wait()
        yield "add", {"left": 2, "right": 2}

    jobs = client.submit_many(slow())
    async with asyncio.timeout(5):
        assert (await anext(jobs)).args["left"] == 1
        more.set()
        assert [job.args["left"] async for job in jobs] == [2]


async def test_the_first_failure_comes_in_its_place(client):
    jobs = client.submit_many([("add", {"left": 1, "right": 1}), ("no_such_kind", None), ("add", {})])
    assert (await anext(jobs)).kind == "add"
    with pytest.raises(UnknownKind):
        await anext(jobs)

    def broken():
        yield "add", {"left": 1, "right": 1}
        raise RuntimeError("the source")

    with pytest.raises(RuntimeError, match="the source"):
        [job async for job in client.submit_many(broken())]


async def test_who_leaves_or_is_cancelled_leaves_nothing_behind(service):
    read = []
    async with Client(service.url) as client:
        async for _ in client.submit_many(numbers(1000, read)):
            break
        jobs = client.submit_many(numbers(1000, read))
        await anext(jobs)
        waiting = asyncio.create_task(anext(client.submit_many(never())))
        await asyncio.sleep(0)
        cancelled = asyncio.create_task(anext(client.submit_many(never())))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    with pytest.raises(Closed):
        await waiting
    with pytest.raises(Closed):
        async for _ in jobs:
            pass
    assert len(read) < 100


async def never():
    await asyncio.Event().wait()
    yield "add", {}
