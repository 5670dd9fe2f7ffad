"""python -m benchmarks.libraries: httpx and structlog beside what we have, on top of the daemon as it is.

Each is measured in a process of its own that has loaded the daemon: what it takes to import, in memory, and in processor time a call.
structlog is no dependency: install it into the environment that runs this.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROUNDS = 5
BEGIN = """
import gc, json, sys, time
import psutil
import ccproxy_supervisor.app
me = psutil.Process()
def rss(): gc.collect(); return me.memory_info().rss
def cpu(): t = me.cpu_times(); return t.user + t.system
before, began = rss(), time.perf_counter()
"""
IMPORTED = "\nimported, weight = time.perf_counter() - began, rss() - before\n"
END = "\nprint(json.dumps([imported * 1e3, weight / 2**20, (rss() - before) / 2**20, spent / CALLS * 1e6]))"
CALLING = """
import anyio
CALLS, url = 1000, sys.argv[1]
async def main():
    async with client() as ask:
        for _ in range(50): assert await ask(url) == 200
        was = cpu()
        for _ in range(CALLS): assert await ask(url) == 200
        return cpu() - was
spent = anyio.run(main)
"""
WRITING = """
CALLS = 20000
for number in range(500): write(number)
was = cpu()
for number in range(CALLS): write(number)
spent = cpu() - was
"""
OURS = """
from contextlib import asynccontextmanager
from ccproxy_supervisor.edge.fetch import fetch
@asynccontextmanager
async def client():
    async def ask(url): return (await fetch(url, timeout=5)).status
    yield ask
"""
HTTPX = """
import httpx
from contextlib import asynccontextmanager
@asynccontextmanager
async def client():
    limits = httpx.Limits(max_keepalive_connections={kept})
    async with httpx.AsyncClient(limits=limits, timeout=5, trust_env=False) as kept:
        async def ask(url): return (await kept.get(url)).status_code
        yield ask
"""
JOURNAL = """
from ccproxy_supervisor.core.model import Note
from ccproxy_supervisor.edge.journal import Writer
sink = bytearray()
writer = Writer(lambda line: sink.__setitem__(slice(None), line), "info")
def write(number): writer(Note("worker.serving", "info", {"worker": number, "slot": 0, "generation": 7, "pid": 4711}))
"""
STRUCTLOG = """
sys.modules["rich"] = None if {without_rich} else sys.modules.get("rich")
if not sys.modules["rich"]: {without_rich} or sys.modules.pop("rich")
import structlog
sink = bytearray()
class Sink:
    def msg(self, line): sink[:] = line
    info = warning = error = msg
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.JSONRenderer(serializer=lambda value, **_: json.dumps(value, ensure_ascii=False).encode())],
    wrapper_class=structlog.make_filtering_bound_logger(20), logger_factory=lambda *_: Sink(), cache_logger_on_first_use=True)
log = structlog.get_logger()
def write(number): log.info("worker.serving", worker=number, slot=0, generation=7, pid=4711)
"""
ALL = {
    "fetch (h11), a connection each": OURS + IMPORTED + CALLING,
    "httpx, one client, kept connections": HTTPX.format(kept=20) + IMPORTED + CALLING,
    "httpx, one client, a connection each": HTTPX.format(kept=0) + IMPORTED + CALLING,
    "our journal": JOURNAL + IMPORTED + WRITING,
    "structlog": STRUCTLOG.format(without_rich=False) + IMPORTED + WRITING,
    "structlog, rich kept out": STRUCTLOG.format(without_rich=True) + IMPORTED + WRITING,
}


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        return


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.request_queue_size = 128
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    print(f"{'':38} import ms   MiB  MiB after   us a call   (medians of {ROUNDS})")
    for name, program in ALL.items():
        rounds = []
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", BEGIN + program + END, url]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name:38} {done.stderr.strip().splitlines()[-1]}")
                break
            rounds.append(json.loads(done.stdout))
        else:
            imported, weight, after, call = map(statistics.median, zip(*rounds, strict=True))
            print(f"{name:38} {imported:9.0f} {weight:5.1f} {after:10.1f} {call:11.0f}")


if __name__ == "__main__":
    main()
