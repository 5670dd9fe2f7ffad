"""Watches whether Ollama generates, and does for it what its owner allowed when it does not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio

from ccproxy_supervisor.core.answer import Answer, Failure, Fetch
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.ladder import Ladder, Step
from ccproxy_supervisor.core.model import Helped, Journal, Note, OllamaStatus
from ccproxy_supervisor.core.ollama import known_as, lacking, read_loaded, root, tag
from ccproxy_supervisor.core.settings import OllamaSettings
from ccproxy_supervisor.core.wedge import Flow, Loaded, Runner, View, Wedge

TICK = 5.0  # seconds between two looks
ANSWER = 15.0  # seconds for one token of a model that is loaded, while nothing else goes on
LOADING = 120.0  # and of one that is not
FOR_EVER = 10 * 365 * 86_400.0  # seconds; what Ollama calls for ever is longer


@dataclass(frozen=True, slots=True)
class OllamaSignals:
    """What can be asked at any time. *flow* is None where nobody counts, *runners* where they cannot be seen."""

    status: Callable[[], OllamaStatus | None]
    flow: Callable[[], Flow | None]
    models: Callable[[], Iterable[ModelView]]
    runners: Callable[[], Awaitable[tuple[Runner, ...] | None]]
    grace: Callable[[], bool]
    wall: Callable[[], float]


@dataclass(frozen=True, slots=True)
class OllamaActions:
    """What can be done. *end* returns whether that runner is gone, *run* what is wrong."""

    fetch: Fetch
    end: Callable[[Runner], Awaitable[bool]]
    run: Callable[[Sequence[str], float], Awaitable[str]]


class OllamaCare:
    """*stuck* says in words why nothing is generated; empty while all is well or nothing is known."""

    def __init__(
        self,
        senses: OllamaSignals,
        hands: OllamaActions,
        journal: Journal,
        settings: OllamaSettings,
        models: Iterable[Model],
    ) -> None:
        self._senses, self._hands, self._journal = senses, hands, journal
        self._wedge, self._ladder = Wedge(settings.help.patience), Ladder()
        self._told = ""
        self.adopt(settings, models)

    @property
    def stuck(self) -> str:
        return self._wedge.stuck

    def adopt(self, settings: OllamaSettings, models: Iterable[Model]) -> None:
        """Go on with these."""
        self._settings, self._models = settings, tuple(models)
        self._wedge.patience = settings.help.patience

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await anyio.sleep(TICK)
            await self.look()

    async def look(self) -> None:
        """Look once, and do what is due."""
        status = self._senses.status()
        if not self._settings.enabled or status is None or not status.up or self._senses.grace():
            self._wedge = Wedge(self._settings.help.patience)  # what is down is told elsewhere
        else:
            self._wedge.checked(self._failing(), anyio.current_time())
            await self._examine(status.running)
        self._tell()
        confirmed = self._wedge.confirmed if self.stuck else None
        if step := self._ladder.step(anyio.current_time(), confirmed, self._settings.help):
            await self._take(step)

    async def _examine(self, loaded: tuple[Loaded, ...]) -> None:
        """Look closer where there is reason to: at what is loaded now, and at what the runners do."""
        senses, runners = self._senses, None
        if self._wedge.curious(senses.flow(), loaded, senses.wall()):
            fresh = await self._loaded()
            if fresh is None:
                return
            loaded, runners = fresh, await senses.runners()
        view = View(anyio.current_time(), senses.wall(), senses.flow(), loaded, runners)
        there = {model.name: model for model in loaded}
        for name in self._wedge.look(view):
            if used_by := self._used_by(name):
                await self._ask(there.get(name), used_by)

    async def _ask(self, loaded: Loaded | None, model: Model) -> None:
        """Have one token generated, with the context that it is loaded with: another would make Ollama load it anew."""
        name = loaded.name if loaded else tag(model)
        options = {"num_predict": 1} | ({"num_ctx": loaded.context} if loaded and loaded.context else {})
        body: dict[str, object] = {"model": name, "options": options, "stream": False}
        if loaded and loaded.expires is not None:  # the question must not keep it any longer
            left = loaded.expires - self._senses.wall()
            body["keep_alive"] = -1 if left > FOR_EVER else f"{max(1, round(left))}s"
        path, words = ("embed", {"input": "a"}) if model.does == "embedding" else ("generate", {"prompt": "a"})
        outcome = await self._post(path, body | words, ANSWER if loaded else LOADING)
        ok, detail = _meaning(outcome)
        if ok is not None or (isinstance(outcome, Failure) and outcome.reason == "timeout"):
            self._wedge.answered(str(name), anyio.current_time(), ok=ok, detail=detail)

    async def _take(self, step: Step) -> None:
        why, wrong = self.stuck, ""
        match step:
            case Step.UNLOAD:
                wrong = await self._unload()
            case Step.RESTART_RUNNER:
                wrong = await self._restart_runners()
            case Step.RESTART_COMMAND:
                wrong = await self._hands.run(self._settings.help.restart_command, self._settings.help.timeout)
            case Step.SHOUT:
                tried = ", ".join(step for step in self._ladder.taken if step is not Step.SHOUT)
                wrong = f"tried {tried}" if tried else "nothing may be done for it; see ollama.help"
        self._wedge.helped()
        self._journal(Helped(str(step), why, wrong))

    async def _unload(self) -> str:
        wrong = []
        for model in await self._loaded() or ():
            outcome = await self._post("generate", {"model": model.name, "keep_alive": 0}, self._settings.timeout)
            if not isinstance(outcome, Answer) or outcome.status != 200:
                wrong.append(f"{model.name}: {_meaning(outcome)[1]}")
        return "; ".join(wrong)

    async def _restart_runners(self) -> str:
        found = await self._senses.runners()
        if not found:
            return "it has no runner" if found is not None else "its runners are not ours"
        stubborn = [str(runner.pid) for runner in self._wedge.culprits(found) if not await self._hands.end(runner)]
        return f"cannot end {', '.join(stubborn)}" if stubborn else ""

    def _tell(self) -> None:
        if self.stuck and not self._told:
            self._journal(Note("ollama.stuck", "warning", {"detail": self.stuck}))
        elif self._told and not self.stuck:
            self._journal(Note("ollama.recovered", fields={"was": self._told}))
        self._told = self.stuck

    def _failing(self) -> Iterable[tuple[str, str, float | None]]:
        tags = {model.name: name for model in self._models if (name := known_as(model, self._settings.url))}
        for view in self._senses.models():
            if view.healthy is False and view.name in tags:
                yield tags[view.name], view.detail, view.checked

    def _used_by(self, name: str) -> Model | None:
        """The model of LiteLLM's config that asks for the tag *name*; what others loaded is not asked."""
        for model in self._models:
            asked = known_as(model, self._settings.url)
            if asked and not lacking([asked], [name]):
                return model
        return None

    async def _loaded(self) -> tuple[Loaded, ...] | None:
        outcome = await self._hands.fetch(f"{root(self._settings.url)}/api/ps", timeout=self._settings.timeout)
        try:
            return read_loaded(outcome.body) if isinstance(outcome, Answer) and outcome.status == 200 else None
        except ValueError:
            return None

    async def _post(self, path: str, body: dict[str, object], timeout: float) -> Answer | Failure:
        return await self._hands.fetch(
            f"{root(self._settings.url)}/api/{path}", method="POST", body=json.dumps(body).encode(), timeout=timeout,
            headers=(("Content-Type", "application/json"),),
        )  # fmt: skip


def _meaning(outcome: Answer | Failure) -> tuple[bool | None, str]:
    """Whether it generates, None where that is not said: 503 is a full queue, 4xx an answer of one who is well."""
    if isinstance(outcome, Failure):
        return None, outcome.detail
    if outcome.status == 503:
        return None, "its queue is full"
    if outcome.status < 500:
        return True, ""
    try:
        said = json.loads(outcome.body)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = f"answered {outcome.status}"
    return False, "".join(c for c in str(said) if c.isprintable())[:200]
