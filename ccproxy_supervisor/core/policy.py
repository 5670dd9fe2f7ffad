"""Judgement. Pure functions from what happened to what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from ccproxy_supervisor.core.model import Cause


class Backoff(Protocol):
    """The `restart` settings this judgement needs; delays in seconds."""

    @property
    def first_delay(self) -> float: ...
    @property
    def factor(self) -> float: ...
    @property
    def longest_delay(self) -> float: ...
    @property
    def jitter(self) -> float: ...
    @property
    def stable_after(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Record:
    """What a place remembers between two workers: failures in a row and the last delay, without jitter."""

    failures: int = 0
    delay: float = 0.0


def backoff(policy: Backoff, record: Record, well: float, draw: float) -> tuple[float, Record]:
    """Return how long to wait before the next worker, and the record that follows.

    A worker that was *well* for at least `stable_after` clears the record. The delay is the last one times `factor`,
    never `factor ** failures`: that overflows after a night of failing. *draw* in [0, 1) makes it longer or shorter by
    up to `jitter` of it.
    """
    if well >= policy.stable_after:
        record = Record()
    delay = record.delay * policy.factor if record.failures else policy.first_delay
    delay = min(delay, policy.longest_delay)
    jittered = delay * (1 + policy.jitter * (2 * draw - 1))
    return min(jittered, policy.longest_delay), Record(record.failures + 1, delay)


def patience(interval: float, timeout: float) -> float:
    """Return how long to wait for a sign of life: until the next one is due. A second at least: a LiteLLM that works may
    block its loop for so long."""
    return min(timeout, max(interval, 1.0))


@dataclass(frozen=True, slots=True)
class Streak:
    """Equal probe answers in a row: *good* ones make a worker ready, *bad* ones condemn it."""

    good: int = 0
    bad: int = 0

    def after(self, ok: bool) -> Streak:
        return replace(self, good=self.good + 1, bad=0) if ok else replace(self, good=0, bad=self.bad + 1)


def outgrown(uptime: float, memory: int, max_age: float | None, max_memory: int | None) -> Cause | None:
    """Return the limit a worker has passed, if any; memory first, it hurts sooner."""
    if max_memory is not None and memory > max_memory:
        return Cause.MEMORY
    if max_age is not None and uptime > max_age:
        return Cause.AGE
    return None
