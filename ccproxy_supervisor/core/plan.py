"""Everything that was read and checked: the settings, LiteLLM's config, and what a worker is born with."""

from __future__ import annotations

from dataclasses import dataclass, field

from ccproxy_supervisor.core.litellm import LiteLLMConfig
from ccproxy_supervisor.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Birth:
    """What only a new process can take on. Two births are the same when their *digest* is."""

    python: str
    config: str
    env: tuple[tuple[str, str], ...] = field(repr=False)
    digest: str
    auth: str = "open"
    litellm_version: str | None = None

    @property
    def key(self) -> str | None:
        """The master key that probes must send; None when LiteLLM is open."""
        return dict(self.env).get("LITELLM_MASTER_KEY")


@dataclass(frozen=True, slots=True)
class Plan:
    """One readable, checked state of the home folder. *secrets* must not reach any log."""

    settings: Settings
    litellm: LiteLLMConfig
    birth: Birth
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
