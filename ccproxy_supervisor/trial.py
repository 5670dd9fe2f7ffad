"""The second kind of evidence: another worker does better than the one in doubt."""

from __future__ import annotations

from anyio import create_task_group, move_on_after, sleep

from ccproxy_supervisor.core.doubt import DEAF
from ccproxy_supervisor.core.model import Verdict
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.worker import EAGER, Worker

PATIENCE = 20.0  # seconds to answer one short question, or to take one connection


async def excused(suspect: Worker, other: Worker, ports: Ports) -> str | None:
    """Return why *suspect* is no worse than *other*, which does not serve yet; None if it is."""
    if suspect.doubt is None or suspect.doubt.kind == DEAF:
        return None  # only who is at the public door can show that connections are taken there
    told = "there is no question that costs nothing"
    for model in await ports.questions():
        told = "no question that costs nothing tells it from another worker"
        first = await ports.ask(suspect.number, model, PATIENCE)
        if first is None or first.reason != "timeout":
            continue
        again, others = await _both(suspect, other, model, ports)
        if ports.grace():
            return "the machine has just woken up"
        if others and others.ok and again and again.reason == "timeout":
            return None if suspect.doubt else "its completions go on again"
    return told


async def _both(suspect: Worker, other: Worker, model: str, ports: Ports) -> tuple[Verdict | None, Verdict | None]:
    """Ask both at once; the suspect first, for who answers them all may do so one by one."""
    said: dict[int, Verdict | None] = {}

    async def ask(worker: Worker) -> None:
        said[worker.number] = await ports.ask(worker.number, model, PATIENCE)

    async with create_task_group() as tasks:
        tasks.start_soon(ask, suspect)
        await sleep(EAGER)
        tasks.start_soon(ask, other)
    return said[suspect.number], said[other.number]


async def unheard(other: Worker, ports: Ports) -> str | None:
    """Return what is wrong though *other* serves now; None once it takes the connections that *suspect* did not."""
    with move_on_after(PATIENCE):
        while ports.queued() and not (other.path.traffic and other.path.traffic.taken):  # noqa: ASYNC110 - the kernel tells nobody
            await sleep(EAGER)
        return None
    return "connections wait at the public socket whoever serves"
