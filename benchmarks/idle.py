"""The daemon at rest, with every probe on, and what it answers then."""

from __future__ import annotations

import asyncio
import json
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil

from benchmarks.metrics import ask
from benchmarks.number import Number, median
from benchmarks.peers import Peer, beside, under
from daemon import Daemon
from real import real, shipped

SETTLE, WATCHED = 30.0, 120.0  # seconds
SCRAPES = 1000


@contextmanager
def ollama() -> Iterator[str]:
    """As much of Ollama as the probes ask for."""
    answers = {
        "/api/version": {"version": "0.12.3"},
        "/api/tags": {"models": [{"name": f"model-{n}:latest"} for n in range(10)]},
        "/api/ps": {"models": []},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def idle() -> Iterator[Number]:
    """CPU and memory of the daemon, its default intervals, one worker of real LiteLLM, an Ollama that answers."""
    with ollama() as url:
        local = {"model_name": "local", "litellm_params": {"model": "ollama_chat/model-1", "api_base": url}}
        with real(shipped(local), models={"interval": "5m"}) as daemon:
            daemon.change(ollama={"enabled": True, "url": url, "interval": "15s"})
            daemon.change(health={"interval": "5s", "timeout": "3s"})
            daemon.start(seconds=120)
            daemon.until(lambda status: (status["ollama"] or {}).get("up"))
            time.sleep(SETTLE)
            yield from _resting(daemon)
            yield _scrapes(daemon)
            yield _hangup(daemon)


def _resting(daemon: Daemon) -> Iterator[Number]:
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    quiet = partial(time.sleep, WATCHED)
    peers = f"without any probe: {beside(_peer)}"
    yield Number("idle, all probes on: CPU seconds a minute", _spent(process, quiet), "s", 0.05, beside=peers)
    yield Number("  and Prometheus asks every 15 s", _spent(process, partial(_prometheus, daemon)), "s", 0.05)
    yield Number("idle: memory of the daemon", process.memory_info().rss / 1e6, "MB", 50)


def _spent(process: psutil.Process, wait: Callable[[], None]) -> float:
    """CPU seconds a minute while it waits `WATCHED` seconds."""
    before = sum(process.cpu_times()[:2])
    wait()
    return (sum(process.cpu_times()[:2]) - before) * 60 / WATCHED


def _prometheus(daemon: Daemon) -> None:
    for _ in range(int(WATCHED / 15)):
        asyncio.run(ask(daemon.admin_port, "/metrics"))
        time.sleep(15)


def _peer(kind: type[Peer]) -> str:
    with under(kind, lambda _: ["/bin/sleep", "1000"], nullcontext) as (peer, _):
        time.sleep(5)
        before = peer.cpu
        time.sleep(WATCHED)
        return f"{(peer.cpu - before) * 60 / WATCHED:.3f}"


def _scrapes(daemon: Daemon) -> Number:
    """The 99th percentile, each scrape on a connection of its own."""

    async def scrape() -> list[float]:
        seconds = []
        for _ in range(SCRAPES):
            begun = time.perf_counter()
            await ask(daemon.admin_port, "/metrics")
            seconds.append((time.perf_counter() - begun) * 1000)
        return seconds

    times = asyncio.run(scrape())
    p50 = statistics.median(times)
    return Number(f"/metrics, 99th percentile of {SCRAPES}", statistics.quantiles(times, n=100)[98], "ms",
                  beside=f"median {p50:.2f} ms")  # fmt: skip


def _hangup(daemon: Daemon) -> Number:
    """SIGHUP with nothing changed, until the log says so."""
    assert daemon.process is not None
    log = daemon.folder / "logs" / "supervisor.log"
    delays = []
    for _ in range(20):
        time.sleep(0.1)
        written = log.stat().st_size
        begun = time.perf_counter()
        daemon.process.send_signal(signal.SIGHUP)
        while b"reload.unchanged" not in log.read_bytes()[written:]:
            time.sleep(0.0005)
        delays.append((time.perf_counter() - begun) * 1000)
    return median("SIGHUP with nothing changed: until it is told", delays, "ms", 100)
