"""Real workers lost and replaced: what it costs the clients."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from benchmarks.number import Number, median
from benchmarks.peers import Peer, beside, under
from daemon import Daemon
from load import Load, Outcome, question
from ports import free_ports
from real import interpreter, real, shipped

BUSY = {"rate": 20.0, "streams": 4}
ASK = question("hi")


def failover() -> Iterator[Number]:
    """From `kill -9` of the serving worker to the first answer of the standby; real LiteLLM, warm."""
    with real(proxy={"standby": 1}) as daemon:
        daemon.start(seconds=120)
        gaps = [_gap(daemon) for _ in range(7)]
        crashes = [_crash(daemon) for _ in range(3)]
    yield median(
        "failover with a standby: kill -9 to the first answer", gaps, "ms", 100,
        beside=f"LiteLLM's own command killed under: {beside(_outage)}",
    )  # fmt: skip
    yield from _lost("kill -9 with a standby, 20 requests/s and 4 streams", crashes)
    yield median("  LiteLLM's own cold start, the limit without a standby", [_cold_start() for _ in range(3)], "s")


def crash() -> Iterator[Number]:
    """`kill -9` of the only worker, under load."""
    with real() as daemon:
        daemon.start(seconds=120)
        crashes = [_crash(daemon) for _ in range(3)]
    yield from _lost("kill -9 without a standby, 20 requests/s and 4 streams", crashes)


def rolling() -> Iterator[Number]:
    """Planned replacement under load."""
    with real() as daemon:
        daemon.start(seconds=120)
        for what in ("reload", "restart"):
            lost: list[float] = []
            for attempt in range(3):
                daemon.write("config.yaml", shipped(router_settings={"num_retries": 1 + attempt % 2}))
                with Load(daemon.port, **BUSY) as load:
                    report = daemon.order(f"/{what}")
                    time.sleep(1)
                assert report["result"] == "rolled", report
                lost.append(len(load.lost))
            beside = f"of {len(load.outcomes)}"
            yield Number(f"rolling {what}: failed requests and cut streams", max(lost), "", 0, False, beside, (*lost,))


def hung() -> Iterator[Number]:
    """SIGSTOP of the serving worker with the settings as shipped, with a standby and without, under 20 requests/s."""
    for standby, target in ((1, 3.0), (0, None)):
        waits = []
        with real(proxy={"standby": standby, "hold": "15s"}) as daemon:
            del daemon.settings["health"], daemon.settings["restart"]
            daemon.change()
            daemon.start(seconds=120)
            for _ in range(3):
                (victim,), _ = _ready(daemon)
                with Load(daemon.port, rate=20.0):
                    began = time.monotonic()
                    os.kill(victim, signal.SIGSTOP)
                    daemon.until(lambda _, victim=victim: daemon.pids() not in ([], [victim]), 120)
                    _answered(daemon)
                    waits.append(time.monotonic() - began)
        told = "standby: 1" if standby else "no standby"
        yield median(f"a hung worker answered again, settings as shipped, {told}", waits, "s", target)


def _ready(daemon: Daemon) -> tuple[list[int], list[int]]:
    standby = daemon.settings["proxy"].get("standby", 0)
    daemon.until(lambda _: len(daemon.pids()) == 1 and len(daemon.pids("standby")) == standby, 120)
    time.sleep(1)
    return daemon.pids(), daemon.pids("standby")


def _gap(daemon: Daemon) -> float:
    """Milliseconds; the request begins when the kill has been sent."""
    (victim,), _ = _ready(daemon)
    _answered(daemon)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    _answered(daemon)
    return (time.monotonic() - began) * 1000


def _answered(daemon: Daemon) -> None:
    """Ask until there is an answer: the first connection may still reach the dying worker."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/messages", json.dumps(ASK), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            return
        connection.close()


def _crash(daemon: Daemon) -> tuple[float, Load]:
    (victim,), _ = _ready(daemon)
    with Load(daemon.port, **BUSY) as load:
        time.sleep(2)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        daemon.until(lambda _: daemon.pids() not in ([], [victim]), 120)
        time.sleep(1)
    return killed, load


def _lost(what: str, crashes: list[tuple[float, Load]]) -> Iterator[Number]:
    inside, outside = [], []
    for killed, load in crashes:
        struck = [_was_inside(outcome, killed) for outcome in load.lost]
        inside.append(float(sum(struck)))
        outside.append(float(len(struck) - sum(struck)))
    asked = len(crashes[-1][1].outcomes)
    yield Number(f"{what}: refused or failed outside the dead worker", max(outside), "", 0, samples=(*outside,),
                 beside=f"of {asked}")  # fmt: skip
    yield median("  failed inside it: the 4 streams and what was being answered", inside, "")
    yield median("  longest time between two answers", [load.longest_gap() for _, load in crashes], "s")


def _was_inside(outcome: Outcome, killed: float) -> bool:
    return outcome.trouble == "cut" and outcome.began < killed < outcome.ended


def _litellm(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """LiteLLM's own command with the same configuration, and its environment."""
    config: dict[str, Any] = yaml.safe_load(shipped())
    config["model_list"] = [model for model in config["model_list"] if model["model_name"] == "mock"]
    del config["litellm_settings"]["custom_provider_map"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environ = {"PATH": os.environ["PATH"], "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
               "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # fmt: skip
    command = [interpreter(), "-c", "from litellm.proxy.proxy_cli import run_server; run_server()"]
    return [*command, "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)], environ


def _listening(port: int, seconds: float = 120) -> None:
    over = time.monotonic() + seconds
    while time.monotonic() < over:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError("LiteLLM did not start")


def _cold_start() -> float:
    """Seconds from starting LiteLLM's own command until it accepts."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        command, environ = _litellm(Path(folder), port)
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _listening(port)
            return time.monotonic() - began
        finally:
            process.kill()
            process.wait()


def _outage(kind: type[Peer]) -> str:
    """From `kill -9` of LiteLLM to the moment its port is open again, under another process manager."""
    (port,) = free_ports(1)

    def command(folder: Path) -> list[str]:
        line, environ = _litellm(folder, port)
        return ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environ.items()), *line]

    with under(kind, command, nullcontext) as (peer, _):
        _listening(port)
        family = psutil.Process(peer.pid).children(recursive=True)
        (victim,) = [each for each in family if str(port) in each.cmdline()][-1:]
        victim.kill()
        began = time.monotonic()
        victim.wait(30)
        _listening(port)
        return f"{time.monotonic() - began:.1f} s"
