"""The supervisor lost, killed again and again, and renewed: what it costs the clients; and what a worker's start costs, forked or not."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from benchmarks.number import Number, median
from daemon import Daemon, wait_until_gone
from load import Load, kill
from real import real, shipped

BUSY = {"rate": 20.0, "streams": 4}
ROUNDS, KILLS = 5, int(os.environ.get("KILLS", "100"))
MIB = 1 << 20


def survival() -> Iterator[Number]:
    """`kill -9` of the supervisor and its restart, then `renew`, under 20 requests/s and 4 streams; and many kills in a row."""
    with real(proxy={"standby": 1}) as daemon:
        daemon.start(wait=None)
        _whole(daemon, 1)
        for what, blow in (("kill -9 of the supervisor", _replace), ("renew", _renew)):
            with Load(daemon.port, **BUSY) as load:
                took = [blow(daemon) for _ in range(ROUNDS)]
            yield median(f"{what}: workers adopted, from the new one's start", took, "s", 1)
            yield _lost(what, load)
        before = _descriptors(daemon)
        with Load(daemon.port, **BUSY) as load:
            for _ in range(KILLS):
                _replace(daemon)
        yield _lost(f"{KILLS} kills in a row", load)
        after = _descriptors(daemon)
        grown = sum(after.values()) - sum(before.values())
        yield Number("  workers replaced", len(before.keys() - after.keys()), "", 0)
        yield Number("  descriptors more in all workers", grown, "", 2)
        daemon.end()
        yield Number("  processes left over after the end", len(daemon.workers()), "", 0)


def starts() -> Iterator[Number]:
    """What a new worker costs, forked from a preloader and started plainly: time to the next answer, a roll, memory."""
    for preload in ("on", "off"):
        with real(proxy={"preload": preload}) as daemon:
            daemon.start(seconds=300)
            waits = [_next_answer(daemon) for _ in range(3)]
            yield median(
                f"crash without a standby, preload {preload}: next answer", waits, "s", 1.5 if preload == "on" else None
            )
            daemon.change(proxy={"standby": 1})
            daemon.order("/reload")
            _whole(daemon, 1)
            yield Number(
                f"  memory of 1+1 workers and who forks them, preload {preload}: shared counted once",
                _memory(daemon),
                "MiB",
            )
    with real(proxy={"preload": "on", "workers": 4}) as daemon:
        daemon.start(seconds=300)
        daemon.until(lambda s: s["serving"] == 4, 300)
        rolls = []
        for attempt in range(3):
            daemon.write("config.yaml", shipped(router_settings={"num_retries": 1 + attempt % 2}))
            began = time.monotonic()
            assert daemon.order("/reload", timeout=300)["result"] == "rolled"
            rolls.append(time.monotonic() - began)
        yield median("rolling reload of 4 workers, preload on", rolls, "s", 5)


def _whole(daemon: Daemon, standby: int) -> None:
    daemon.until(lambda s: s["serving"] >= 1 and sum(w["state"] == "standby" for w in s["workers"]) == standby, 300)


def _replace(daemon: Daemon) -> float:
    """Kill it and start another; returns the seconds that this one needed."""
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait()
    daemon.start(wait=None)
    return _adopted(daemon, "")


def _renew(daemon: Daemon) -> float:
    before = daemon.status()["supervisor"]["renewals"]
    answer = daemon.order("/renew")
    assert answer["result"] == "renewing", answer
    return _adopted(daemon, before)


def _adopted(daemon: Daemon, renewals: object) -> float:
    status = daemon.until(lambda s: s["supervisor"]["ready"] and s["supervisor"]["renewals"] != renewals, 120)
    assert status["supervisor"]["adopted"] == 2, status["supervisor"]
    return float(status["supervisor"]["adoption_seconds"])


def _lost(what: str, load: Load) -> Number:
    troubles = Counter(outcome.trouble for outcome in load.lost)
    kinds = "".join(f", {count} {kind}" for kind, count in sorted(troubles.items()))
    beside = f"of {len(load.outcomes)}, {load.streamed} streams read to their end{kinds}"
    return Number(f"  {what}: failed, refused or cut", troubles.total(), "", 0, beside=beside)


def _descriptors(daemon: Daemon) -> dict[int, int]:
    return {pid: psutil.Process(pid).num_fds() for pid in (*daemon.pids(), *daemon.pids("standby"))}


def _next_answer(daemon: Daemon) -> float:
    (victim,) = daemon.until(lambda s: s["status"] == "healthy", 120) and daemon.pids()
    with Load(daemon.port, rate=20.0) as load:
        time.sleep(0.5)
        killed = kill(victim)
        daemon.until(lambda _: daemon.pids() not in ([], [victim]), 120)
        time.sleep(0.5)
    wait_until_gone(victim)
    return min(o.ended for o in load.outcomes if o.began > killed.after and not o.trouble) - killed.before


def _memory(daemon: Daemon) -> float:
    """Proportional set size: what is shared by three is counted a third three times."""
    return sum(process.memory_full_info().pss for process in daemon.workers()) / MIB
