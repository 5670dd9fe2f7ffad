"""What there is to watch: the daemon's metrics, the rules over them and the dashboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.model import Status
from ccproxy_supervisor.core.traffic import Book, Key
from ccproxy_supervisor.edge.capacity import Capacity
from ccproxy_supervisor.edge.gauges import Gauges, ProcessGauges, Sources
from ccproxy_supervisor.edge.metrics import Metrics
from ccproxy_supervisor.edge.traffic import TrafficNumbers

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "config" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "config" / "grafana" / "ccproxy.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for path in sorted(PROMETHEUS.glob("rules/*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
#: Not ours: of Prometheus and of Traefik, seen there by the tests of the real programs.
FOREIGN = {"up", "traefik_router_requests_total", "traefik_entrypoint_requests_total"}
FOREIGN |= {"traefik_router_request_duration_seconds_bucket"}


TRAFFIC: Book = {Key("echo", "chat", "direct"): {"ok": 1}}


def offered() -> dict[str, set[tuple[str, str]]]:
    """Name the samples of a daemon's page, each with its labels and their values."""
    models = lambda: (ModelView("echo"),)  # noqa: E731
    sources = Sources(lambda: Status.STARTING, lambda: 0, lambda: (), dict, lambda: 0, models, lambda: None)
    gauges = Gauges(sources, "0")
    gauges.adopt(1, ["llama2"], "1")
    metrics = Metrics(
        [gauges, ProcessGauges(), Capacity(lambda: ROOT, lambda: 1 << 30), TrafficNumbers(lambda: (TRAFFIC, {}))]
    )
    page = metrics.render("")[0].decode()
    told: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            told.setdefault(sample.name, set()).update(sample.labels.items())
    return told


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Find the series an expression asks for: names with their matchers, `=` and `=~` alike."""
    found = re.findall(r"\b((?:ccproxy|process|traefik)_[a-z_]+|up)\b(?!:)(?:\{([^}]*)\})?", without_rules(expression))
    return [(name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers))) for name, matchers in found]


def without_rules(expression: str) -> str:
    return re.sub(r"[a-z_]+:[a-z0-9_:]+", "", expression)


def recorded(expression: str) -> set[str]:
    return set(re.findall(r"\b[a-z_]+:[a-z0-9_:]+", expression))


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard with the title of its panel, Grafana's variables filled in."""
    found = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    found += [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"] if "expr" in note]
    filled = {"$__rate_interval": "1m", "$__interval": "1m", "$instance": ".*"}
    return [(title, re.sub("|".join(map(re.escape, filled)), lambda m: filled[m[0]], text)) for title, text in found]
