"""Clients that keep their connections lose nothing when workers are replaced, however often they ask."""

import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from daemon import Daemon

pytestmark = pytest.mark.once

KEEP = httpx.Limits(keepalive_expiry=300)  # longer than anybody's: it never closes by itself


@pytest.fixture
def daemon():
    with Daemon(health={"interval": "200ms", "timeout": "3s"}) as daemon:
        yield daemon


@contextmanager
def asking(url, *intervals):
    """Clients with one connection each, that POST every so often; yields (answers, what was lost)."""
    answers, lost, over = [], [], threading.Event()

    def client(interval):
        with httpx.Client(base_url=url, limits=KEEP, timeout=60) as http:
            while not over.wait(interval):
                try:
                    answers.append(http.post("/v1/messages", json={"model": "echo"}))
                except httpx.TransportError as error:
                    lost.append((interval, error))

    threads = [threading.Thread(target=client, args=(interval,)) for interval in intervals]
    for thread in threads:
        thread.start()
    try:
        yield answers, lost
    finally:
        over.set()
        for thread in threads:
            thread.join()


def connections(answers):
    return {id(answer.extensions["network_stream"]) for answer in answers}


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_lost_while_every_worker_is_replaced(daemon, workers):
    daemon.change(proxy={"workers": workers})
    daemon.start()
    with asking(daemon.url, 0, 0.01, 0.02, 0.3, 0.45, 0.7, 1.1, 1.9, 2.1, 3) as (answers, lost):
        for _ in range(4):
            assert daemon.order("/restart")["result"] == "rolled"
        begun = len(answers)
        while len(answers) < begun + 50:
            time.sleep(0.05)

    assert lost == []
    assert {answer.status_code for answer in answers} == {200}
    assert len(connections(answers)) < len(answers) / 2  # they were kept


def test_a_busy_client_does_not_stay_with_one_of_two_workers(daemon):
    daemon.change(proxy={"workers": 2})
    daemon.start()
    with asking(daemon.url, *[0] * 6) as (answers, lost):
        while len({answer.json()["pid"] for answer in list(answers)}) < 2:
            assert len(answers) < 20_000
            time.sleep(0.2)
    assert lost == []
