"""Two daemons behind one real Traefik, each also with a Traefik of its own, as on several Macs."""

import os
import signal
import time

import httpx
import pytest

from ccproxy_supervisor.cli.gateway import token
from daemon import Daemon, free_ports
from front import Clients, Front, until

pytestmark = pytest.mark.real
ASK = {"model": "echo", "max_tokens": 5, "messages": []}


def member(port: int, admin_port: int) -> dict:
    return {"host": "127.0.0.1", "port": port, "admin_port": admin_port}


def message(front: Front, secret: str) -> int:
    return front.ask("POST", "/v1/messages", ASK, {"Authorization": f"Bearer {secret}"})[0]


def who(front: Front, secret: str) -> str:
    """The process that answers: the stub says its number."""
    return front.ask("POST", "/v1/messages", ASK, {"Authorization": f"Bearer {secret}"})[1]


@pytest.fixture
def daemons():
    with Daemon() as one, Daemon() as two:
        yield one.start(), two.start()


def test_one_host_is_lost_under_load_and_clients_keep_getting_answers(daemons):
    one, two = daemons
    one.settings["fleet"] = [member(one.port, one.admin_port), member(two.port, two.admin_port)]
    one.change()
    with Front(one) as front:
        secret = front.admit("alice")
        until(lambda: message(front, secret) == 200, 5)
        assert len({who(front, secret) for _ in range(10)}) == 2
        with Clients(lambda: message(front, secret), rate=40) as clients:
            time.sleep(1)
            (worker,) = two.pids()
            os.kill(two.process.pid, signal.SIGKILL)  # as if that Mac had lost its power:
            os.kill(worker, signal.SIGKILL)  # the worker does not finish what is inside it either
            killed = time.monotonic()
            time.sleep(4)
            two.process.wait()
            two.start()
            until(lambda: len({who(front, secret) for _ in range(10)}) == 2, 10)

        assert sum(outcome.began > killed for outcome in clients.outcomes) > 100
        assert len(clients.failed()) <= 5


def test_a_host_without_a_worker_is_passed_over(daemons):
    one, two = daemons
    one.settings["fleet"] = [member(one.port, one.admin_port), member(two.port, two.admin_port)]
    one.change()
    with Front(one) as front:
        secret = front.admit("alice")
        until(lambda: message(front, secret) == 200, 5)
        (worker,) = two.pids()
        two.change(proxy={"env": {"STUB_FAIL": "1"}})
        two.order("/reload")
        os.kill(worker, signal.SIGKILL)
        two.until(lambda status: status["status"] == "unhealthy")
        until(lambda: all(message(front, secret) == 200 for _ in range(6)), 10)

        with Clients(lambda: message(front, secret)) as clients:
            time.sleep(2)

        assert not clients.failed()


def test_members_trust_the_fleets_token_and_keep_their_requests_to_themselves(daemons):
    """Both hosts are doors to both: what comes from the other door is answered here and goes in no circle."""
    ports = free_ports(2)
    for daemon in daemons:
        daemon.settings["fleet"] = [member(port, port) for port in ports]
        daemon.change()
    one, two = daemons
    with Front(one, ports[0]) as left, Front(two, ports[1]) as right:
        secret = left.admit("alice")
        fleet = left.admit("fleet")
        assert fleet not in right.say(token, "add", "fleet", "--stdin", told=fleet)
        until(lambda: len({who(left, secret) for _ in range(10)}) == 2, 10)

        assert message(right, secret) == 401  # a client of the other door
        until(
            lambda: (
                {"fleet@file"} == {entry["RouterName"] for entry in right.access_log() if entry["OriginStatus"] == 200}
            ),
            5,
        )
        page = right.get("/metrics", Authorization=f"Bearer {fleet}")
        assert page[0] == 200
        assert "ccproxy_status" in page[1]
        assert right.get("/metrics", Authorization=f"Bearer {secret}")[0] == 401
        assert httpx.get(two.admin_url + "/metrics").status_code == 200
