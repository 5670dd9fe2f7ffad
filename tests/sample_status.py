"""A `/status` document as the daemon makes it, on a day on which a lot happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ccproxy_supervisor.core import status
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.history import History
from ccproxy_supervisor.core.model import Cause, Ending, OllamaStatus, Reloaded, State, Status, Transition, Usage
from ccproxy_supervisor.core.status import WorkerView
from ccproxy_supervisor.core.traffic import MICRO, Key, Recent
from ccproxy_supervisor.core.traffic import document as summed

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0
MIB = 1 << 20

KILLED = Ending(
    Cause.EXITED, 2 * HOUR, NOW - 3 * HOUR, -9,
    output=("INFO:     Application startup complete.", "Traceback (most recent call last):", "MemoryError"),
)  # fmt: skip
ENDINGS = (
    Transition(1, 0, 1, State.SERVING, State.GONE, ending=Ending(Cause.EXITED, 9 * HOUR, NOW - 11 * HOUR, 1)),
    Transition(2, 0, 1, State.DRAINING, State.GONE, ending=Ending(Cause.RELOAD, 6 * HOUR, NOW - 5 * HOUR, 0)),
    Transition(4, 1, 2, State.DRAINING, State.GONE, ending=Ending(Cause.UNRESPONSIVE, 1 * HOUR, NOW - 4 * HOUR, -9)),
    Transition(3, 0, 2, State.SERVING, State.GONE, ending=KILLED),
)
STATES = (  # hours ago, service, slot 0, slot 1
    (20, "starting", "starting", "starting"),
    (19.97, "healthy", "serving", "serving"),
    (11, "unhealthy", "backoff", "backoff"),
    (10.6, "healthy", "serving", "serving"),
    (4.2, "degraded", "serving", "backoff"),
    (3.8, "healthy", "serving", "serving"),
    (3, "degraded", "starting", "serving"),
    (2.9, "healthy", "serving", "serving"),
    (0.4, "degraded", "serving", "serving"),
)


def history(now: float = NOW) -> History:
    """The day before *now*."""
    kept = History()
    for hours, service, *slots in STATES:
        kept.observe(now - hours * HOUR, service, dict(enumerate(slots)))
    for moved in ENDINGS:
        ending = moved.ending
        assert ending is not None
        kept.ended(moved, replace(ending, at=now - (NOW - ending.at)))
    return kept


def traffic(now: float = NOW) -> dict[str, Any]:
    """A busy day of two models and three clients, and a stranger's mistake."""
    recent = Recent()
    times = {"first_token 0.2": 30, "first_token 0.5": 60, "first_token 2.5": 10, "first_token sum": 45_000_000}
    for hours in range(24):
        at = now - hours * HOUR - 600
        row = {"ok": 96, "aborted": 2, "input": 410_000, "cached": 230_000, "output": 21_000, "spoken": 21_000,
               "speaking": 500 * MICRO, **times}  # fmt: skip
        recent.enter(at, {Key("llama3.2", "messages", "eva"): row})
        recent.enter(
            at, {Key("qwen3-coder", "chat", "build-agents"): {"ok": 12, "server_error": hours % 5, "input": 9000}}
        )
    recent.enter(now - 7 * HOUR, {Key("other", "chat", "direct"): {"client_error": 1}})
    return summed(recent, {}, {Key("llama3.2", "messages", "eva"): {"in_flight": 3}}, now)


def document(now: float = NOW, **changes: Any) -> dict[str, Any]:
    """Everything there can be, as of *now*; *changes* replace keys."""
    killed = replace(KILLED, at=now - 3 * HOUR)
    views = [
        (WorkerView(0, State.SERVING, 5, 5731, 3, 2.9 * HOUR, 2, last_ending=killed), 391 * MIB, 0.42, 14.0 * MIB),
        (WorkerView(1, State.SERVING, 6, 5764, 3, 3.8 * HOUR, 1), 373 * MIB, 0.08, None),
        (WorkerView(None, State.STANDBY, 7, 5790, 3, 2.8 * HOUR), 352 * MIB, 0.0, None),
    ]
    rows = [status.worker(view, Usage(used, 812.0, 31, 9), cpu, growth) for view, used, cpu, growth in views]
    seen = [
        ModelView("echo", healthy=True, checked=now - 41),
        ModelView("llama3.2", healthy=True, checked=now - 130),
        ModelView("qwen3-coder", healthy=False, checked=now - 95, detail="model 'qwen3-coder:30b' not found"),
        ModelView("claude-fallback"),
    ]
    ollama = OllamaStatus(
        up=True, version="0.12.3", models=("llama3.2:3b", "nomic-embed-text:latest"), loaded=("llama3.2:3b",),
        missing=("qwen3-coder:30b",),
    )  # fmt: skip
    report = Reloaded("rolled", "proxy.drain_timeout 30s -> 45s; generation 3", "SIGHUP", ("proxy.drain_timeout",))
    reasons = status.reasons((view for view, *_ in views), 2, ollama, seen, needs_ollama=True)
    return {
        "status": str(Status.DEGRADED), "reasons": reasons, "uptime": 20 * HOUR, "version": "0.1.0", "pid": 41, "home": "/Users/eva/ccproxy",
        "generation": 3, "listen": {"host": "127.0.0.1", "port": 8081}, "serving": 2, "workers": rows,
        "models": [status.model(replace(view, upstreams=(f"ollama/{view.name}",))) for view in seen],
        "ollama": status.ollama(ollama), "reload": status.reload(report, now - 5 * HOUR), "litellm": "1.106.2",
        "upgrade": {"pinned": "1.106.2", "last": {
            "action": "upgrade", "result": "refused", "at": status.stamp(now - 9 * HOUR), "seconds": 61.2,
            "version": "1.107.0", "before": "1.106.2", "detail": "the canary does not answer: model echo"},
        },
        "traffic": traffic(now),
        "history": history(now).document(now), "detail": "",
        "last_incident": f"{status.stamp(now - 3 * HOUR)} Worker 3 in slot 0 was killed by SIGKILL after 2 h.",
    } | changes  # fmt: skip
