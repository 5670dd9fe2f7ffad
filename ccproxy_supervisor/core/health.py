"""How each model is: what LiteLLM's reports mean, and the one place where it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ccproxy_supervisor.core.answer import Answer, Failure, verdict
from ccproxy_supervisor.core.checks import unasked
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.model import ModelSeen, Verdict
from ccproxy_supervisor.core.settings import ModelSettings

KEY_REFUSED, PASSING = (401, 403), (408, 429)
_UNREACHABLE = re.compile(r"connection|connect call|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer about a name. *well* counts its deployments that answered; *healthy* is None when it told nothing.

    *final*: what is wrong is in the request or its key, and will be so the next time.
    """

    healthy: bool | None
    well: int = 0
    detail: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class ModelView:
    """What is known of a name. Healthy: at least one of its *deployments* answered when it was asked last.

    *checked* is wall time, None before the first answer; *well* counts the deployments that answered, None before.
    """

    name: str
    healthy: bool | None = None
    checked: float | None = None
    detail: str = ""
    upstreams: tuple[str, ...] = ()
    deployments: int = 1
    well: int | None = None
    asked: bool = True
    doubted: bool = False
    """It failed once: it is asked again before that counts."""


class ModelHealth:
    """The views, by name. Whoever asks the models is the one who writes; whoever tells of them reads here."""

    def __init__(self) -> None:
        self._views: dict[str, ModelView] = {}
        self._passed: set[str] = set()

    @property
    def views(self) -> tuple[ModelView, ...]:
        return tuple(self._views.values())

    def doubted(self, name: str) -> bool:
        return name in self._views and self._views[name].doubted

    def adopt(self, models: Mapping[str, tuple[Model, ...]], settings: ModelSettings) -> list[ModelSeen]:
        """Take up names and who may be asked; what was known of a name stays known while it is asked."""
        before, self._views, seen = self._views, {}, []
        for name, deployments in models.items():
            reason = unasked(deployments, settings)
            known = before.get(name) or ModelView(name)
            if reason or not known.asked:
                known = ModelView(name, checked=known.checked, detail=f"not asked: {reason}" if reason else "")
            upstreams = tuple(dict.fromkeys(model.upstream for model in deployments))
            self._views[name] = replace(known, upstreams=upstreams, deployments=len(deployments), asked=not reason)
        for name, old in before.items():
            if old.healthy is False and (name not in self._views or self._views[name].healthy is None):
                seen.append(ModelSeen(name, None, "is not asked any more", before=False))
        return seen

    def heard(self, name: str, heard: Heard, at: float) -> ModelSeen | None:
        """Take in an answer; returns what that changed. One failure is no verdict, unless it is *final*."""
        if (old := self._views.get(name)) is None:
            return None
        self._passed.discard(name)
        if heard.healthy is None:
            self._views[name] = replace(old, detail=heard.detail)
            return None
        doubted = not (heard.healthy or heard.final or old.doubted or old.healthy is False)
        healthy = old.healthy if doubted else heard.healthy
        detail = f"failed once: {heard.detail}" if doubted else heard.detail
        self._views[name] = replace(old, healthy=healthy, checked=at, detail=detail, well=heard.well, doubted=doubted)
        return ModelSeen(name, healthy, heard.detail, before=old.healthy) if healthy is not old.healthy else None

    def passed_over(self, name: str) -> ModelSeen | None:
        """A model that may not be asked now cannot show that it is well again: the second time it is no longer unwell."""
        old = self._views.get(name)
        if old is None or old.healthy is True:
            return None
        if old.healthy is None or name in self._passed:
            self._passed.discard(name)
            why = "not asked: it is not loaded, and asking would load it"
            self._views[name] = replace(old, healthy=None, detail=why, doubted=False, well=None)
            return ModelSeen(name, None, why, before=False) if old.healthy is False else None
        self._passed.add(name)
        return None


def judge(outcome: Answer | Failure, deployments: int = 1) -> tuple[Verdict, Heard]:
    """Read LiteLLM's report on a name: a fault of the model is told from LiteLLM's own, and neither is thrown away."""
    judged = verdict(outcome)
    if isinstance(outcome, Failure):
        healthy = False if outcome.reason == "timeout" else None
        return judged, Heard(healthy, 0, outcome.detail if healthy is False else f"LiteLLM: {outcome.detail}")
    if outcome.status not in (200, 503):
        refused = 400 <= outcome.status < 500
        detail = f"LiteLLM answered {outcome.status}: {_message(outcome.body)}".removesuffix(": ")
        return judged, Heard(False if refused else None, 0, detail, final=refused and outcome.status not in PASSING)
    try:
        well, sick = _report(outcome.body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        detail = "not LiteLLM's report"
        return Verdict(ok=False, seconds=outcome.seconds, reason="garbage", detail=detail), Heard(None, 0, detail)
    heard = _fold(well, sick, deployments)
    ok = bool(heard.healthy)
    return Verdict(ok, outcome.seconds, "" if ok else "status", heard.detail), heard


def _report(body: bytes) -> tuple[int, list[tuple[int, str]]]:
    """Return how many endpoints are well, and status and error of each other one."""
    data = json.loads(body)
    sick = [(endpoint.get("exception_status"), endpoint.get("error")) for endpoint in data["unhealthy_endpoints"]]
    well = len(data["healthy_endpoints"])
    return well, [(status if isinstance(status, int) else 0, str(error or "")) for status, error in sick]


def _fold(well: int, sick: list[tuple[int, str]], deployments: int) -> Heard:
    """Make one verdict of a name's deployments: it is well while one of them is."""
    if not well and not sick:
        return Heard(healthy=False, detail="LiteLLM has no such model")
    final = not well and all(400 <= status < 500 and status not in PASSING for status, _ in sick)
    detail = _words(*sick[0]) if sick else ""
    if detail and len(sick) + well > 1:
        detail = f"{len(sick)} of {len(sick) + well}: {detail}"
    if not detail and well < deployments:
        detail = f"LiteLLM serves {well} of {deployments} deployments"
    return Heard(well > 0, well, detail, final)


def _words(status: int, error: str) -> str:
    line = _line(error)
    if status in KEY_REFUSED:
        return f"the key is refused: {line}"
    return f"cannot be reached: {line}" if status not in range(400, 500) and _UNREACHABLE.search(line) else line


def _message(body: bytes) -> str:
    """What an error of LiteLLM's says, in any of its shapes."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return _line(body[:2000].decode(errors="replace"))
    for key in ("detail", "error", "message", "error"):
        data = data[key] if isinstance(data, dict) and key in data else data
    return _line(data if isinstance(data, str) else json.dumps(data))


def _line(text: str) -> str:
    """Return the first line, without the traceback that LiteLLM appends."""
    return "".join(c for c in text.partition("\n")[0] if c.isprintable())[:200]
