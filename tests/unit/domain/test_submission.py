import datetime as dt
import math
import uuid

import msgspec
import pytest

from quarterdeck.domain.errors import InvalidSubmit
from quarterdeck.domain.job import NewJob
from quarterdeck.domain.retry import RetryPolicy
from quarterdeck.domain.submission import (
    MAX_ARGS_BYTES,
    MAX_METADATA_BYTES,
    KindDefaults,
    Submit,
    parse,
    resolve,
)

ID = uuid.UUID(int=7)
NOON = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
LONGEST_NAME = "n" * 128
PLAIN = KindDefaults()
OF_KIND = KindDefaults(
    queue="images",
    priority=2,
    timeout=30.0,
    max_attempts=7,
    retry=RetryPolicy("fixed", base=3.0),
    ttl=60.0,
    tags=["of-kind"],
)


def submit(document: dict[str, object], defaults: KindDefaults = PLAIN, **options: str) -> NewJob:
    return resolve(parse({"kind": "k", **document}), defaults, ID, **options)


def pointers(document: dict[str, object]) -> list[str]:
    with pytest.raises(InvalidSubmit) as refused:
        submit(document)
    assert all(error.detail for error in refused.value.errors)
    return [error.pointer for error in refused.value.errors]


@pytest.mark.parametrize("document", [None, [], "text", 5, True])
def test_a_document_that_is_no_object_is_refused(document):
    with pytest.raises(InvalidSubmit, match="/: expected an object"):
        parse(document)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"kind": 5}, "/kind"),
        ({"kind": None}, "/kind"),
        ({"args": []}, "/args"),
        ({"args": None}, "/args"),
        ({"args": {1: 2}}, "/args"),
        ({"priority": 5.5}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"delay": True}, "/delay"),
        ({"delay": [1]}, "/delay"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"run_at": "2026-01-31"}, "/run_at"),
        ({"run_at": "2026-02-30T12:00:00Z"}, "/run_at"),
        ({"run_at": 1_769_860_800}, "/run_at"),
        ({"tags": "a"}, "/tags"),
        ({"tags": ["a", 5]}, "/tags/1"),
        ({"metadata": []}, "/metadata"),
        ({"retry": "fixed"}, "/retry"),
        ({"retry": {"backoff": "quadratic"}}, "/retry/backoff"),
        ({"retry": {"backoff": [1, None]}}, "/retry/backoff/1"),
        ({"retry": {"jitter": 1}}, "/retry/jitter"),
        ({"retry": {"bose": 1}}, "/retry/bose"),
        ({"kynd": "k"}, "/kynd"),
        ({"a/b": 1}, "/a~1b"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_with_its_place(document, place):
    with pytest.raises(InvalidSubmit) as refused:
        parse({"kind": "k", **document})
    assert [error.pointer for error in refused.value.errors] == [place]


def test_a_submit_without_a_kind_is_refused():
    with pytest.raises(InvalidSubmit, match="/kind: required"):
        parse({"args": {}})


@pytest.mark.parametrize(
    ("document", "places"),
    [
        ({"kind": ""}, ["/kind"]),
        ({"kind": "-a"}, ["/kind"]),
        ({"kind": "a b"}, ["/kind"]),
        ({"kind": "a\n"}, ["/kind"]),
        ({"kind": "é"}, ["/kind"]),
        ({"kind": LONGEST_NAME + "n"}, ["/kind"]),
        ({"queue": ""}, ["/queue"]),
        ({"queue": "a/b"}, ["/queue"]),
        ({"priority": -1}, ["/priority"]),
        ({"priority": 10}, ["/priority"]),
        ({"priority": 2**70}, ["/priority"]),
        ({"max_attempts": 0}, ["/max_attempts"]),
        ({"max_attempts": 1001}, ["/max_attempts"]),
        ({"delay": "soon"}, ["/delay"]),
        ({"delay": -1}, ["/delay"]),
        ({"delay": math.nan}, ["/delay"]),
        ({"delay": math.inf}, ["/delay"]),
        ({"delay": 10**400}, ["/delay"]),
        ({"delay": "3653d"}, ["/delay"]),
        ({"ttl": "-5s"}, ["/ttl"]),
        ({"timeout": 0}, ["/timeout"]),
        ({"timeout": "0s"}, ["/timeout"]),
        ({"timeout": ""}, ["/timeout"]),
        ({"delay": 1, "run_at": "2026-01-31T12:00:00Z"}, ["/delay"]),
        ({"delay": 0, "run_at": "2026-01-31T12:00:00Z"}, ["/delay"]),
        ({"ttl": 1, "expires_at": "2026-01-31T12:00:00Z"}, ["/ttl"]),
        ({"run_at": "2026-01-31T12:00:00"}, ["/run_at"]),
        ({"run_at": "1969-12-31T23:59:59Z"}, ["/run_at"]),
        ({"run_at": "9999-12-31T23:59:59Z"}, ["/run_at"]),
        ({"expires_at": "2026-01-31T12:00:00"}, ["/expires_at"]),
        ({"expires_at": "9000-01-01T00:00:00Z"}, ["/expires_at"]),
        ({"tags": ["x"] * 33}, ["/tags"]),
        ({"tags": ["", "ok", "x" * 129]}, ["/tags/0", "/tags/2"]),
        ({"tags": ["ok", "a\0"]}, ["/tags/1"]),
        ({"tags": ["\ud800"]}, ["/tags/0"]),
        ({"args": {"a": "\0"}}, ["/args/a"]),
        ({"args": {"a": {"b": "\ud800"}}}, ["/args/a/b"]),
        ({"args": {"a": 2**64}}, ["/args/a"]),
        ({"args": {"a": math.nan}}, ["/args/a"]),
        ({"args": {"a": object()}}, ["/args/a"]),
        ({"args": {"a": "x" * MAX_ARGS_BYTES}}, ["/args"]),
        ({"metadata": {"a": "x" * MAX_METADATA_BYTES}}, ["/metadata"]),
        ({"metadata": {"a/b": "\0"}}, ["/metadata/a~1b"]),
        ({"retry": {"base": "x"}}, ["/retry/base"]),
        ({"retry": {"cap": -1}}, ["/retry/cap"]),
        ({"retry": {"backoff": []}}, ["/retry/backoff"]),
        ({"retry": {"backoff": [1] * 1001}}, ["/retry/backoff"]),
        ({"retry": {"backoff": [1, "x", -2]}}, ["/retry/backoff/1", "/retry/backoff/2"]),
        ({"cache": None}, ["/cache"]),
        ({"concurrency_key": "a"}, ["/concurrency_key"]),
        ({"cache": {"ttl": 5}}, ["/cache"]),
        ({"webhook": {"url": "http://localhost"}}, ["/webhook"]),
    ],
)
def test_a_broken_rule_is_refused_with_its_place(document, places):
    assert pointers(document) == places


def test_what_comes_from_strict_json_is_not_looked_through_again_but_must_keep_its_size():
    flawed = {"kind": "k", "args": {"a": math.nan}, "metadata": {"a": "\0"}}
    assert pointers(flawed) == ["/args/a", "/metadata/a"]
    assert resolve(Submit(**flawed), PLAIN, ID).metadata == {"a": "\0"}
    large = Submit(kind="k", args={"a": "x" * MAX_ARGS_BYTES}, metadata={"a": "x" * MAX_METADATA_BYTES})
    with pytest.raises(InvalidSubmit, match=r"/args: takes 1048584 bytes.*; /metadata: takes"):
        resolve(large, PLAIN, ID)


def test_all_broken_rules_are_told_at_once():
    document = {"queue": "", "priority": 10, "delay": "soon", "tags": [""], "args": {"a": math.nan}, "cache": {}}
    assert set(pointers(document)) == {"/queue", "/priority", "/delay", "/tags/0", "/args/a", "/cache"}


@pytest.mark.parametrize(
    ("document", "field", "value"),
    [
        ({"kind": LONGEST_NAME}, "kind", LONGEST_NAME),
        ({"queue": "_a.b:c-d9"}, "queue", "_a.b:c-d9"),
        ({"priority": 0}, "priority", 0),
        ({"priority": 9}, "priority", 9),
        ({"max_attempts": 1}, "max_attempts", 1),
        ({"max_attempts": 1000}, "max_attempts", 1000),
        ({"delay": "1h30m"}, "delay", 5400.0),
        ({"delay": 0}, "delay", 0.0),
        ({"ttl": 0}, "ttl", 0.0),
        ({"timeout": "250ms"}, "timeout", 0.25),
        ({"run_at": "2026-01-31T12:00:00Z"}, "run_at", NOON),
        ({"run_at": "2026-01-31T14:00:00+02:00"}, "run_at", NOON),
        ({"run_at": NOON}, "run_at", NOON),
        ({"expires_at": "1970-01-01T00:00:00Z"}, "expires_at", dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
        ({"tags": ["x" * 128] * 32}, "tags", ["x" * 128] * 32),
        ({"tags": []}, "tags", []),
        ({"args": {"a": "x" * (MAX_ARGS_BYTES - 8)}}, "args", {"a": "x" * (MAX_ARGS_BYTES - 8)}),
        ({"metadata": {"a": "x" * (MAX_METADATA_BYTES - 8)}}, "metadata", {"a": "x" * (MAX_METADATA_BYTES - 8)}),
        ({"metadata": None}, "metadata", {}),
        ({"queue": None}, "queue", "default"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_keeps_the_rules_is_taken_as_it_is_meant(document, field, value):
    assert getattr(submit(document), field) == value


@pytest.mark.parametrize(
    ("option", "policy"),
    [
        ({}, RetryPolicy()),
        ({"backoff": "linear", "base": "5s", "cap": "1m"}, RetryPolicy("linear", base=5.0, cap=60.0)),
        ({"backoff": [0, "10s", 2.5]}, RetryPolicy((0.0, 10.0, 2.5))),
        ({"backoff": "fixed", "jitter": True}, RetryPolicy("fixed", jitter=True)),
        ({"jitter": False}, RetryPolicy(jitter=False)),
        ({"cap": 0}, RetryPolicy(cap=0.0)),
    ],
)
def test_a_retry_option_becomes_a_policy_that_survives_the_database(option, policy):
    stored = msgspec.json.encode(submit({"retry": option}).retry)
    assert msgspec.json.decode(stored, type=RetryPolicy) == policy


def test_what_is_not_given_comes_from_the_kind():
    job = submit({}, OF_KIND)
    assert (job.queue, job.priority, job.timeout, job.max_attempts) == ("images", 2, 30.0, 7)
    assert (job.ttl, job.tags) == (60.0, ["of-kind"])
    assert msgspec.convert(job.retry, RetryPolicy) == OF_KIND.retry


def test_what_is_given_wins_over_the_kind():
    document = {
        "queue": "q",
        "priority": 0,
        "timeout": 1,
        "max_attempts": 1,
        "ttl": 0,
        "tags": [],
        "retry": {"backoff": "linear"},
    }
    job = submit(document, OF_KIND)
    assert (job.queue, job.priority, job.timeout, job.max_attempts) == ("q", 0, 1.0, 1)
    assert (job.ttl, job.tags) == (0.0, [])
    assert msgspec.convert(job.retry, RetryPolicy) == RetryPolicy("linear")


def test_a_moment_of_expiry_takes_the_place_of_the_kinds_time_to_live():
    job = submit({"expires_at": NOON}, OF_KIND)
    assert (job.expires_at, job.ttl) == (NOON, None)


def test_a_job_without_options_has_the_documented_defaults():
    assert submit({"args": {"a": 1}}) == NewJob(
        id=ID,
        kind="k",
        args={"a": 1},
        queue="default",
        tenant="default",
        priority=5,
        timeout=900.0,
        max_attempts=5,
    )


def test_the_tenant_is_the_callers_and_cannot_be_submitted():
    assert submit({}, tenant="acme").tenant == "acme"
    with pytest.raises(InvalidSubmit, match="/tenant"):
        parse({"kind": "k", "tenant": "acme"})


def test_the_tags_of_a_job_are_its_own():
    assert submit({}, OF_KIND).tags is not OF_KIND.tags


def test_a_handlers_options_become_the_defaults_of_its_kind():
    options = {
        "queue": "images",
        "priority": 2,
        "timeout": "30s",
        "max_attempts": 7,
        "ttl": "1m",
        "tags": ["of-kind"],
        "retry": {"backoff": "fixed", "base": 3},
    }
    assert KindDefaults.of("k", options) == OF_KIND
    assert KindDefaults.of("k", dict.fromkeys(options)) == PLAIN


def test_a_list_of_delays_can_be_the_default_of_a_kind():
    assert KindDefaults.of("k", {"retry": {"backoff": [1, "5s"]}}).retry == RetryPolicy((1.0, 5.0))


@pytest.mark.parametrize(
    ("kind", "options", "place"),
    [
        ("k", {"timeout": 0}, "/timeout"),
        ("k", {"queue": "a b"}, "/queue"),
        ("k", {"tags": [""]}, "/tags/0"),
        ("k", {"retries": 5}, "/retries"),
        ("k", {"cache": {}}, "/cache"),
        ("a b", {}, "/kind"),
    ],
)
def test_a_handlers_option_that_breaks_a_rule_is_refused(kind, options, place):
    with pytest.raises(InvalidSubmit) as refused:
        KindDefaults.of(kind, options)
    assert [error.pointer for error in refused.value.errors] == [place]


def test_the_defaults_of_a_kind_survive_the_database():
    stored = msgspec.json.encode(msgspec.to_builtins(OF_KIND))
    assert msgspec.json.decode(stored, type=KindDefaults) == OF_KIND


def test_defaults_announced_by_a_newer_release_are_read_as_far_as_they_are_known():
    # A rolling deploy: the kind's row was written by a process that knows more options than this one.
    assert msgspec.convert({"queue": "images", "later": True}, KindDefaults) == KindDefaults(queue="images")


def test_a_submit_says_all_that_the_interface_names():
    options = {*Submit.__struct_fields__}
    assert options == {
        *("kind", "args", "queue", "priority", "run_at", "delay", "expires_at", "ttl", "timeout", "max_attempts"),
        *("retry", "unique", "concurrency_key", "cache", "webhook", "tags", "metadata"),
    }
