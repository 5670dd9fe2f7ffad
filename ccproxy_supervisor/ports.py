"""What the heart is handed: the world, in thirteen functions, none of which can break it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Child, Event, Journal, Note, Spawn, Usage, Verdict
from ccproxy_supervisor.core.plan import Plan

Answer = TypeVar("Answer")
Probe = Callable[[int, float], Awaitable[Verdict | None]]  # worker number, timeout; None: it could not be asked


@dataclass(frozen=True)
class Ports:
    spawn: Spawn
    liveness: Probe
    readiness: Probe
    usage: Callable[[Child], Usage | None]
    journal: Journal
    wall: Callable[[], float]
    draw: Callable[[], float]
    grace: Callable[[], bool]  # just woke from sleep: a failed probe proves nothing
    prepare: Callable[[Plan], Awaitable[None]]  # returns when a worker of the plan can be spawned without delay
    queued: Callable[[], bool]  # whether connections wait at the public socket that nobody has taken
    knocked: Callable[[], Awaitable[None]]  # returns as soon as one does
    questions: Callable[[], Awaitable[Sequence[str]]]  # models that may be asked at any time, for nothing
    ask: Callable[[int, str, float], Awaitable[Verdict | None]]  # worker number, model, timeout: a short completion


def sturdy(ports: Ports) -> Ports:
    """The same, but none raises, save *spawn*, whose failure ends a worker: a fault of ours is no evidence against one.

    What a port says when it fails is noted once.
    """
    noted: dict[str, str] = {}

    def journal(event: Event) -> None:
        try:
            ports.journal(event)
        except Exception:  # there is no other door to say so
            return

    def note(port: str, error: Exception) -> None:
        if noted.get(port) != (reason := told(error)):
            noted[port] = reason
            journal(Note("port.failed", "error", {"port": port, "reason": reason}))

    def plain(port: str, ask: Callable[[], Answer], otherwise: Answer) -> Callable[[], Answer]:
        def asked() -> Answer:
            try:
                return ask()
            except Exception as error:
                note(port, error)
                return otherwise

        return asked

    def waited(port: str, ask: Callable[..., Awaitable[Answer]], otherwise: Answer) -> Callable[..., Awaitable[Answer]]:
        async def asked(*words: object) -> Answer:
            try:
                return await ask(*words)
            except Exception as error:
                note(port, error)
                return otherwise

        return asked

    return Ports(
        spawn=ports.spawn,
        liveness=waited("liveness", ports.liveness, None),
        readiness=waited("readiness", ports.readiness, None),
        usage=lambda child: plain("usage", lambda: ports.usage(child), None)(),
        journal=journal,
        wall=plain("wall", ports.wall, 0.0),
        draw=plain("draw", ports.draw, 0.5),
        grace=plain("grace", ports.grace, False),
        prepare=waited("prepare", ports.prepare, None),
        queued=plain("queued", ports.queued, False),
        knocked=waited("knocked", ports.knocked, None),
        questions=waited("questions", ports.questions, ()),
        ask=waited("ask", ports.ask, None),
    )
