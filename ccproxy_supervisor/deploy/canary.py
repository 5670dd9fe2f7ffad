"""Whether another LiteLLM serves: one worker of it, with the home's real configuration, on a private socket only.

This is what a running daemon does for us when it is asked; here it is done without one, through the same launcher.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import anyio

from ccproxy_supervisor.core.answer import Answer, verdict
from ccproxy_supervisor.core.canary import PATH, best, question, why_none, wrong
from ccproxy_supervisor.core.lines import last_lines
from ccproxy_supervisor.core.model import Child, SpawnError
from ccproxy_supervisor.core.ollama import read_models, root
from ccproxy_supervisor.core.plan import Plan
from ccproxy_supervisor.core.secrets import Secrets
from ccproxy_supervisor.core.settings import OllamaSettings
from ccproxy_supervisor.deploy.errors import RefusedError
from ccproxy_supervisor.edge.births import Births
from ccproxy_supervisor.edge.exits import start
from ccproxy_supervisor.edge.fetch import fetch
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.launcher import Launcher
from ccproxy_supervisor.edge.process import Spawner

NUMBER = 9_999_999  # of a worker that no daemon counts
TAIL = 16 << 10  # bytes


class Output:
    """A worker's output in a file that goes away with it."""

    def __init__(self, file: int, secrets: Secrets) -> None:
        self._file, self._secrets = file, secrets
        self.fds = {name: os.dup(file) for name in ("stdout", "stderr", "litellm")}
        self.ours: dict[str, int] = {}

    def close_child_ends(self) -> None:
        while self.fds:
            os.close(self.fds.popitem()[1])

    close = close_child_ends

    async def drained(self, timeout: float) -> bool:
        return True

    def tail(self) -> tuple[str, ...]:
        size = os.fstat(self._file).st_size
        return last_lines((self._secrets.mask(os.pread(self._file, TAIL, max(0, size - TAIL))),), 20, 500)


async def model_to_ask(plan: Plan) -> str:
    """The model that a new version must answer for; raises `RefusedError` when only somebody else's bill would tell."""
    if plan.settings.upgrade.canary_model:
        return plan.settings.upgrade.canary_model
    models, ollama = plan.litellm.models, plan.settings.ollama
    if chosen := best(models, ollama.url, await _loaded(ollama)):
        return chosen
    why = f"of {why_none(models)}" if models else "the config names none"
    raise RefusedError(f"cannot choose a model to try the new version with: {why}; set upgrade.canary_model")


async def _loaded(ollama: OllamaSettings) -> tuple[str, ...]:
    """What Ollama has in memory; nothing when it does not say."""
    if not ollama.enabled:
        return ()
    try:
        answer = await fetch(f"{root(ollama.url)}/api/ps", timeout=ollama.timeout)
        return read_models(answer.body) if isinstance(answer, Answer) else ()
    except ValueError:
        return ()


async def audition(home: Home, plan: Plan, model: str) -> str | None:
    """Say why a worker of *plan* does not answer for *model*, with its last words; None when it does."""
    with _unused_port() as listener, tempfile.TemporaryFile() as file:
        output = Output(file.fileno(), Secrets().plus(plan.secrets))
        births = Births(home.run / "births", lambda _: None)
        spawn = Spawner(
            listener,
            home.folder,
            Launcher(home.run),
            births.keep,
            lambda _: output,
            lambda *_: None,
            lambda _: None,
            start,
        )
        seconds = plan.settings.proxy.start_timeout
        try:
            async with spawn(NUMBER, plan) as child:
                why = f"it was not ready within {seconds:g} s"
                with anyio.move_on_after(seconds):
                    why = await _first(child, dict(plan.litellm.dropped))
                if not why:
                    return await _ask(home, plan, model)
                return f"{why}: {' | '.join((await child.output())[-3:]) or 'it said nothing'}"
        except SpawnError as error:
            return str(error)


async def _first(child: Child, foreseen: Collection[str]) -> str:
    """Wait until it is ready (empty), with every model but those *foreseen* to be lost, or has ended (how)."""
    ended = ""

    async def watch() -> None:
        nonlocal ended
        ended = f"it ended with status {await child.wait()} before it was ready"
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        lost = [f"{name} ({why})" for name, why in (await child.ready()).items() if name not in foreseen]
        ended = f"LiteLLM dropped {', '.join(lost)}" if lost else ""
        tasks.cancel_scope.cancel()
    return ended


async def _ask(home: Home, plan: Plan, model: str) -> str | None:
    unix, key = str(home.socket(NUMBER)), plan.birth.key
    headers = (("Authorization", f"Bearer {key}"),) if key else ()
    ready = verdict(await fetch("http://localhost/health/readiness", unix=unix, timeout=10, headers=headers))
    if not ready.ok:
        return f"it is not ready: {ready.detail}"
    outcome = await fetch(
        f"http://localhost{PATH}", unix=unix, method="POST", body=question(model),
        headers=(*headers, ("Content-Type", "application/json")), timeout=plan.settings.models.timeout,
    )  # fmt: skip
    if (why := wrong(model, outcome)) is None or not isinstance(outcome, Answer):
        return why
    return f"{why} {Secrets().plus(plan.secrets).mask(outcome.body)[:300].decode(errors='replace')}".strip()


@contextmanager
def _unused_port() -> Iterator[socket.socket]:
    """The launcher wants a listener; this one never listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused
