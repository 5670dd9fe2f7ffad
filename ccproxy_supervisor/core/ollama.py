"""What Ollama's answers mean, and which of LiteLLM's models it is asked for. Nothing from the network is trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from ccproxy_supervisor.core.litellm import Model

MOST_MODELS = 1000
LONGEST_NAME = 256
PROVIDERS = ("ollama/", "ollama_chat/")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


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
    models = _object(body).get("models")
    if models is None:  # spelled so by Go when there are none
        return ()
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise ValueError("its models are not a list of objects")
    if len(models) > MOST_MODELS:
        raise ValueError(f"it lists more than {MOST_MODELS} models")
    names = [model.get("name") or model.get("model") for model in models]
    return tuple(name for name in names if isinstance(name, str) and _decent(name))


def wanted(models: Iterable[Model], url: str) -> tuple[str, ...]:
    """Return the tags that *models* ask of the Ollama at *url*, as written, each once."""
    return tuple(dict.fromkeys(name for model in models if (name := known_as(model, url))))


def local(model: Model, url: str) -> bool:
    """Whether a request for *model* ends at an Ollama: at any by its provider, or at that of *url* by its address."""
    return not model.mock and (model.upstream.startswith(PROVIDERS) or model.ollama is not None or _there(model, url))


def known_as(model: Model, url: str) -> str | None:
    """The tag that *model* asks of the Ollama at *url*; None if it asks another server, or for no tag in particular.

    The provider does not matter where the address is Ollama's: it speaks OpenAI's dialect too.
    """
    if model.mock or not (_there(model, url) or (model.api_base is None and model.ollama is not None)):
        return None
    name = model.ollama or model.upstream.partition("/")[2]
    return name if "*" not in name else None


def _there(model: Model, url: str) -> bool:
    return model.api_base is not None and _server(model.api_base) == _server(url)


def lacking(names: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """Return those of *names* that no entry of *present* means."""
    there = {canonical(name) for name in present}
    return tuple(name for name in names if canonical(name) not in there)


def canonical(name: str) -> str:
    """Spell a name as Ollama compares it: default registry, namespace and tag written out or left out alike, no case."""
    name = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _server(url: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return url, None
    return ("localhost" if host in LOOPBACK else host), port


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
