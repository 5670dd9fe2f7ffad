"""The real daemon as a service of a throw-away home, with the LiteLLM of the real one: forked workers, a kill, a stop."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import yaml

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy import service
from ccproxy_supervisor.deploy.launchd import Job, Place
from ccproxy_supervisor.deploy.service import Hands, ServiceError
from ccproxy_supervisor.selftest.job import free_port, label
from ccproxy_supervisor.selftest.step import Result, fails, holds, judged, unknown

REQUESTS = 20
PRELOAD = "--preload-fd"  # in the command line of a preloader, and of what it forked
COMPLETION = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "away", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "here"}}],
}  # fmt: skip
LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Upstream(BaseHTTPRequestHandler):
    """A provider that is reached over the network, as far as a worker can tell."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = json.dumps(COMPLETION).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        return


@contextmanager
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def try_service(folder: Path, litellm: str, supervisor: str, hands: Hands) -> dict[str, Result]:
    """Install, ask, kill and remove a service of the home *folder*, whose workers run on *litellm*."""
    found: dict[str, Result] = {}
    with upstream() as port:
        job = _home(folder, litellm, supervisor, port)
        place = Place(f"gui/{os.getuid()}", folder / "agents")
        try:
            service.install(job, place, hands)
            found["service"] = holds("launchd runs the daemon, and it serves")
            found["forked-workers"] = _forked(job, hands)
            found["survival"] = _killed(job, hands)
        except ServiceError as error:
            found.setdefault("service", fails(str(error).splitlines()[0]))
        except Exception as error:  # whatever breaks, the service must be removed and the rest be told
            found["trial"] = unknown(f"it broke: {told(error)}")
        finally:
            found["removal"] = _removed(job, place, hands)
    return found


def _home(folder: Path, litellm: str, supervisor: str, port: int) -> Job:
    public, admin = free_port(), free_port()
    settings = {
        "proxy": {"python": litellm, "port": public, "preload": "on", "drain_timeout": "5s", "kill_timeout": "2s"},
        "admin": {"port": admin}, "ollama": {"enabled": False},
    }  # fmt: skip
    away = {"model": "openai/away", "api_base": f"http://localhost:{port}/v1", "api_key": "none"}
    files = {
        "supervisor.yaml": settings,
        "config.yaml": {"model_list": [{"model_name": "away", "litellm_params": away}]},
    }
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
        (folder / name).chmod(0o600)
    text = (folder / "supervisor.yaml").read_text()
    return Job(label(), supervisor, folder / "supervisor.yaml", parse(text))


def _forked(job: Job, hands: Hands) -> Result:
    """Whether workers that were forked live: each asks a provider over the network, again and again."""
    workers = _workers(job)
    forked = [pid for pid in workers if _is_fork(pid)]
    if not forked:
        return unknown("no worker was forked: the preloader was not to be had")
    answered = sum(_asked(job) for _ in range(REQUESTS))
    died = set(workers) - set(_workers(job))
    said = (
        f"{answered} of {REQUESTS} requests answered by way of the network, {len(died)} of {len(workers)} workers died"
    )
    return judged(answered == REQUESTS and not died, said)


def _is_fork(pid: int) -> bool:
    return known(lambda: PRELOAD in psutil.Process(pid).cmdline(), otherwise=False)


def _killed(job: Job, hands: Hands) -> Result:
    """Whether launchd brings a killed daemon back, and its workers serve on meanwhile."""
    before = _status(job) or {}
    os.kill(int(before["pid"]), signal.SIGKILL)
    served = sum(_asked(job) for _ in range(3))
    back = hands.until(lambda: (_status(job) or before).get("pid") != before["pid"], 60.0)
    adopted = set(_workers(job)) & {each["pid"] for each in before["workers"]}
    said = f"{served} of 3 requests answered while it was dead; {len(adopted)} of its workers taken on by the next"
    return judged(back and served == 3 and bool(adopted), said if back else f"launchd did not start it again; {said}")


def _removed(job: Job, place: Place, hands: Hands) -> Result:
    workers = _workers(job)
    try:
        service.uninstall(job.label, place, hands)
    except ServiceError as error:
        return fails(str(error).splitlines()[0])
    gone = hands.until(lambda: not any(map(psutil.pid_exists, workers)), 20.0)
    return judged(gone, "the service and all its workers are gone" if gone else "workers outlived its removal")


def _workers(job: Job) -> list[int]:
    return [each["pid"] for each in (_status(job) or {}).get("workers", ()) if each.get("pid")]


def _status(job: Job) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        said: dict[str, Any] = json.loads(
            LOOPBACK.open(f"http://127.0.0.1:{job.settings.admin.port}/status", timeout=5).read()
        )
        return said
    return None


def _asked(job: Job) -> bool:
    body = json.dumps({"model": "away", "messages": [{"role": "user", "content": "where?"}]}).encode()
    url = f"http://127.0.0.1:{job.settings.proxy.port}/v1/chat/completions"
    with suppress(OSError, ValueError):
        answer = LOOPBACK.open(urllib.request.Request(url, body, {"Content-Type": "application/json"}), timeout=20)
        return bool(json.loads(answer.read())["choices"])
    return False
