"""What Ollama's answers mean, and which of LiteLLM's models it is asked for. Nothing from the network is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

from ccproxy_supervisor.core.deployment import OLLAMA, Model
from ccproxy_supervisor.core.values import is_loopback
from ccproxy_supervisor.core.wedge import Loaded

MOST_MODELS = 1000
LONGEST_NAME = 256
PORT = 11434  # nobody else's


def read_version(body: bytes) -> str:
    """Read `/api/version`; raises `ValueError` in words for people."""
    version = _object(body).get("version")
    if not isinstance(version, str) or not _decent(version):
        raise ValueError("its version is not a short text")
    return version


def read_models(body: bytes) -> tuple[str, ...]:
    """Read the names in `/api/tags` or `/api/ps`; raises `ValueError` in words for people.

    Names that are too long or unprintable are left out: no such model can be asked for.
    """
    return tuple(name for model in _models(body) if (name := _name(model)))


def read_loaded(body: bytes) -> tuple[Loaded, ...]:
    """Read `/api/ps` in full; raises `ValueError` in words for people."""
    return tuple(
        Loaded(name, _moment(model.get("expires_at")), _count(model.get("context_length")))
        for model in _models(body)
        if (name := _name(model))
    )


def _models(body: bytes) -> list[dict[str, object]]:
    models = _object(body).get("models")
    if models is None:  # spelled so by Go when there are none
        return []
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise ValueError("its models are not a list of objects")
    if len(models) > MOST_MODELS:
        raise ValueError(f"it lists more than {MOST_MODELS} models")
    return models


def _name(model: Mapping[str, object]) -> str:
    name = model.get("name") or model.get("model")
    return name if isinstance(name, str) and _decent(name) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _moment(value: object) -> float | None:
    """Wall time; None for what is no moment, or one before Ollama."""
    try:
        return max(datetime.fromisoformat(str(value)).timestamp(), 0.0) or None
    except (ValueError, OverflowError, OSError):
        return None


def wanted(models: Iterable[Model], url: str) -> tuple[str, ...]:
    """Return the tags that *models* ask of the Ollama at *url*, as written, each once."""
    return tuple(dict.fromkeys(name for model in models if (name := known_as(model, url))))


def local(model: Model, url: str) -> bool:
    """Whether a request for *model* ends at an Ollama, the one at *url* or another: by its provider, or by its address.

    The provider does not matter where the address is Ollama's: it speaks OpenAI's dialect and Anthropic's too.
    """
    if model.mock or model.custom:
        return False
    if model.answered_by in OLLAMA:
        return True
    return model.base is not None and (_server(model.base)[1] == PORT or _server(model.base) == _server(url))


def known_as(model: Model, url: str) -> str | None:
    """The tag that *model* asks of the Ollama at *url*; None if it asks another server, or for no tag in particular."""
    here = model.base is not None and local(model, url) and _server(model.base) == _server(url)
    return tag(model) if here else None


def tag(model: Model) -> str | None:
    """The name that Ollama knows *model* by; None for one that stands for many."""
    name = model.ollama or (model.upstream if model.provider else model.upstream.partition("/")[2])
    name = name.removeprefix(f"{model.provider}/")
    return name if name and "*" not in name else None


def root(url: str) -> str:
    """Where the paths of Ollama's own dialect start, given the address of another dialect's."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def lacking(names: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """Return those of *names* that no entry of *present* means."""
    there = {canonical(name) for name in present}
    return tuple(name for name in names if canonical(name) not in there)


def canonical(name: str) -> str:
    """Spell a name as Ollama compares it: default registry, namespace and tag written out or left out alike, no case."""
    name = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _server(url: str) -> tuple[str, int | None]:
    """Host and port; this machine by any of its names is `localhost`."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, None
    return ("localhost" if _here(host) else host.rstrip(".")), port


def _here(host: str) -> bool:
    """Whether a client that connects to *host* stays on this machine; 0.0.0.0 leads a client there, too."""
    name = host.rstrip(".")
    return is_loopback(name) or name.endswith(".localhost") or name in ("0.0.0.0", "::")


def _object(body: bytes) -> dict[str, object]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    match data:
        case dict():
            return data
    raise ValueError("not a JSON object")


def _decent(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()
