"""Two daemons behind one real Traefik, each also with a Traefik of its own, as on several Macs."""

import os
import signal
import time
from contextlib import contextmanager

import httpx
import pytest

from ccproxy_supervisor.cli.gateway import token
from daemon import Daemon
from front import Clients, Front, until
from ports import free_ports

pytestmark = pytest.mark.real
ASK = {"model": "echo", "max_tokens": 5, "messages": []}


def member(port: int, admin_port: int) -> dict:
    return {"host": "127.0.0.1", "port": port, "admin_port": admin_port}


def message(front: Front, secret: str) -> int:
    return front.ask("POST", "/v1/messages", ASK, {"Authorization": f"Bearer {secret}"})[0]


def hosts(front: Front, secret: str) -> int:
    """Count who answers ten requests: the stub says its process' number."""
    told = [front.ask("POST", "/v1/messages", ASK, {"Authorization": f"Bearer {secret}"}) for _ in range(10)]
    return len({body for status, body in told if status == 200})


def end(daemon: Daemon) -> float:
    """Kill a daemon and its worker, which does not finish what is inside it either; return when."""
    (worker,) = daemon.pids()
    os.kill(daemon.process.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    return time.monotonic()


@contextmanager
def doors(one: Daemon, two: Daemon):
    """Both hosts are doors to both, each through the other's own Traefik; yields a client's token and the fleet's too."""
    ports = free_ports(2)
    for daemon in (one, two):
        daemon.settings["fleet"] = [member(port, port) for port in ports]
        daemon.change()
    with Front(one, ports[0]) as left, Front(two, ports[1]) as right:
        secret, fleet = left.admit("alice"), left.admit("fleet")
        assert fleet not in right.say(token, "add", "fleet", "--stdin", told=fleet)
        until(lambda: hosts(left, secret) == 2, 30)
        yield left, right, secret, fleet


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
        until(lambda: message(front, secret) == 200, 30)
        until(lambda: hosts(front, secret) == 2, 30)
        with Clients(lambda: message(front, secret), rate=10) as clients:
            time.sleep(1)
            killed = end(two)  # as if that Mac had lost its power
            until(lambda: clients.since(killed) > 40, 60)
            two.process.wait()
            two.start()
            until(lambda: hosts(front, secret) == 2, 30)

        assert len(clients.failed()) <= 5


def test_a_host_without_a_worker_is_passed_over(daemons):
    one, two = daemons
    one.settings["fleet"] = [member(one.port, one.admin_port), member(two.port, two.admin_port)]
    one.change()
    with Front(one) as front:
        secret = front.admit("alice")
        until(lambda: message(front, secret) == 200, 30)
        (worker,) = two.pids()
        two.change(proxy={"env": {"STUB_FAIL": "1"}})
        two.order("/reload")
        os.kill(worker, signal.SIGKILL)
        two.until(lambda status: status["status"] == "unhealthy")
        until(lambda: all(message(front, secret) == 200 for _ in range(6)), 30)

        with Clients(lambda: message(front, secret), rate=10) as clients:
            time.sleep(2)

        assert not clients.failed()


def test_a_daemon_dies_behind_a_front_door_that_lives_and_few_are_told(daemons):
    """That front door answers 502 for it, which is not repeated; what counts is how soon the other one notices."""
    one, two = daemons
    with doors(one, two) as (left, _, secret, _):
        with Clients(lambda: message(left, secret)) as clients:
            time.sleep(1)
            killed = end(two)
            until(lambda: clients.since(killed) > 90, 60)

        assert len(clients.failed()) <= 15
        until(lambda: hosts(left, secret) == 1, 30)


def test_members_trust_the_fleets_token_and_keep_their_requests_to_themselves(daemons):
    """What comes from the other door is answered here and goes in no circle."""
    with doors(*daemons) as (_, right, secret, fleet):
        assert message(right, secret) == 401  # a client of the other door
        until(
            lambda: (
                {"fleet@file"} == {entry["RouterName"] for entry in right.access_log() if entry["OriginStatus"] == 200}
            ),
            30,
        )
        page = right.get("/metrics", Authorization=f"Bearer {fleet}")
        assert page[0] == 200
        assert "ccproxy_status" in page[1]
        assert right.get("/metrics", Authorization=f"Bearer {secret}")[0] == 401
        assert httpx.get(daemons[1].admin_url + "/metrics").status_code == 200
