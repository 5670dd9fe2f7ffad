"""One entry of LiteLLM's model_list, and what is known of it without asking anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

CHAT = frozenset({"chat", "completion", "responses", "anthropic_messages"})
#: Providers that LiteLLM sends to this machine when no address is given.
AT_HOME = {
    "ollama": "http://localhost:11434",
    "ollama_chat": "http://localhost:11434",
    "llamafile": "http://127.0.0.1:8080/v1",
    "lemonade": "http://localhost:8000/api/v1",
    "docker_model_runner": "http://localhost:22088/engines/llama.cpp",
    "xinference": "http://127.0.0.1:9997/v1",
}
OLLAMA = ("ollama", "ollama_chat")
_CARRIER_GRADE = ip_network("100.64.0.0/10")  # Tailscale's, too
_NEAR = (".local", ".lan", ".internal", ".home.arpa", ".localdomain", ".localhost", ".ts.net")
#: The last resort, where neither the config nor LiteLLM's cost map knows the model.
_LOOKS = (
    ("rerank", r"rerank"),
    ("embedding", r"embed|minilm|\bbge\b|\bgte\b|\be5\b|nomic-bert"),
    ("audio_transcription", r"whisper|transcri|parakeet"),
    ("audio_speech", r"\btts\b|speech|kokoro|orpheus|piper"),
    ("image_generation", r"dall-?e|stable-?diffusion|\bsdxl\b|\bflux\b|image|imagen"),
    ("video_generation", r"\bsora\b|\bveo\b|video"),
    ("moderation", r"moderation|guard"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """One deployment. *ollama* is the name Ollama knows it by, None for a model that is not Ollama's.

    *provider* is written where the prefix of *upstream* does not say it. *mode* is what it does (`chat`, `embedding`, …),
    None where only LiteLLM's cost map may know. *custom*: a handler of the config answers. *spared* names the switch of
    LiteLLM's that keeps it from being checked; *checked_as* is the model that LiteLLM asks in its stead.
    """

    name: str
    upstream: str
    ollama: str | None = None
    api_base: str | None = None
    mock: bool = False
    provider: str | None = None
    mode: str | None = None
    custom: bool = False
    spared: str = ""
    checked_as: str | None = None

    @property
    def wildcard(self) -> bool:
        """Whether it stands for models that nobody named."""
        return "*" in self.name or "*" in self.upstream

    @property
    def answered_by(self) -> str:
        """LiteLLM's name of the provider; empty where LiteLLM finds it by the model's name."""
        return self.provider or self.upstream.rpartition("/")[0].partition("/")[0]

    @property
    def base(self) -> str | None:
        """The address that it is asked at; None for a provider's own."""
        return self.api_base or AT_HOME.get(self.answered_by)

    @property
    def free(self) -> bool:
        """Whether asking costs no money: it is answered by LiteLLM itself, or on a machine of ours.

        Ollama passes a model whose tag ends in `cloud` on to its makers, who count.
        """
        if self.mock or self.custom:
            return True
        return near(self.base) and not re.search(r"[:-]cloud( |$)", f"{self.upstream} {self.checked_as or ''}")

    @property
    def does(self) -> str:
        """Its mode, or what its name looks like; empty for one that can only be taken for chat."""
        if self.mode is not None:
            return self.mode
        name = (self.checked_as or self.upstream).lower()
        return next((mode for mode, pattern in _LOOKS if re.search(pattern, name)), "")


def near(url: str | None) -> bool:
    """Whether *url* names this machine or one of the private network. By its form alone: no name is looked up."""
    try:
        host = (urlsplit(url if "://" in url else f"http://{url}").hostname or "") if url else ""
    except ValueError:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(_NEAR))
    return address.is_private or address.is_loopback or address.is_link_local or address in _CARRIER_GRADE


def deployment(name: str, upstream: str, params: Mapping[str, Any], base: str | None, info: Any) -> Model:
    """Read an entry's *params* and its model_info, *info*; *upstream* and *base* have been looked up."""
    provider = params.get("custom_llm_provider")
    info = info if isinstance(info, dict) else {}
    return Model(
        name, upstream, ollama_name(upstream, provider), base, params.get("mock_response") is not None,
        provider=_text(provider),
        mode=_text(info.get("mode")),
        spared="model_info.disable_background_health_check" if info.get("disable_background_health_check") else "",
        checked_as=_text(info.get("health_check_model")),
    )  # fmt: skip


def ollama_name(upstream: str, provider: Any) -> str | None:
    prefix, slash, name = upstream.partition("/")
    if provider in OLLAMA and prefix != provider:
        return upstream if "*" not in upstream else None
    return name if slash and prefix in OLLAMA and name and "*" not in name else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
