"""What is counted, within which bounds, and how it reads."""

import math
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from quarterdeck.telemetry import log, metrics
from quarterdeck.telemetry.catalogue import CATALOGUE, PREFIX
from quarterdeck.telemetry.metrics import MAX_PAIRS, MAX_VALUES, Metrics
from quarterdeck.telemetry.tallies import OTHER, Cap, Histogram


@pytest.fixture
def counted():
    return Metrics("1.2.3")


def samples(counted, gauges=None, written="text"):
    """Every sample by its name and labels, without the prefix."""
    parse = parse_text if written == "text" else parse_openmetrics
    text = counted.render(written, gauges or {}).decode()
    return {
        (sample.name.removeprefix(PREFIX), *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_what_is_declared_is_well_formed():
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert (metric.type == "counter") == metric.name.endswith("_total"), metric.name
        assert bool(metric.bounds) == (metric.type == "histogram"), metric.name
        assert list(metric.bounds) == sorted(set(metric.bounds)), metric.name
        assert "\n" not in metric.help


@pytest.mark.parametrize("written", ["text", "openmetrics"])
def test_every_metric_is_declared_and_every_declared_one_without_labels_is_there_from_the_start(counted, written):
    parse = parse_text if written == "text" else parse_openmetrics
    gauges = {metric.name: {metric.labels: 1.0} for metric in CATALOGUE if metric.type == "gauge"}
    families = {family.name: family for family in parse(counted.render(written, gauges).decode())}
    for metric in CATALOGUE:
        family = families.pop(PREFIX + metric.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.type, metric.help)
        assert bool(family.samples) == (metric.type == "gauge" or not metric.labels), metric.name
    assert not families


def test_a_job_is_counted_on_its_whole_way(counted):
    for _ in range(3):
        counted.submitted("mail", "send", "stored")
        counted.started("mail", "send", 0.02)
    counted.submitted("mail", "send", "handed_off")
    counted.finished("mail", "send", "completed", 0.3, 0.4)
    counted.finished("mail", "send", "retryable", 0.3, None)
    counted.finished("mail", "send", "interrupted", None, None)
    found = samples(counted)
    lane = (("kind", "send"), ("queue", "mail"))
    assert found["jobs_submitted_total", ("how", "stored"), *lane] == 3
    assert found["jobs_submitted_total", ("how", "handed_off"), *lane] == 1
    assert found["jobs_started_total", *lane] == 3
    outcomes = {
        key[-1][1] if key[-1][0] == "outcome" else key[2][1] for key in found if key[0] == "jobs_finished_total"
    }
    assert outcomes == {"completed", "retryable", "interrupted"}
    assert found["job_wait_seconds_count", ("queue", "mail")] == 3
    assert found["job_wait_seconds_sum", ("queue", "mail")] == pytest.approx(0.06)
    assert found["job_run_seconds_count", ("kind", "send")] == 2
    assert found["job_total_seconds_count", ("queue", "mail")] == 1


def test_everything_else_is_counted_too(counted):
    counted.moved("promoted", ["a", "a", "b"])
    counted.end_refused()
    counted.abandoned("stubborn")
    counted.beat_failed()
    counted.database_failed("57")
    counted.lagged(0.5)
    counted.statement("claim_jobs", 0.004, 100)
    counted.statement("claim_jobs", 0.004, 0)
    found = samples(counted)
    assert found["jobs_promoted_total", ("queue", "a")] == 2
    assert found["jobs_promoted_total", ("queue", "b")] == 1
    assert found[("ends_refused_total",)] == found[("beats_failed_total",)] == 1
    assert found["handlers_abandoned_total", ("kind", "stubborn")] == 1
    assert found["database_errors_total", ("class", "57")] == 1
    assert found[("event_loop_lag_seconds_count",)] == 1
    assert found["statement_seconds_count", ("statement", "claim_jobs")] == 2
    assert found["statement_rows_sum", ("statement", "claim_jobs")] == 100
    assert found["statement_rows_bucket", ("le", "0.0"), ("statement", "claim_jobs")] == 1


def test_requests_are_counted_by_template_method_and_class_of_status(counted):
    counted.answered("GET", "/v1/jobs/{id}", 200, 0.01)
    counted.answered("GET", "/v1/jobs/{id}", 304, 0.01)
    counted.answered("BREW", None, 404, 0.01)
    counted.answered("GET", "/livez", None, 0.01)
    found = {
        tuple(dict(key[1:])[label] for label in ("method", "route", "status"))
        for key in samples(counted)
        if key[0] == "http_request_seconds_count"
    }
    assert found == {
        ("GET", "/v1/jobs/{id}", "2xx"),
        ("GET", "/v1/jobs/{id}", "3xx"),
        (OTHER, OTHER, "4xx"),
        ("GET", "/livez", "none"),
    }


@pytest.mark.parametrize(
    ("value", "bucket"), [(-1.0, "1.0"), (0.0, "1.0"), (1.0, "1.0"), (1.1, "2.0"), (2.0, "2.0"), (9.0, "+Inf")]
)
def test_an_observation_falls_into_the_first_bucket_that_holds_it(value, bucket):
    histogram = Histogram((1.0, 2.0))
    histogram.observe(value)
    buckets, total = histogram.read()
    assert next(bound for bound, count in buckets if count) == bucket
    assert buckets[-1] == ("+Inf", 1)
    assert total == max(0.0, value)


def test_a_label_has_no_more_values_than_its_cap():
    cap = Cap(2)
    assert [cap(value) for value in "abcabc"] == ["a", "b", OTHER, "a", "b", OTHER]


def test_queues_and_kinds_without_end_make_no_series_without_end(counted):
    for number in range(1500):
        counted.submitted(f"queue-{number}", f"kind-{number}", "stored")
        counted.started(f"queue-{number % 300}", f"kind-{number % 299}", 0.1)
        counted.moved("expired", [f"queue-{number}"])
        counted.abandoned(f"kind-{number}")
    found = samples(counted)
    queues = {dict(key[1:]).get("queue") for key in found} - {None}
    kinds = {dict(key[1:]).get("kind") for key in found} - {None}
    assert len(queues) == len(kinds) == MAX_VALUES + 1
    pairs = [key for key in found if key[0] == "jobs_started_total"]
    assert len(pairs) <= MAX_PAIRS + MAX_VALUES + 1
    assert len(counted._lanes) <= MAX_PAIRS + MAX_VALUES + 1
    assert sum(found[key] for key in pairs) == 1500
    assert sum(value for key, value in found.items() if key[0] == "jobs_submitted_total") == 1500


def test_two_in_one_process_do_not_see_each_other(counted):
    other = Metrics("1.2.3")
    counted.end_refused()
    assert samples(counted)[("ends_refused_total",)] == 1
    assert samples(other)[("ends_refused_total",)] == 0


def test_an_own_metric_can_be_added_to_the_registry(counted):
    from prometheus_client import Counter  # noqa: PLC0415 (used here only)

    Counter("thumbnails", "Made", registry=counted.registry).inc()
    assert samples(counted)[("thumbnails_total",)] == 1


def test_the_version_and_the_dropped_lines_are_there(counted, monkeypatch):
    monkeypatch.setattr(log._writer, "_dropped", 7)
    found = samples(counted)
    assert found["build_info", ("version", "1.2.3")] == 1
    assert found[("log_lines_dropped_total",)] == 7


def test_labels_are_escaped(counted):
    counted.database_failed('a"b\\c\nd')
    assert samples(counted)["database_errors_total", ("class", 'a"b\\c\nd')] == 1


@pytest.mark.parametrize("written", ["text", "openmetrics"])
def test_what_is_read_while_it_is_counted_adds_up(counted, written):
    over = threading.Event()

    def count() -> None:
        number = 0
        while not over.is_set():
            number += 1
            counted.started(f"queue-{number % 10}", "k", 0.001 * (number % 7))
            counted.finished("q", f"kind-{number % 9}", "completed", 0.1, 0.1)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        seen = 0.0
        for _ in range(5):
            found = samples(counted, written=written)
            for key, value in found.items():
                if key[0] == "job_wait_seconds_count":
                    assert value == found["job_wait_seconds_bucket", ("le", "+Inf"), *key[1:]]
            total = sum(value for key, value in found.items() if key[0] == "jobs_finished_total")
            assert total >= seen
            assert not math.isnan(total)
            seen = total
        assert seen > 0
    finally:
        over.set()
        thread.join()


def test_nothing_is_rendered_under_a_name_that_is_not_declared(counted):
    text = counted.render("text", {"unheard_of": {(): 1.0}}).decode()
    assert "unheard_of" not in text
    assert all(line.split("{")[0].startswith(PREFIX) for line in text.splitlines() if not line.startswith("#"))


def test_the_types_of_the_answers_are_prometheus_own():
    assert metrics.CONTENT_TYPES["text"].startswith("text/plain; version=0.0.4")
    assert metrics.CONTENT_TYPES["openmetrics"].startswith("application/openmetrics-text; version=1.0.0")
