"""What one HTTP request came to: an answer, or why there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ccproxy_supervisor.core.model import Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, whatever it says; *seconds* since the request was begun."""

    status: int
    body: bytes
    seconds: float


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
    return Verdict(ok=True, seconds=outcome.seconds)
