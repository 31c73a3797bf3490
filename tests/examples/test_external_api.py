"""The outside API: its failures become what the example's page says, and its answers are asked for once."""

import asyncio
import contextlib
import socket

import httpx
import pytest
from hypercorn.asyncio import serve as serve_app
from hypercorn.config import Config

from examples.external_api.answers import Answers
from examples.external_api.api import make_api
from examples.external_api.app import buy, convert, deck, open_bank
from quarterdeck.testing import run_inline, workbench
from tests.support.processes import free_port
from tests.support.waiting import eventually


@pytest.fixture
async def api(monkeypatch):
    """The bank on a real port; a client to make it fail, and to ask what it saw."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config, over = Config(), asyncio.Event()
    config.bind, config.accesslog, config.errorlog = [f"fd://{listener.detach()}"], None, None
    config.graceful_timeout = 0.1
    serving = asyncio.create_task(serve_app(make_api(), config, shutdown_trigger=over.wait))
    monkeypatch.setenv("BANK_URL", url)
    monkeypatch.setenv("BANK_PATIENCE", "5")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield client
    over.set()
    await serving


@pytest.fixture
async def bank(api):
    """What the handlers share, opened as the service does."""
    async with open_bank() as bank:
        yield bank


async def faults(api, *wanted):
    (await api.post("/faults", json=list(wanted))).raise_for_status()


async def seen(api):
    return (await api.get("/seen")).json()


async def test_jobs_that_want_the_same_rate_ask_once(api, bank):
    async def run(euros):
        return (await run_inline(convert, {"euros": euros, "currency": "JPY"}, resources={"bank": bank})).result

    results = [*await asyncio.gather(run(1), run(2)), await run(100)]
    assert [result["JPY"] for result in results] == [171.5, 343, 17150]
    assert (await seen(api))["requests"] == ["GET /rates/JPY"]


async def test_an_api_that_limits_its_callers_is_asked_when_it_says(api, bank):
    await faults(api, "429 7")
    ran = await run_inline(convert, {"euros": 1, "currency": "USD"}, resources={"bank": bank})
    assert (ran.state, ran.job.attempt) == ("scheduled", 0)
    assert 7 <= ran.next_run_in <= 8
    assert (await run_inline(convert, {"euros": 1, "currency": "USD"}, resources={"bank": bank})).result["USD"] == 1.09


async def test_a_moment_in_retry_after_is_understood(api, bank):
    await faults(api, "503 Fri, 01 Jan 2100 00:00:00 GMT")
    ran = await run_inline(convert, {"euros": 1, "currency": "USD"}, resources={"bank": bank})
    assert 900 <= ran.next_run_in <= 901, "the longest snooze"


async def test_what_the_api_refuses_is_cancelled_with_its_words(api, bank):
    ran = await run_inline(convert, {"euros": 1, "currency": "XXX"}, resources={"bank": bank})
    assert (ran.state, ran.job.state_detail) == (
        "cancelled",
        "GET /rates/XXX is answered with 404: no rate for XXX",
    )


@pytest.mark.parametrize("fault", ["slow 1", "drip 10"])
async def test_an_api_that_is_too_slow_fails_the_attempt_in_time(api, monkeypatch, fault):
    monkeypatch.setenv("BANK_PATIENCE", "0.2")
    await faults(api, fault)
    async with open_bank() as bank:
        ran = await run_inline(convert, {"euros": 1, "currency": "USD"}, resources={"bank": bank})
    assert (ran.state, ran.job.state_reason, ran.next_run_in) == ("retryable", None, 1)
    assert ran.error.type in ("TimeoutError", "ReadTimeout")


async def test_a_job_outlives_failures_and_orders_once(api, database_url):
    await faults(api, "500", "429 3", "502")
    async with workbench(deck, database_url) as bench:
        handle = await buy.submit(amount=50, currency="USD")
        ended = await bench.drain(scheduled=True, failures=True)
        assert [(job.state, job.state_reason) for job in ended] == [
            ("retryable", None),
            ("scheduled", "snoozed"),
            ("retryable", None),
            ("completed", None),
        ]
        assert (await handle.job()).attempt == 3, "the snooze used up none"
        assert await handle.result() == {"order": 1, "amount": 50, "currency": "USD"}
    told = await seen(api)
    assert (len(told["requests"]), len(told["orders"])) == (4, 1)


async def test_the_commands_of_its_page_work(serve, run, monkeypatch):
    port = free_port()
    monkeypatch.setenv("BANK_URL", f"http://127.0.0.1:{port}")
    async with serve("examples.external_api.app:deck") as service:
        run(service, "examples.external_api.api", str(port))
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            await eventually(lambda: _answers(http, port), 20)
            await faults_at(http, port, "500")
            body = {"kind": "convert", "args": {"euros": 100, "currency": "JPY"}}
            answer = await http.post(f"{service.url}/v1/jobs", json=body, headers={"Prefer": "wait=20"})
        assert answer.json()["result"] == {"euros": 100, "rate": 171.5, "JPY": 17150}
        assert answer.json()["attempt"] == 2


async def faults_at(http, port, *wanted):
    (await http.post(f"http://127.0.0.1:{port}/faults", json=list(wanted))).raise_for_status()


async def _answers(http, port):
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(f"http://127.0.0.1:{port}/seen")).is_success
    return False


# The cache


async def test_answers_are_kept_for_their_time_and_no_longer():
    now, asked = [100.0], []

    async def ask():
        asked.append(now[0])
        return len(asked)

    answers = Answers(60, most=2, now=lambda: now[0])
    assert [await answers.get("a", ask), await answers.get("a", ask)] == [1, 1]
    now[0] += 60
    assert await answers.get("a", ask) == 2
    assert [await answers.get(key, ask) for key in ("b", "c", "b", "a")] == [3, 4, 3, 5], "the oldest had to go"


async def test_a_failure_is_not_kept_and_hits_all_who_waited():
    failures = [OSError("gone")]

    async def ask():
        await asyncio.sleep(0)
        if failures:
            raise failures.pop()
        return "here"

    answers = Answers(60)
    outcomes = await asyncio.gather(answers.get("a", ask), answers.get("a", ask), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [OSError, OSError]
    assert await answers.get("a", ask) == "here"


async def test_who_is_cancelled_takes_no_answer_from_others():
    gate = asyncio.Event()

    async def ask():
        await gate.wait()
        return "here"

    answers = Answers(60)
    first, second = (asyncio.create_task(answers.get("a", ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == "here"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_nothing_is_asked_any_more_once_it_is_closed():
    async def ask():
        await asyncio.sleep(60)

    answers = Answers(60)
    waiting = asyncio.create_task(answers.get("a", ask))
    await asyncio.sleep(0)
    await answers.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
