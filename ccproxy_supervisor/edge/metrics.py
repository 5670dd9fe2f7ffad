"""The numbers that are counted as the journal tells them, and the page Prometheus reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from ccproxy_supervisor.core.exposition import Collector, Counter, Family, Gauge, Histogram, page
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.ladder import Step
from ccproxy_supervisor.core.model import (
    PROBE_REASONS,
    PROBES,
    RELOAD_RESULTS,
    Cause,
    Event,
    Failover,
    Helped,
    Probed,
    Reloaded,
    State,
    Transition,
)

START = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 20, 30, 60, 120)
DRAIN = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
FAILOVER = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PROBE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

Kept = TypeVar("Kept", Counter, Gauge, Histogram)


class Metrics:
    """A listener of the journal that can be rendered, together with *collectors* that are asked at the scrape."""

    def __init__(self, collectors: Iterable[Collector] = (), wall: Callable[[], float] = time.time) -> None:
        self._collectors, self._counted, self._wall = tuple(collectors), list[Family](), wall
        self._endings = self._counter("worker_endings", "Workers that ended, by cause.", cause=Cause)
        self._restarts = self._counter("worker_restarts", "Workers that ended and left a slot to another.", cause=Cause)
        self._lost = self._counter("supervisor_restarts", "Supervisors of this home that followed one that was killed.")
        self._renewals = self._counter("supervisor_renewals", "Supervisors of this home that were renewed.")
        self._adopted = self._counter("workers_adopted", "Workers of an earlier supervisor that were taken on.")
        self._start = self._histogram("worker_start_seconds", "From a worker's start until it was proven ready.", START)
        self._drain = self._histogram("worker_drain_seconds", "From the order to drain until it was gone.", DRAIN)
        self._failover = self._histogram("failover_seconds", "From losing a serving worker to the next.", FAILOVER)
        self._lag = self._histogram("event_loop_lag_seconds", "How late the event loop wakes up.", LAG)
        self._success = self._gauge("probe_success", "Whether the last probe of its kind went well.", probe=PROBES)
        self._probe = self._histogram("probe_seconds", "How long probes took.", PROBE, probe=PROBES)
        self._failures = self._counter("probe_failures", "Probes that failed.", probe=PROBES, reason=PROBE_REASONS)
        self._help = self._counter("ollama_help", "Steps taken for an Ollama that was stuck.", step=Step)
        self._reloads = self._counter("config_reloads", "Reloads asked for, by result.", result=RELOAD_RESULTS)
        self._read_well = self._gauge("config_last_reload_successful", "Whether what was read last was adopted.")
        self._read_at = self._gauge("config_last_reload_success_timestamp_seconds", "When that was last so.")
        self._order = 0  # the newest order that was answered
        self._read_well.set(1)  # the daemon runs, so it has read one
        self._read_at.set(wall())

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type, Prometheus text or OpenMetrics as the Accept header asks."""
        families = [family for collector in self._collectors for family in _collected(collector)]
        return page([*families, *self._counted], accept)

    def resume(self, restarts: int, renewals: int) -> None:
        """Go on from what happened to earlier supervisors."""
        self._lost.inc(restarts)
        self._renewals.inc(renewals)

    def observe_lag(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def __call__(self, event: Event) -> None:
        match event:
            case Transition():
                self._moved(event)
            case Failover():
                self._failover.observe(event.seconds)
            case Probed(probe, _, verdict):
                self._success.labels(probe).set(verdict.ok)
                self._probe.labels(probe).observe(verdict.seconds)
                if not verdict.ok:
                    self._failures.labels(probe, verdict.reason).inc()
            case Helped(step):
                self._help.labels(step).inc()
            case Reloaded(result, order=order):
                self._reloads.labels(result).inc()
                if order < self._order:
                    return  # what was read last is known already
                self._order, well = order, result in ("applied", "rolled", "unchanged")
                self._read_well.set(well)
                if well:
                    self._read_at.set(self._wall())

    def _moved(self, event: Transition) -> None:
        if event.old is None and event.adopted:
            self._adopted.inc()
        if (event.old, event.new) == (State.STARTING, State.STANDBY) and not event.adopted:
            self._start.observe(event.since)
        if event.new is not State.GONE or event.ending is None:
            return
        cause = event.ending.cause
        self._endings.labels(cause).inc()
        if event.slot is not None and cause is not Cause.STOP:
            self._restarts.labels(cause).inc()
        if event.old is State.DRAINING and cause.planned:
            self._drain.observe(event.since)

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        return self._keep(Counter(f"ccproxy_{name}", text, tuple(labels), tuple(labels.values())))

    def _gauge(self, name: str, text: str, **labels: Iterable[str]) -> Gauge:
        return self._keep(Gauge(f"ccproxy_{name}", text, tuple(labels), tuple(labels.values())))

    def _histogram(self, name: str, text: str, buckets: Sequence[float], **labels: Iterable[str]) -> Histogram:
        return self._keep(Histogram(f"ccproxy_{name}", text, buckets, tuple(labels), tuple(labels.values())))

    def _keep(self, family: Kept) -> Kept:
        self._counted.append(family)
        return family


def _collected(collector: Collector) -> Iterable[Family]:
    """Ask *collector*; its failure costs its own numbers, not the page."""
    return known(lambda: tuple(collector.collect()), ())
