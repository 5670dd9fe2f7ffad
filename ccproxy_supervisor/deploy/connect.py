"""What to paste into a terminal, or a file, so that a program talks to this proxy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.deploy.fleet import authority
from ccproxy_supervisor.edge.home import Home

DOOR = "http://127.0.0.1:8080"  # where the shipped traefik.yaml listens


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where clients come in: *url* without a slash at the end, the *token*, and the *models* there are."""

    url: str
    token: str
    models: Sequence[str]

    @property
    def named(self) -> list[str]:
        """Models that can be asked for by the name they have."""
        return [name for name in self.models if "*" not in name] or ["echo"]


def claude(door: Gateway) -> str:
    """Claude Code, and what else is made with Anthropic's SDK."""
    lines = [_export("ANTHROPIC_BASE_URL", door.url), _export("ANTHROPIC_AUTH_TOKEN", door.token)]
    if not any(name == "*" or name.startswith("claude-") for name in door.models):
        lines += [_export(name, door.named[0]) for name in ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL")]
    return "\n".join([*lines, "claude"])


def openai(door: Gateway) -> str:
    """Programs made with OpenAI's SDK."""
    return "\n".join([_export("OPENAI_BASE_URL", f"{door.url}/v1"), _export("OPENAI_API_KEY", door.token)])


def codex(door: Gateway) -> str:
    """Codex reads where to ask from a file, and the token from the environment."""
    told = f"""\
# into ~/.codex/config.toml
model = {json.dumps(door.named[0])}
model_provider = "ccproxy"

[model_providers.ccproxy]
name = "ccproxy"
base_url = {json.dumps(f"{door.url}/v1")}
env_key = "CCPROXY_TOKEN"
wire_api = "responses"

# into the terminal
"""
    return told + "\n".join([_export("CCPROXY_TOKEN", door.token), "codex"])


def opencode(door: Gateway) -> str:
    """opencode wants to be told the models too."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "ccproxy",
        "options": {"baseURL": f"{door.url}/v1", "apiKey": "{env:CCPROXY_TOKEN}"},
        "models": {name: {"name": name} for name in door.named},
    }
    told = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"ccproxy": provider},
        "model": f"ccproxy/{door.named[0]}",
    }
    words = [_export("CCPROXY_TOKEN", door.token), "opencode"]
    return "\n".join(
        ["// into ~/.config/opencode/opencode.json", json.dumps(told, indent=2), "", "# into the terminal", *words]
    )


PROGRAMS = {"claude": claude, "codex": codex, "openai": openai, "opencode": opencode}


def door_of(home: Home, entry_points: Sequence[str]) -> str:
    """The address in the home's traefik.yaml, or else the one in ours; "every address" is loopback."""
    try:
        static = yaml.safe_load(home.read(home.path("traefik/traefik.yaml")))
        found = next(static["entryPoints"][name] for name in entry_points if name in static["entryPoints"])
        host, _, port = str(found["address"]).partition("/")[0].rpartition(":")
        scheme = "https" if "tls" in (found.get("http") or {}) else "http"
        return f"{scheme}://{authority(host.strip('[]') or '0.0.0.0', int(port))}"
    except (
        ConfigError,
        yaml.YAMLError,
        LookupError,
        StopIteration,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ):
        return DOOR


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"
