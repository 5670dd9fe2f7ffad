"""Which models are asked whether they are well, and why not the others: a question must cost nobody anything unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ccproxy_supervisor.core.deployment import CHAT, Model
from ccproxy_supervisor.core.faults import MOST, Fault, nearest
from ccproxy_supervisor.core.settings import ModelSettings, Settings

#: What LiteLLM's check has a call for (`HealthCheckHelpers.get_mode_handlers`) …
ASKABLE = CHAT | {"embedding", "audio_speech", "audio_transcription", "rerank", "realtime", "batch", "ocr", "decisions"}
#: … besides these, which make a picture or a film every time.
WORK = frozenset({"image_generation", "image_edit", "video_generation"})


def by_name(models: Iterable[Model]) -> dict[str, tuple[Model, ...]]:
    """Gather deployments under the names that clients ask for, in the order of the config."""
    gathered: dict[str, tuple[Model, ...]] = {}
    for model in models:
        gathered[model.name] = (*gathered.get(model.name, ()), model)
    return gathered


def unasked(deployments: tuple[Model, ...], settings: ModelSettings) -> str:
    """Say why the deployments under one name are not asked; empty when they are.

    LiteLLM is asked by the name and asks them all, so one that must not be asked speaks for the others.
    """
    reason = next(filter(None, (_unasked(model, settings) for model in deployments)), "")
    return f"{reason} (one of {len(deployments)} deployments)" if reason and len(deployments) > 1 else reason


def _unasked(model: Model, settings: ModelSettings) -> str:
    if settings.interval is None:
        return "models.interval is off"
    if model.spared:
        return f"{model.spared} leaves it out"
    if model.name in settings.check:
        return ""
    if "*" in (model.checked_as or model.upstream):
        return "it stands for many models; model_info.health_check_model names one"
    if not model.free and not settings.paid:
        return "it would cost money; models.check or models.paid allows it"
    if model.mock:
        return ""
    if model.mode is None and model.does:
        return f"it looks like {model.does.replace('_', ' ')}; set model_info.mode"
    if model.does in WORK:
        return f"each check would be a whole {model.does.replace('_', ' ')}; models.check allows it"
    return "" if model.does in ASKABLE or not model.does else f"LiteLLM has no check for mode {model.does}"


def strangers(models: Iterable[Model], settings: Settings, source: str) -> Iterator[Fault]:
    """Find the names among the *settings*, of the file *source*, that LiteLLM's config does not have."""
    names = {model.name for model in models}
    for path, named in (("models.check", settings.models.check), ("ollama.preload", settings.ollama.preload)):
        for count, name in enumerate(name for name in dict.fromkeys(named) if name not in names):
            meant = nearest(name, names) if count < MOST else None
            hint = f"; did you mean {meant}?" if meant else ""
            yield Fault(source, f"LiteLLM's config has no model {name}{hint}", path)


def told(models: Iterable[Model], settings: ModelSettings) -> Iterator[str]:
    """Say in words who is asked and who is not, a line each."""
    reasons = {name: unasked(deployments, settings) for name, deployments in by_name(models).items()}
    if asked := [name for name, reason in reasons.items() if not reason]:
        yield f"asked whether they are well: {', '.join(asked)}"
    for reason in dict.fromkeys(filter(None, reasons.values())):
        yield f"not asked, for {reason}: {', '.join(name for name, mine in reasons.items() if mine == reason)}"
