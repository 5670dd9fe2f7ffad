"""The local network, which macOS closes to a service until its person has allowed it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from ccproxy_supervisor.core.deployment import near
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, ok, skip
from ccproxy_supervisor.deploy.doctor.ports import ask_status

SINCE = 15  # macOS that has Local Network Privacy
DENIED = "No route to host"
REMEDY = (
    "System Settings > Privacy & Security > Local Network: allow python; or: sudo ccproxy-supervisor install --daemon"
)


def network(scene: Scene) -> Iterator[Finding]:
    """Whether the daemon is kept from machines beside this one that it needs; a Terminal has leave of its own."""
    hosts = sorted(_beside(scene))
    version = scene.program("sw_vers", "-productVersion")
    if not hosts or scene.written is None:
        return
    if version is None or not version.out.split(".")[0].isdecimal() or int(version.out.split(".")[0]) < SINCE:
        yield skip("Local Network Privacy")
        return
    evidence = f"needed: {', '.join(hosts)}"
    status = ask_status(scene, scene.written)
    if status is None:
        yield skip("Local Network Privacy", "the daemon does not answer; ccproxy-supervisor selftest looks without it")
    elif DENIED in json.dumps([status.get("ollama"), status.get("models")]):
        yield fail("macOS keeps the daemon from the local network", f"{evidence}; the daemon says: {DENIED}", REMEDY)
    else:
        yield ok("nothing keeps the daemon from the local network", evidence)


def _beside(scene: Scene) -> Iterator[str]:
    """Hosts of the private network, this machine excepted, that the settings and LiteLLM's config name."""
    urls = [scene.settings.ollama.url] if scene.settings.ollama.enabled else []
    if not isinstance(scene.plan, ConfigError):
        urls += [model.base for model in scene.plan.litellm.models if model.base]
    for url in dict.fromkeys(urls):
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
        loopback = host == "localhost"
        with suppress(ValueError):
            loopback = ip_address(host).is_loopback or ip_address(host).is_unspecified
        if near(url) and not loopback:
            yield host
