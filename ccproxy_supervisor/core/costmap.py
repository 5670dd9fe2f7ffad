"""LiteLLM's own list of models: what each of them does. Three megabytes of JSON, of which a few entries are wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from ccproxy_supervisor.core.deployment import Model

_DECODER = json.JSONDecoder()


def with_modes(models: Iterable[Model], read: Callable[[], str]) -> tuple[Model, ...]:
    """Fill in the mode of those *models* that do not say theirs, as LiteLLM's health check does; *read* gives the list."""
    models = tuple(models)
    if all(model.mode is not None or model.mock or model.custom for model in models):
        return models
    text = read()
    return tuple(model if model.mode is not None else replace(model, mode=_mode(model, text)) for model in models)


def _mode(model: Model, text: str) -> str | None:
    """As it is written, then without the provider (`default_health_check_mode`)."""
    asked = model.checked_as or model.upstream
    return _entry(asked, text) or (_entry(asked.partition("/")[2], text) if "/" in asked else None)


def _entry(name: str, text: str) -> str | None:
    """Parse the one entry *name*: the whole as objects would be most of a daemon's memory."""
    found = re.search(rf"{re.escape(json.dumps(name))}\s*:\s*", text)
    try:
        entry, _ = _DECODER.raw_decode(text, found.end()) if found else ({}, 0)
        mode = entry.get("mode")
    except (ValueError, AttributeError, RecursionError):
        return None
    return mode if isinstance(mode, str) else None
