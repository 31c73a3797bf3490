"""What an assertion about submitted jobs says when it fails."""

import datetime as dt
import uuid

import pytest

from quarterdeck.domain.job import NewJob
from quarterdeck.engine.stored import planned
from quarterdeck.testing.submissions import check_not_submitted, check_submitted

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def job(kind="mail", queue="default", delay=None, **args):
    return planned(NewJob(id=uuid.uuid4(), kind=kind, args=args, queue=queue, delay=delay), NOW)


JOBS = [job(to="ada", lines=3), job(to="bob", queue="slow", delay=60), job("resize", url="a.png")]


@pytest.mark.parametrize(
    ("args", "fields", "fitting"),
    [
        (None, {}, [0, 1]),
        ({"to": "ada"}, {}, [0]),
        ({"lines": 3}, {"queue": "default", "priority": 5}, [0]),
        (None, {"delay": 60}, [1]),
        (None, {"delay": 60.4, "state": "scheduled"}, [1]),
        (None, {"delay": "1m", "timeout": "15m"}, [1]),
        (None, {"count": 2}, [0, 1]),
        ({"to": "eve"}, {"count": 0}, []),
    ],
)
def test_jobs_fit_by_the_arguments_and_fields_that_are_named(args, fields, fitting):
    assert check_submitted(JOBS, "mail", args, fields) == [JOBS[index] for index in fitting]


def test_a_message_tells_what_there_is_and_where_it_differs():
    with pytest.raises(AssertionError) as failed:
        check_submitted(JOBS, "mail", {"to": "eve", "copy": True}, {"queue": "fast", "delay": 5})
    assert str(failed.value) == (
        "no job was submitted with kind='mail', args={'to': 'eve', 'copy': True}, queue='fast', delay=5;"
        " there are 3 jobs:\n"
        "  mail(to='ada', lines=3) in queue 'default', available:"
        " to is 'ada', not 'eve', it has no argument copy, queue is 'default', not 'fast', delay is 0 s, not 5 s\n"
        "  mail(to='bob') in queue 'slow', scheduled:"
        " to is 'bob', not 'eve', it has no argument copy, queue is 'slow', not 'fast', delay is 60 s, not 5 s\n"
        "  resize(url='a.png') in queue 'default', available: of another kind"
    )


def test_a_message_says_when_nothing_was_submitted():
    with pytest.raises(AssertionError, match="no job was submitted with kind='mail': nothing was submitted"):
        check_submitted([], "mail", None, {})


def test_a_wrong_count_is_told_with_the_jobs():
    with pytest.raises(AssertionError) as failed:
        check_submitted(JOBS, "mail", {"to": "ada"}, {"count": 2})
    words = "2 jobs were to be submitted with kind='mail', args={'to': 'ada'}, not 1; there are 3 jobs:"
    assert str(failed.value).startswith(words)
    assert "mail(to='ada', lines=3) in queue 'default', available: fits" in str(failed.value)


def test_a_job_that_should_not_be_there_is_told():
    check_not_submitted(JOBS, "mail", {"to": "eve"}, {})
    with pytest.raises(AssertionError) as failed:
        check_not_submitted(JOBS, "mail", None, {"queue": "slow"})
    assert str(failed.value) == (
        "no job was to be submitted with kind='mail', queue='slow', and there are 1:\n"
        "  mail(to='bob') in queue 'slow', scheduled"
    )


def test_a_long_list_is_cut():
    with pytest.raises(AssertionError) as failed:
        check_submitted([job(number=number) for number in range(25)], "mail", {"number": 25}, {})
    assert str(failed.value).endswith("\n  and 15 more")


@pytest.mark.parametrize("value", ["soon", dt.timedelta(1)])
def test_a_delay_that_is_no_duration_is_a_mistake_of_the_test(value):
    with pytest.raises(ValueError, match="delay"):
        check_submitted(JOBS, "mail", None, {"delay": value})


def test_a_field_that_no_job_has_is_a_mistake_of_the_test():
    with pytest.raises(TypeError, match="a job has no field 'prio'; it has id, kind, queue"):
        check_submitted(JOBS, "mail", None, {"prio": 1})
