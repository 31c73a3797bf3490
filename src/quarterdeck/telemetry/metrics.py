"""Metrics: what this process counts and measures, and its text for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics

from quarterdeck.telemetry import log
from quarterdeck.telemetry.catalogue import CATALOGUE, PREFIX, Metric
from quarterdeck.telemetry.tallies import OTHER, Cap, Count, Histogram

Format = Literal["text", "openmetrics"]
Gauges = Mapping[str, Mapping[tuple[str, ...], float]]
"""Values by the labels of a metric, by its name."""

CONTENT_TYPES: Mapping[Format, str] = {
    "text": CONTENT_TYPE_PLAIN_0_0_4,
    "openmetrics": openmetrics.CONTENT_TYPE_LATEST,
}

MAX_VALUES = 200
"""Queues and kinds with series of their own."""
MAX_PAIRS = 500
"""Pairs of a queue and a kind with series of their own; beyond them the kind is `_other`."""

_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "WEBSOCKET"})


class Metrics:
    """The metrics of one process, in a registry of their own.

    The hooks are called for every job, from the event loop, and cost well under a microsecond each. Only `beat_failed`
    may come from another thread.
    """

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._counts: dict[str, dict[tuple[str, ...], Count]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        self._bounds = {each.name: each.bounds for each in CATALOGUE}
        for each in CATALOGUE:
            if each.type == "counter":
                self._counts[each.name] = {} if each.labels else {(): Count()}
            elif each.type == "histogram":
                self._histograms[each.name] = {} if each.labels else {(): Histogram(each.bounds)}
        self._queue = Cap(MAX_VALUES)
        self._kind = Cap(MAX_VALUES)
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._statements: dict[str, tuple[Histogram, Histogram]] = {}
        self._lag = self._histograms["event_loop_lag_seconds"][()]
        self._gauges: Gauges = {}
        self._build: Gauges = {"build_info": {(version,): 1.0}}
        self.registry.register(self)

    # Hooks

    def submitted(self, queue: str, kind: str, how: str) -> None:
        """A submit was answered: `handed_off`, `stored` or `duplicate`."""
        lane = self._lanes.get((queue, kind)) or self._lane(queue, kind)
        lane.submitted[how].value += 1

    def started(self, queue: str, kind: str, waited: float) -> None:
        """A handler began, `waited` seconds after its job was due."""
        lane = self._lanes.get((queue, kind)) or self._lane(queue, kind)
        lane.started.value += 1
        lane.wait.observe(waited)

    def finished(self, queue: str, kind: str, outcome: str, ran: float | None, total: float | None) -> None:
        """The end of an attempt was committed. It ran for `ran` seconds, if it did; None for a job that is not over."""
        lane = self._lanes.get((queue, kind)) or self._lane(queue, kind)
        lane.finished[outcome].value += 1
        if ran is not None:
            lane.run.observe(ran)
        if total is not None:
            lane.total.observe(total)

    def moved(self, how: str, queues: Iterable[str]) -> None:
        """Jobs of these queues, one each, were `promoted`, `expired`, `rescued` or `reconciled`."""
        for queue in queues:
            self._count(f"jobs_{how}_total", self._queue(queue))

    def statement(self, name: str, seconds: float, rows: int) -> None:
        """A grouped statement about `rows` jobs was committed."""
        timed = self._statements.get(name)
        if timed is None:
            timed = self._statements[name] = (
                self._histogram("statement_seconds", name),
                self._histogram("statement_rows", name),
            )
        timed[0].observe(seconds)
        timed[1].observe(rows)

    def cache_read(self, place: str, outcome: str) -> None:
        """A result was looked for in a cache; `place` and `outcome` are of a few words."""
        self._count("cache_reads_total", place, outcome)

    def cache_written(self, place: str, outcome: str) -> None:
        """A result was offered to a cache; `place` and `outcome` are of a few words."""
        self._count("cache_writes_total", place, outcome)

    def end_refused(self) -> None:
        """An end came too late."""
        self._count("ends_refused_total")

    def abandoned(self, kind: str) -> None:
        """A handler was told to stop and did not."""
        self._count("handlers_abandoned_total", self._kind(kind))

    def beat_failed(self) -> None:
        """A beat could not be made. For the thread of the heartbeat, and no other."""
        self._count("beats_failed_total")

    def database_failed(self, sort: str) -> None:
        """A statement failed; `sort` is one of a few words."""
        self._count("database_errors_total", sort)

    def lagged(self, seconds: float) -> None:
        """A timer of the event loop fired so much too late."""
        self._lag.observe(seconds)

    def answered(self, method: str, route: str | None, status: int | None, seconds: float) -> None:
        """A request was answered; `route` is None where none fits, `status` where the client had gone."""
        labels = (
            method if method in _METHODS else OTHER,
            route or OTHER,
            "none" if status is None else f"{status // 100}xx",
        )
        known = self._histograms["http_request_seconds"].get(labels)
        (known or self._histogram("http_request_seconds", *labels)).observe(seconds)

    # Reading

    def render(self, format: Format, gauges: Gauges) -> bytes:  # noqa: A002 - what it is
        """The text of all metrics. Takes tens of milliseconds: not for the event loop, and for one thread at a time."""
        self._gauges = {**gauges, **self._build}
        if format == "openmetrics":
            text: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
            return text
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Family]:
        """What the registry asks for."""
        self._counts["log_lines_dropped_total"][()].value = log.dropped()
        for metric in CATALOGUE:
            if metric.type == "counter":
                yield self._counter_family(metric)
            elif metric.type == "histogram":
                yield self._histogram_family(metric)
            elif metric.name in self._gauges:
                yield self._gauge_family(metric, self._gauges[metric.name])

    def _counter_family(self, metric: Metric) -> Family:
        family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        # A copy of the items is made in one step of the interpreter, whatever the event loop adds meanwhile.
        for labels, count in list(self._counts[metric.name].items()):
            family.add_metric(labels, count.value)
        return family

    def _histogram_family(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        for labels, histogram in list(self._histograms[metric.name].items()):
            family.add_metric(labels, *histogram.read())
        return family

    def _gauge_family(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> Family:
        family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family

    # Series

    def _count(self, name: str, *labels: str) -> None:
        self._cell(name, *labels).value += 1

    def _cell(self, name: str, *labels: str) -> Count:
        return self._counts[name].setdefault(labels, Count())

    def _histogram(self, name: str, *labels: str) -> Histogram:
        return self._histograms[name].setdefault(labels, Histogram(self._bounds[name]))

    def _lane(self, queue: str, kind: str) -> _Lane:
        pair = (self._queue(queue), self._kind(kind))
        if pair not in self._lanes and len(self._lanes) >= MAX_PAIRS:
            pair = (pair[0], OTHER)
        if pair not in self._lanes:
            self._lanes[pair] = _Lane(self, *pair)
        return self._lanes[pair]


class _Lane:
    """The cells of one queue and kind, found once."""

    __slots__ = ("finished", "run", "started", "submitted", "total", "wait")

    def __init__(self, metrics: Metrics, queue: str, kind: str) -> None:
        self.submitted = _Cells(metrics, "jobs_submitted_total", queue, kind)
        self.started = metrics._cell("jobs_started_total", queue, kind)  # noqa: SLF001 - one class in two parts
        self.finished = _Cells(metrics, "jobs_finished_total", queue, kind)
        self.wait = metrics._histogram("job_wait_seconds", queue)  # noqa: SLF001
        self.run = metrics._histogram("job_run_seconds", kind)  # noqa: SLF001
        self.total = metrics._histogram("job_total_seconds", queue)  # noqa: SLF001


class _Cells(dict[str, Count]):
    """The counts of a lane by their last label."""

    def __init__(self, metrics: Metrics, name: str, *labels: str) -> None:
        super().__init__()
        self._metrics, self._name, self._labels = metrics, name, labels

    def __missing__(self, last: str) -> Count:
        count = self[last] = self._metrics._cell(self._name, *self._labels, last)  # noqa: SLF001 - as above
        return count
