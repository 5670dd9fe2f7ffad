"""Which model a new LiteLLM must answer for before it is trusted, and what it is asked."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable

from ccproxy_supervisor.core.answer import Answer, Failure, verdict
from ccproxy_supervisor.core.checks import by_name
from ccproxy_supervisor.core.deployment import CHAT, Model
from ccproxy_supervisor.core.ollama import known_as, lacking, local

PATH = "/v1/chat/completions"


def question(model: str) -> bytes:
    """The body of a request for a few words of chat."""
    return json.dumps({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).encode()


def wrong(model: str, outcome: Answer | Failure) -> str | None:
    """Say what is wrong with the answer; None when it is a completion."""
    judged = verdict(outcome)
    if not isinstance(outcome, Answer) or not judged.ok:
        return f"model {model} does not answer: {judged.detail}"
    try:
        answered = bool(json.loads(outcome.body)["choices"])
    except (ValueError, LookupError, TypeError, RecursionError):
        answered = False
    return None if answered else f"model {model} does not answer: no completion in what it said"


def best(models: Iterable[Model], url: str, loaded: Collection[str]) -> str | None:
    """Name the model that may be asked for a few words of chat at nobody's expense; None when there is none.

    A mock; else what runs on a machine of ours and need not be loaded: a handler of the config, another server's, or
    what the Ollama at *url* has *loaded*; else one it has to load. Never a name that stands for many, or does not chat.
    """
    ranks = {
        name: max(_rank(model, url, loaded) for model in deployments)
        for name, deployments in by_name(models).items()
        if not any(_unfit(model) for model in deployments)  # LiteLLM may choose any of them
    }
    return min(ranks, key=lambda name: ranks[name], default=None)


def harmless(models: Iterable[Model]) -> tuple[tuple[Model, ...], ...]:
    """Gather under their names all that may be asked so; those that LiteLLM answers itself come first: nobody else can
    make them slow."""
    groups = [each for each in by_name(models).values() if not any(_unfit(model) or model.spared for model in each)]
    return tuple(sorted(groups, key=lambda group: not all(model.mock or model.custom for model in group)))


def _rank(model: Model, url: str, loaded: Collection[str]) -> int:
    if model.mock:
        return 0
    name = known_as(model, url)
    return 1 if not local(model, url) or (name and not lacking([name], loaded)) else 2


def why_none(models: Iterable[Model]) -> str:
    """Say, model by model, why none may be asked."""
    return ", ".join(dict.fromkeys(f"{model.name} {_unfit(model)}" for model in models if _unfit(model)))


def _unfit(model: Model) -> str:
    if model.wildcard:
        return "stands for many"
    if not model.free:
        return "would cost money"
    return "" if not model.does or model.does in CHAT else f"does {model.does.replace('_', ' ')}"
