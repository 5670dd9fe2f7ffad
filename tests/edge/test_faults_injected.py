"""Every kind of exception, at every edge, in a running daemon: it lives, it serves, it tells, and goes on."""

import contextlib
import itertools
import json
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

import faulty
from daemon import Daemon

pytestmark = pytest.mark.once

PROGRAM = Path(faulty.__file__)


@pytest.fixture(scope="module")
def daemon():
    settings = {"proxy": {"workers": 2}, "ollama": {"enabled": True, "url": "http://127.0.0.1:9", "interval": "1s"}}
    with Daemon(models={"interval": "1s"}, logs={"rotate": "never"}, **settings) as it:
        it.program = [str(PROGRAM), str(it.folder), "--hasten"]
        yield it.start(wait=None)


def until(daemon, fact, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert daemon.process.poll() is None, f"the daemon ended\n{daemon.last_words()}"
        assert time.monotonic() < deadline, f"it never came true\n{daemon.last_words()}"
        time.sleep(0.05)
    return found


def pages(daemon):
    """What the admin pages answer; a page may fail while its part does."""
    found = {}
    for path in ("/status", "/metrics", "/health"):
        with contextlib.suppress(httpx.HTTPError):
            found[path] = httpx.get(daemon.admin_url + path, timeout=10)
    return found


def well(daemon):
    with contextlib.suppress(KeyError, httpx.HTTPError):
        found = pages(daemon)
        workers = found["/status"].json()["workers"]
        serving = [worker["pid"] for worker in workers if worker["state"] == "serving"]
        complete = b"ccproxy_worker_resident_memory_bytes" in found["/metrics"].content
        if len(serving) == 2 and complete and b"process_open_fds" in found["/metrics"].content:
            return serving
    return None


def disturb(daemon, turn):
    """Give every edge something to do."""
    found = pages(daemon)
    with contextlib.suppress(httpx.HTTPError):
        daemon.get("/print?text=hello")
    if serving := well(daemon):
        os.kill(serving[0], signal.SIGKILL)
    daemon.change(logs={"keep": 8 + turn % 2}, proxy={"kill_timeout": f"{2 + turn % 2}s"})
    daemon.process.send_signal(signal.SIGHUP)
    daemon.process.send_signal(signal.SIGUSR1)
    with contextlib.suppress(OSError):
        os.unlink(daemon.folder / "run" / ("control.sock", "state.json")[turn % 2])
    return found


@pytest.mark.parametrize("kind", faulty.FAULTS)
def test_a_fault_of_any_part_is_told_and_costs_nothing_else(daemon, kind):
    until(daemon, lambda: well(daemon))
    daemon.write("arm", kind)
    hits = daemon.folder / "hits"
    served = []

    turns = itertools.count()

    def all_hit():
        disturb(daemon, next(turns))
        with contextlib.suppress(httpx.HTTPError):
            served.append(daemon.get("/health/liveliness").status_code)
        met = json.loads(hits.read_text())
        return met["armed"] == kind and set(met["hits"]) == set(faulty.TARGETS)

    try:
        until(daemon, all_hit)
    except AssertionError as error:
        missed = set(faulty.TARGETS) - set(json.loads(hits.read_text())["hits"])
        raise AssertionError(f"never met: {sorted(missed)}\n{error}") from None
    assert 200 in served
    until(daemon, lambda: well(daemon))

    daemon.write("arm", "")
    until(daemon, lambda: json.loads(hits.read_text())["armed"] == "")
    daemon.until(lambda status: status["status"] == "healthy" or "Ollama" in str(status["reasons"]))
    assert daemon.order("/reload")["result"] in ("applied", "unchanged")
    pids = {worker["pid"] for worker in daemon.status()["workers"]}
    daemon.saved(lambda saved: {worker["pid"] for worker in saved["workers"]} == pids)
