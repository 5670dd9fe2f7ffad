"""The hosts behind one front door, as Traefik and Prometheus want to hear of them."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from ccproxy_supervisor.core.settings import FleetMember, Settings

#: Of a member's own Traefik; a token of this name admits a front door instead of a client.
PEER = "fleet"


def authority(host: str, port: int) -> str:
    """Write `host:port` as a client dials it: IPv6 in brackets, "every address" as loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def balancer(members: tuple[FleetMember, ...], credentials: dict[str, str]) -> dict[str, Any]:
    """Spread requests over *members*, leaving out those that do not answer.

    Round robin, not least-connections: a dead member has the fewest connections and would draw every retry.
    The check goes through a worker of the member, so a member that is replacing its only worker is left out
    meanwhile; it costs no model anything. Until it notices, a member whose daemon is dead but whose front door is not
    answers 502, which is not tried again elsewhere: a worker that died inside a request is told in the same way.
    """
    check: dict[str, Any] = {"path": "/health/liveliness", "interval": "500ms", "timeout": "2s"}
    if sent := {name: value for name, value in credentials.items() if value}:
        check["headers"] = sent  # an empty mapping would make Traefik refuse the whole file
    servers = [{"url": f"http://{authority(member.host, member.port)}"} for member in members]
    return {"servers": servers, "healthCheck": check}


def targets(settings: Settings) -> str:
    """List what Prometheus should scrape, as a `file_sd` document: every member, or this host alone."""
    hosts = [(member.host, member.admin_port or member.port) for member in settings.fleet]
    hosts = hosts or [(settings.admin.host, settings.admin.port)]
    document = [{"targets": [authority(host, port)], "labels": {"host": host}} for host, port in hosts]
    return json.dumps(document, indent=2) + "\n"
