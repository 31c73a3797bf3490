"""run_inline: one attempt of a handler goes as it does in the service, without one."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from quarterdeck import Cancel, InvalidSubmit, JobContext, Quarterdeck, Snooze, Unavailable, UnknownKind
from quarterdeck.testing import Line, Published, run_inline

deck = Quarterdeck()
deck.resources["greeting"] = "hello"


@deck.resource("api")
async def api():
    yield "opened by a service"


@deck.handler()
async def greet(ctx: JobContext, name: str, day: dt.date | None = None) -> dict:
    return {"said": f"{ctx.resources['greeting']} {name}", "days": (day,)[:0], "attempt": ctx.job.attempt}


@deck.handler(max_attempts=3, retry={"backoff": "fixed", "base": 7})
async def fail(message: str = "no such luck") -> None:
    raise ConnectionError(message)


@deck.handler(max_attempts=3)
async def fail_with_jitter() -> None:
    raise ValueError


@deck.handler()
async def steer(how: str) -> Snooze | Cancel:
    return Snooze(30) if how == "snooze" else Cancel("no use")


@deck.handler(timeout=0.02)
async def sleep() -> None:
    await asyncio.sleep(60)


@deck.handler()
async def tidy(ctx: JobContext) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await ctx.log(f"told to stop: {ctx.cancelled}")
        raise
    return "never"


@deck.handler()
async def tell(ctx: JobContext) -> None:
    for done in range(30):
        await ctx.progress(done / 30, f"{done} of 30")
    await ctx.log("halfway", level="warning")
    await ctx.output({"part": (1, 2)})
    await ctx.output("\ud800")
    await ctx.publish("prices", {"acme": 7})


@deck.handler()
async def double(number: int) -> int:
    return 2 * number


@deck.handler(queue="sums", tags=["sum"])
async def sum_of_doubles(numbers: list[int]) -> int:
    return sum(await deck.gather(*(double.submit(number=number) for number in numbers)))


@deck.handler()
async def submit_twice(ctx: JobContext) -> bool:
    first = await ctx.submit("double", {"number": 1}, unique=True)
    second = await double.options(unique=True, delay="10s").submit(number=1)
    await first.cancel()
    return first.id == second.id


async def test_what_the_handler_returns_comes_back_from_json():
    ran = await run_inline(greet, {"name": "ada"})
    assert ran.result == {"said": "hello ada", "days": [], "attempt": 1}
    assert (ran.state, ran.job.state_reason, ran.error, ran.exception) == ("completed", None, None, None)
    assert ran.job.finalized_at is not None


async def test_arguments_reach_the_handler_as_json_has_them():
    @deck.handler("type_of")
    async def type_of(value: Any) -> str:
        return type(value).__name__

    assert (await run_inline(type_of, {"value": (1, 2)})).result == "list"


async def test_resources_of_the_test_are_put_over_those_of_the_deck():
    assert (await run_inline(greet, {"name": "ada"}, resources={"greeting": "ahoy"})).result["said"] == "ahoy ada"
    assert deck.resources == {"greeting": "hello"}


async def test_a_resource_that_only_a_service_opens_is_asked_for_in_words():
    other = Quarterdeck()
    other.resource("api")(api)

    @other.handler()
    async def call(ctx: JobContext) -> str:
        return ctx.resources["api"]

    ran = await run_inline(call)
    assert "give the test one, resources={'api': …}" in ran.error.message
    assert (await run_inline(call, resources={"api": "mine"})).result == "mine"


@pytest.mark.parametrize(
    ("args", "pointer"),
    [
        ({}, "/args/name"),
        ({"name": 7}, "/args/name"),
        ({"name": "ada", "age": 7}, "/args/age"),
        ({"name": "ada", "day": "tomorrow"}, "/args/day"),
        ({"name": "ada", "day": dt.date(2026, 1, 1)}, "/args/day"),  # no JSON value
        ({"name": "a\0b"}, "/args/name"),
    ],
)
async def test_arguments_that_a_service_would_refuse_are_refused(args, pointer):
    with pytest.raises(InvalidSubmit) as refused:
        await run_inline(greet, args)
    assert [error.pointer for error in refused.value.errors] == [pointer]


async def test_options_are_those_of_a_submit():
    @deck.handler("look")
    async def look(ctx: JobContext) -> list:
        left = (ctx.deadline - dt.datetime.now(dt.UTC)).total_seconds()
        return [ctx.job.queue, ctx.job.tags, round(left), ctx.job.state, str(ctx.job.id)]

    ran = await run_inline(look, queue="fast", tags=["a"], timeout="90s")
    assert ran.result == ["fast", ["a"], 90, "running", str(ran.job.id)]
    assert ran.job.id.version == 7
    with pytest.raises(InvalidSubmit, match="/priority: must be from 0 to 9"):
        await run_inline(look, priority=10)


async def test_a_failed_attempt_is_tried_again_as_its_policy_says():
    ran = await run_inline(fail)
    assert (ran.state, ran.next_run_in, ran.job.attempt) == ("retryable", 7, 1)
    assert isinstance(ran.exception, ConnectionError)
    assert (ran.error.type, ran.error.message, ran.error.attempt) == ("ConnectionError", "no such luck", 1)
    assert "raise ConnectionError(message)" in ran.error.traceback


async def test_the_last_attempt_ends_the_job():
    ran = await run_inline(fail, attempt=3)
    assert (ran.state, ran.job.state_reason, ran.next_run_in) == ("discarded", "attempts_exhausted", None)
    with pytest.raises(ValueError, match="the job is tried 3 times"):
        await run_inline(fail, attempt=4)


async def test_with_jitter_the_longest_delay_is_told():
    assert [(await run_inline(fail_with_jitter, attempt=n)).next_run_in for n in (1, 2)] == [2, 4]


async def test_the_result_of_a_job_that_did_not_complete_is_an_assertion_with_its_cause():
    ran = await run_inline(fail, {"message": "the mail server does not answer"})
    with pytest.raises(AssertionError) as failed:
        ran.result  # noqa: B018 - a property that raises
    assert str(failed.value) == (
        "the attempt did not complete the job: it is retryable and runs again in 7 s:"
        " ConnectionError: the mail server does not answer"
    )
    assert failed.value.__cause__ is ran.exception


async def test_snooze_and_cancel_are_told_as_states():
    snoozed = await run_inline(steer, {"how": "snooze"})
    assert (snoozed.state, snoozed.job.state_reason, snoozed.next_run_in) == ("scheduled", "snoozed", 30)
    assert snoozed.job.attempt == 0, "refunded"
    cancelled = await run_inline(steer, {"how": "cancel"})
    assert (cancelled.state, cancelled.job.state_detail) == ("cancelled", "no use")
    with pytest.raises(AssertionError, match="it is cancelled: no use"):
        cancelled.result  # noqa: B018


async def test_the_time_limit_holds():
    ran = await run_inline(sleep)
    assert (ran.state, ran.job.state_reason) == ("retryable", "timeout")
    assert (ran.error.type, ran.error.message) == ("TimeoutError", "no result within 0.02 s")


async def test_a_cancel_reaches_the_handler_at_its_next_await():
    ran = await run_inline(tidy, cancel_after=0)
    assert (ran.state, ran.job.state_reason) == ("cancelled", "cancel_requested")
    assert ran.logs == [Line("info", "told to stop: True")]


async def test_a_result_that_is_not_json_fails_the_attempt():
    @deck.handler("wrong")
    async def wrong() -> object:
        return object()

    ran = await run_inline(wrong)
    assert (ran.state, ran.error.type) == ("retryable", "ResultError")


async def test_all_that_the_handler_tells_is_kept_in_order():
    ran = await run_inline(tell)
    assert [told.message for told in ran.progress] == [f"{done} of 30" for done in range(30)]
    assert ran.logs == [Line("warning", "halfway")]
    assert ran.outputs == [{"part": [1, 2]}, "\ud800"]
    assert ran.published == [Published("prices", {"acme": 7})]
    assert bytes(ran.job.progress) == b'{"fraction":0.9666666666666667,"message":"29 of 30"}'
    assert ran.job.seq == 2 + 30 + 1 + 2 + 1


async def test_the_limits_on_what_is_told_hold():
    @deck.handler("much")
    async def much(ctx: JobContext) -> None:
        for _ in range(1001):
            await ctx.output(1)

    ran = await run_inline(much)
    assert ran.error.message == "an attempt may put out 1000 values"
    assert len(ran.outputs) == 1000


async def test_what_the_handler_submits_is_checked_and_noted():
    ran = await run_inline(sum_of_doubles, {"numbers": [1, 2, 3]}, results={"double": lambda number: 2 * number})
    assert ran.result == 12
    assert [job.args["number"] for job in ran.submitted] == [1, 2, 3]
    ran.assert_submitted(double, {"number": 2}, queue="default", count=1)
    ran.assert_not_submitted(double, {"number": 4})


async def test_a_job_that_the_test_gives_no_result_for_cannot_be_waited_for():
    ran = await run_inline(sum_of_doubles, {"numbers": [1]})
    assert "waits for a job of kind 'double', which is noted and not run" in str(ran.exception)


async def test_a_unique_job_is_noted_once():
    ran = await run_inline(submit_twice)
    assert ran.result is True
    (job,) = ran.submitted
    assert job.state == "cancelled"


async def test_a_bad_submit_fails_the_handler_as_in_the_service():
    @deck.handler("careless")
    async def careless(ctx: JobContext, kind: str) -> None:
        await ctx.submit(kind, {"number": "two"})

    ran = await run_inline(careless, {"kind": "double"})
    assert isinstance(ran.exception, InvalidSubmit)
    ran = await run_inline(careless, {"kind": "unheard_of"})
    assert isinstance(ran.exception, UnknownKind)
    assert "elsewhere=['unheard_of']" in ran.exception.__notes__[0]
    ran = await run_inline(careless, {"kind": "unheard_of"}, elsewhere=["unheard_of"])
    ran.assert_submitted("unheard_of", {"number": "two"})


async def test_handlers_run_beside_each_other_without_mixing_what_they_submit():
    runs = [run_inline(sum_of_doubles, {"numbers": [number]}, results={"double": 0}) for number in range(20)]
    for number, ran in enumerate(await asyncio.gather(*runs)):
        assert [job.args["number"] for job in ran.submitted] == [number]


async def test_the_deck_is_not_left_open_for_submits():
    await run_inline(greet, {"name": "ada"})
    with pytest.raises(Unavailable):
        await double.submit(number=1)


@pytest.mark.parametrize("what", ["greet", asyncio.sleep, deck])
async def test_only_a_handler_can_be_run(what):
    with pytest.raises(TypeError, match=r"no handler.*@deck.handler"):
        await run_inline(what, {"name": "ada"})


async def test_a_test_that_is_cancelled_takes_its_handler_along():
    begun, ended = asyncio.Event(), asyncio.Event()

    @deck.handler("linger")
    async def linger() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    running = asyncio.create_task(run_inline(linger))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
