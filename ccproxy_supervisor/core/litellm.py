"""What the supervisor needs to know of a LiteLLM config, and what it can tell is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccproxy_supervisor.core.faults import Fault


@dataclass(frozen=True, slots=True)
class Model:
    """One deployment. *ollama* is the tag Ollama knows it by, None for a model that is not Ollama's."""

    name: str
    upstream: str
    ollama: str | None = None
    api_base: str | None = None
    mock: bool = False


@dataclass(frozen=True, slots=True)
class LiteLLMConfig:
    """*models* in the order of the file; a name may be there more than once (LiteLLM balances over them)."""

    models: tuple[Model, ...]
    warnings: tuple[Fault, ...] = ()


def parse_litellm(text: str, env: Mapping[str, str], source: str = "config.yaml", auth: str = "open") -> LiteLLMConfig:
    """Read a LiteLLM config for a worker whose environment is *env*; raises `ConfigError` with every fault."""
    raise NotImplementedError
