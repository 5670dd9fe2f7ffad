"""What one HTTP request came to: an answer, or why there is none."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ccproxy_supervisor.core.model import Traffic, Verdict

_TRAFFIC = re.compile(rb"taken=(\d{1,15}) inside=(\d{1,9}) waiting=(\d{1,12}\.\d)")


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, whatever it says; *seconds* since the request was begun."""

    status: int
    body: bytes
    seconds: float
    headers: tuple[tuple[bytes, bytes], ...] = ()  # names in lower case


@dataclass(frozen=True, slots=True)
class Failure:
    """No complete answer. *reason* is one of `PROBE_REASONS`; *detail* never holds a header, a body or a URL's password."""

    reason: str
    detail: str
    seconds: float


Fetch = Callable[..., Awaitable[Answer | Failure]]


def verdict(outcome: Answer | Failure) -> Verdict:
    """Judge by the status alone: 200 is well."""
    if isinstance(outcome, Failure):
        return Verdict(ok=False, seconds=outcome.seconds, reason=outcome.reason, detail=outcome.detail)
    if outcome.status != 200:
        return Verdict(ok=False, seconds=outcome.seconds, reason="status", detail=f"answered {outcome.status}")
    return Verdict(ok=True, seconds=outcome.seconds, traffic=traffic(outcome))


def traffic(answer: Answer) -> Traffic | None:
    """Read what the launcher tells with it; None where it does not."""
    told = next((value for name, value in answer.headers if name == b"ccproxy-traffic"), b"")
    if not (found := _TRAFFIC.fullmatch(told)):
        return None
    taken, inside, waiting = found.groups()
    return Traffic(int(taken), int(inside), float(waiting))
