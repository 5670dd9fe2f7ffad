"""Finds what is wrong on an unattended Mac: a list of small checks, each with its evidence and its remedy."""

from __future__ import annotations

from collections.abc import Iterator

from ccproxy_supervisor.deploy.doctor import clock, configuration, interpreter, mac, neighbours, network, ports, service
from ccproxy_supervisor.deploy.doctor.finding import Check, Finding, Level, Scene, exit_code, warn

__all__ = ["TOPICS", "Finding", "Level", "Scene", "examine", "exit_code"]

TOPICS: dict[str, tuple[Check, ...]] = {
    "Configuration": (
        configuration.settings,
        configuration.permissions,
        configuration.custody,
        configuration.disk,
        configuration.place,
    ),
    "LiteLLM": (interpreter.litellm, interpreter.certificates),
    "Daemon": (ports.daemon, ports.ports),
    "Service": (service.service,),
    "Mac": (mac.system, mac.restart, mac.power, clock.clock),
    "Neighbours": (neighbours.ollama, neighbours.traefik, neighbours.routes, network.network),
}


def examine(scene: Scene) -> Iterator[tuple[str, Finding]]:
    """Run every check, each finding as it comes, with its topic."""
    for topic, checks in TOPICS.items():
        for check in checks:
            for finding in _guarded(check, scene):
                yield topic, finding


def _guarded(check: Check, scene: Scene) -> Iterator[Finding]:
    try:
        yield from check(scene)
    except Exception as error:  # one check that breaks must not hide what the others find
        name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
        yield warn(f"the check {name} broke", repr(error), "please report it")
