import json
import re
from pathlib import Path

import yaml

from ccproxy_supervisor.core.settings import Settings, parse
from ccproxy_supervisor.deploy.fleet import targets
from ccproxy_supervisor.deploy.tokens import Ledger
from ccproxy_supervisor.deploy.traefik import document

NOW, SECRET = "2026-11-23T08:00:00Z", "f" * 43
CLIENT = Ledger().add("alice", NOW)
PAGE = Path(__file__).parents[2] / "docs" / "TRAEFIK.md"
SETTINGS = parse("fleet: [{host: mini-a}, {host: 10.9.0.2, port: 8081, admin_port: 9082}, {host: 'fd00::3'}]")


def front(told: dict) -> dict:
    return told["services"]["ccproxy"]["loadBalancer"]


def test_requests_are_spread_over_every_member_that_is_well():
    told = front(document(SETTINGS, CLIENT, None))

    assert [server["url"] for server in told["servers"]] == [
        "http://mini-a:8080",
        "http://10.9.0.2:8081",
        "http://[fd00::3]:8080",
    ]
    assert told["healthCheck"]["path"] == "/health/liveliness"  # a worker answers, no model is asked
    assert not {"sticky", "strategy", "passiveHealthCheck"} & set(told)


def seconds(duration: str) -> float:
    return float(duration[:-2]) / 1000 if duration.endswith("ms") else float(duration[:-1])


def shortest(retry: dict) -> float:
    return (retry["attempts"] - 1) * 0.5 * seconds(retry["initialInterval"])  # each wait is drawn from half upwards


def test_a_lost_member_is_retried_elsewhere_for_longer_than_it_takes_to_notice():
    retry = document(SETTINGS, CLIENT, None)["middlewares"]["ccproxy-retry"]["retry"]

    assert shortest(retry) >= seconds(front(document(SETTINGS, CLIENT, None))["healthCheck"]["interval"])
    assert "status" not in retry


def test_a_member_without_its_daemon_says_so_before_it_is_asked_again():
    told = document(SETTINGS, CLIENT.add("fleet", NOW, SECRET), None)

    used = [told["middlewares"][name].get("retry") for name in told["routers"]["fleet"]["middlewares"]]
    (retry,) = filter(None, used)
    assert 4 * shortest(retry) < seconds(front(told)["healthCheck"]["interval"])
    assert "status" not in retry


def test_members_are_sent_the_fleets_token_and_never_a_clients():
    told = document(SETTINGS, CLIENT.add("fleet", NOW, SECRET), "sk-litellm")

    sent = told["middlewares"]["ccproxy-credentials"]["headers"]["customRequestHeaders"]
    assert sent["Authorization"] == f"Bearer {SECRET}"
    assert front(told)["healthCheck"]["headers"] == {"Authorization": f"Bearer {SECRET}"}
    assert "sk-litellm" not in json.dumps([sent, front(told)])


def test_without_a_fleets_token_members_are_asked_as_litellm_is():
    assert front(document(SETTINGS, CLIENT, "sk-litellm"))["healthCheck"]["headers"] == {
        "Authorization": "Bearer sk-litellm"
    }
    assert "headers" not in front(document(SETTINGS, CLIENT, None))["healthCheck"]


def test_what_comes_from_another_front_door_stays_on_this_host():
    told = document(SETTINGS, CLIENT.add("fleet", NOW, SECRET), "sk-litellm")

    assert told["routers"]["fleet"]["service"] == "ccproxy-local"
    assert told["services"]["ccproxy-local"]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:8081"}]
    assert "healthCheck" not in told["services"]["ccproxy-local"]["loadBalancer"]
    local = told["middlewares"]["ccproxy-local-credentials"]["headers"]["customRequestHeaders"]
    assert local["Authorization"] == "Bearer sk-litellm"
    assert "client-fleet" not in told["routers"]


def test_another_front_door_may_ask_for_health_and_metrics_and_clients_may_not():
    routers = document(SETTINGS, CLIENT.add("fleet", NOW, SECRET), None)["routers"]

    assert "/health/liveliness" in routers["fleet"]["rule"]
    assert routers["fleet-metrics"]["service"] == "ccproxy-admin"
    assert "/health" not in routers["client-alice"]["rule"]
    assert "/metrics" not in routers["client-alice"]["rule"]


def test_prometheus_is_told_of_every_member():
    assert json.loads(targets(SETTINGS)) == [
        {"targets": ["mini-a:8080"], "labels": {"host": "mini-a"}},
        {"targets": ["10.9.0.2:9082"], "labels": {"host": "10.9.0.2"}},
        {"targets": ["[fd00::3]:8080"], "labels": {"host": "fd00::3"}},
    ]


def test_prometheus_is_told_of_this_host_when_there_is_no_other():
    assert json.loads(targets(Settings())) == [{"targets": ["127.0.0.1:8082"], "labels": {"host": "127.0.0.1"}}]


def test_members_of_the_page_about_traefik_are_not_where_it_speaks_tls():
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)]
    secure = {
        point["address"].rpartition(":")[2]
        for block in blocks
        for point in block.get("entryPoints", {}).values()
        if "tls" in point.get("http", {})
    }

    (fleet,) = [parse(yaml.safe_dump(block)).fleet for block in blocks if "fleet" in block]

    assert secure
    assert not secure & {str(member.port) for member in fleet}  # a balancer speaks plain HTTP to them
