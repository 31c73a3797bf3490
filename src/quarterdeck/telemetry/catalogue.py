"""Every metric there is, declared once: name, type, labels, meaning. `docs/reference/metrics.md` says the same."""

from __future__ import annotations

from typing import Literal

import msgspec

PREFIX = "quarterdeck_"

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 3600.0)
STATEMENTS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
REQUESTS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
LAGS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
GROUPS = (0.0, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)


class Metric(msgspec.Struct, frozen=True):
    """One metric; `name` is without the prefix, `bounds` are the buckets of a histogram, without the last one."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


def _counter(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, "counter", labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, "gauge", labels, text)


def _histogram(name: str, labels: tuple[str, ...], bounds: tuple[float, ...], text: str) -> Metric:
    return Metric(name, "histogram", labels, text, bounds)


CATALOGUE = (
    # The database: the same in every process
    _gauge("queue_jobs", ("queue", "state"), "Unfinished jobs in the database"),
    _gauge("queue_oldest_available_seconds", ("queue",), "How long the available job that was due first has been due"),
    _gauge("database_up", (), "1 where the jobs in the database could be counted for this answer, else 0"),
    # Jobs in this process
    _counter("jobs_submitted_total", ("queue", "kind", "how"), "Submits: handed_off, stored or duplicate"),
    _counter("jobs_started_total", ("queue", "kind"), "Attempts that began"),
    _counter("jobs_finished_total", ("queue", "kind", "outcome"), "Ends of attempts, once they are committed"),
    _counter("jobs_promoted_total", ("queue",), "Scheduled and retryable jobs that this process made available"),
    _counter("jobs_expired_total", ("queue",), "Jobs that this process discarded because they did not start in time"),
    _counter("jobs_rescued_total", ("queue",), "Jobs that this process took back from workers that were gone"),
    _counter("jobs_reconciled_total", ("queue",), "Jobs given back because nobody in this process held them"),
    _counter("ends_refused_total", (), "Ends of attempts that came too late: the job was not held any more"),
    _counter("handlers_abandoned_total", ("kind",), "Handlers that did not stop when they were told to"),
    _histogram("job_wait_seconds", ("queue",), LATENCIES, "From the time a job is due to the start of its handler"),
    _histogram("job_run_seconds", ("kind",), LATENCIES, "How long handlers run"),
    _histogram("job_total_seconds", ("queue",), LATENCIES, "From the submit to the committed end, delays included"),
    # The statements of this process
    _histogram("statement_seconds", ("statement",), STATEMENTS, "How long grouped statements take, commit included"),
    _histogram("statement_rows", ("statement",), GROUPS, "Jobs in one grouped statement"),
    _counter("database_errors_total", ("class",), "Failed statements by class of SQLSTATE, or by what else failed"),
    _gauge("pool_connections", ("pool", "state"), "Connections of this process to the database: in_use or idle"),
    # The cache of results
    _counter("cache_reads_total", ("cache", "outcome"), "Results looked for: hit, miss, poisoned, error, open or busy"),
    _counter("cache_writes_total", ("cache", "outcome"), "Results offered: stored, refused, error, open or busy"),
    _gauge("cache_bytes", (), "What the cache inside the process holds"),
    _gauge("cache_server_left_alone", ("server",), "1 while a memcached server that failed is left alone, else 0"),
    # HTTP
    _histogram(
        "http_request_seconds",
        ("method", "route", "status"),
        REQUESTS,
        "From the head of a request to the end of its answer, waiting that was asked for included",
    ),
    # The process
    _gauge("slots", (), "Jobs that this process runs at once, at most"),
    _gauge("jobs_running", (), "Slots that are taken"),
    _gauge("jobs_prefetched", (), "Claimed jobs that wait for a slot"),
    _gauge("submits_waiting", (), "Submits that wait for the insert before theirs"),
    _gauge("ends_waiting", (), "Ends of attempts that are not written yet"),
    _gauge("handlers_stuck", (), "Abandoned handlers that still run, without a slot"),
    _gauge("lease_age_seconds", (), "Since the last confirmed beat; absent without a lease"),
    _counter("beats_failed_total", (), "Beats that could not be made"),
    _histogram("event_loop_lag_seconds", (), LAGS, "How much later than it should a timer fires"),
    _counter("log_lines_dropped_total", (), "Lines that could not be logged"),
    _gauge("build_info", ("version",), "1"),
)
"""Every metric, in the order of `/metrics`."""
