"""Real Prometheus with the shipped configuration: what it reads, what alerts, what the dashboard can show."""

import json
import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from ccproxy_supervisor.cli.gateway import traefik
from daemon import Daemon
from front import Front, program, until
from ports import free_ports
from watched import FOREIGN, PROMETHEUS, RULES, queries

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(program("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"),
]
MODELS = """
model_list:
  - {model_name: echo, litellm_params: {model: openai/echo, api_key: none, mock_response: hello}}
  - {model_name: llama, litellm_params: {model: ollama/llama2, api_base: "OLLAMA"}}
  - {model_name: qwen, litellm_params: {model: ollama/qwen3, api_base: "OLLAMA"}}
"""
OLLAMA = {
    "/api/version": {"version": "0.12.3"},
    "/api/tags": {"models": [{"name": "llama2:latest", "model": "llama2:latest", "size": 1}]},
    "/api/ps": {"models": []},
}


class Ollama(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(OLLAMA.get(self.path, {})).encode()
        self.send_response(200 if self.path in OLLAMA else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def ollama():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def daemon(ollama):
    with Daemon(
        litellm=MODELS.replace("OLLAMA", ollama),
        proxy={"standby": 1, "max_memory": "1GiB"},
        ollama={"enabled": True, "url": ollama, "interval": "1s"},
        models={"interval": "1s"},
    ) as daemon:
        yield daemon.start(wait="degraded")  # qwen3 is missing


@pytest.fixture(scope="module")
def front(daemon):
    with Front(daemon) as front:
        yield front


class Prometheus:
    """The shipped configuration in a folder of its own: other addresses, and every second instead of every 15."""

    def __init__(self, folder: Path, front: Front) -> None:
        said = (PROMETHEUS / "prometheus.yml").read_text().partition("Start with:")[2].splitlines()[0].split()
        shutil.copytree(PROMETHEUS, folder, dirs_exist_ok=True)
        front.say(traefik, "--prometheus-targets", str(folder / "targets" / "ccproxy.json"))
        told = yaml.safe_load((folder / "prometheus.yml").read_text())
        told["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        told["scrape_configs"][1]["static_configs"] = [{"targets": [f"127.0.0.1:{front.metrics_port}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
        self.folder, (self.port,) = folder, free_ports(1)
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        self.command = [str(program("prometheus")), "--storage.tsdb.path=data", "--log.level=warn"]
        self.command += [listen if word.startswith("--web.listen-address=") else word for word in said[1:]]

    def ask(self, query: str) -> list[dict]:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def value(self, query: str) -> float:
        (row,) = self.ask(query)
        return float(row["value"][1])

    def comes_to(self, query: str, value: float) -> None:
        until(lambda: self.value(query) == value, 30)

    @contextmanager
    def running(self):
        with (self.folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(self.command, cwd=self.folder, stdout=said, stderr=said)
        try:
            until(lambda: self.answers() and self.ask('up{job="ccproxy"} == 1') != [], 60)
            yield self
        finally:
            process.terminate()
            process.wait(20)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, daemon, front):
    """Everything a bad day has: a death, an ailing Ollama, a refused reload, an adopted one, a missing model, clients with and without a token, an error upstream."""
    with Prometheus(tmp_path_factory.mktemp("prometheus"), front).running() as prometheus:
        secret = prometheus.secret = front.admit("alice")
        until(lambda: front.get("/v1/models", Authorization=f"Bearer {secret}")[0] == 200, 30)
        daemon.until(lambda status: daemon.pids("standby"))
        until(lambda: prometheus.value("ccproxy_failover_seconds_count") == 0, 30)
        (victim,) = daemon.pids()
        os.kill(victim, signal.SIGKILL)
        daemon.until(lambda status: daemon.pids() not in ([], [victim]))
        version = OLLAMA.pop("/api/version")
        until(lambda: prometheus.value('sum(ccproxy_probe_failures_total{probe="ollama"})') > 0, 30)
        OLLAMA["/api/version"] = version
        settings = daemon.home.settings_file.read_text()
        daemon.home.settings_file.write_text("proxy: {prot: 1}")
        daemon.order("/reload")
        until(lambda: prometheus.value("ccproxy_config_last_reload_successful") == 0, 30)
        until(lambda: alerts(prometheus, "firing") >= {"CcproxyReloadRefused", "CcproxyFailover"}, 30)
        daemon.home.settings_file.write_text(settings)
        daemon.order("/reload")
        front.get("/v1/models", Authorization=f"Bearer {secret}")
        front.get("/v1/models")
        use(front, secret, {"status": 500})
        until(lambda: prometheus.value("ccproxy_config_last_reload_successful") == 1, 30)
        yield prometheus


def alerts(prometheus: Prometheus, state: str) -> set[str]:
    return {row["metric"]["alertname"] for row in prometheus.ask(f'ALERTS{{alertstate="{state}"}}')}


def test_the_page_is_as_prometheus_wants_it(daemon):
    done = subprocess.run(
        [str(program("promtool")), "check", "metrics"],
        input=daemon.metrics(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_target_is_read(prometheus):
    def read() -> dict[str, str]:
        return {row["metric"]["job"]: row["value"][1] for row in prometheus.ask("up")}

    until(lambda: read() == {"ccproxy": "1", "traefik": "1"}, 30)


def test_what_happened_is_counted(prometheus):
    prometheus.comes_to("ccproxy_failover_seconds_count >= bool 1", 1)
    prometheus.comes_to('ccproxy_worker_endings_total{cause="exited"}', 1)
    prometheus.comes_to('ccproxy_config_reloads_total{result="refused"}', 1)
    prometheus.comes_to('ccproxy_ollama_model_available{model="qwen3"}', 0)
    prometheus.comes_to('ccproxy_ollama_model_available{model="llama2"}', 1)
    prometheus.comes_to('ccproxy_status{status="degraded"}', 1)


def test_what_is_counted_is_what_the_daemon_says(prometheus, daemon):
    prometheus.comes_to('ccproxy_workers{state="serving"}', len(daemon.pids()))
    prometheus.comes_to("ccproxy_generation", daemon.status()["generation"])
    memory = pytest.approx(daemon.status()["workers"][0]["memory"], rel=0.2)
    prometheus.comes_to('ccproxy_worker_resident_memory_bytes{slot="0"}', memory)


def use(front, secret, *kinds):
    """Ask as a program does, for a stream and for an answer."""
    for more in kinds or ({"stream": True}, {}):
        body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **more}
        front.ask("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {secret}"})


def test_every_query_of_the_dashboard_has_an_answer(prometheus, front):
    left = [query for _, query in queries() if not dropped(query)]

    def answered() -> bool:
        use(front, prometheus.secret)
        left[:] = [query for query in left if not prometheus.ask(query)]
        return not left

    with suppress(AssertionError):
        until(answered, 30)
    assert left == []


def dropped(query: str) -> bool:
    """The series that only a full disk has, and the one that the real LiteLLM tells (`test_litellm_traffic.py`)."""
    return "ccproxy_log_dropped_bytes_total" in query or "ccproxy_tokens_total" in query


def test_every_recorded_series_has_a_value(prometheus, front):
    for rule in RULES:
        if "record" in rule:

            def recorded(name=rule["record"]):
                use(front, prometheus.secret)
                return prometheus.ask(name) != []

            until(recorded, 30)


def test_the_series_of_traefik_that_we_use_exist(prometheus):
    def names() -> set[str]:
        return set(httpx.get(f"http://127.0.0.1:{prometheus.port}/api/v1/label/__name__/values").json()["data"])

    until(lambda: names() >= FOREIGN, 30)
    until(lambda: prometheus.value('sum(traefik_entrypoint_requests_total{code="401", entrypoint="web"})') > 0, 30)


def test_the_rules_are_loaded_and_none_fails(prometheus):
    groups = httpx.get(f"http://127.0.0.1:{prometheus.port}/api/v1/rules", timeout=60).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert len(rules) == len(RULES)
    assert {rule["health"] for rule in rules} == {"ok"}
    told = [text for rule in rules for alert in rule.get("alerts", ()) for text in alert["annotations"].values()]
    assert told
    assert not [text for text in told if "error" in text or "<no value>" in text]


def test_a_daemon_that_is_gone_is_noticed(prometheus, daemon):
    """The last test of this file: nothing is left to look at."""
    assert daemon.end() == 0

    until(lambda: "CcproxyDaemonSilent" in alerts(prometheus, "pending"), 30)
    state = next(query for title, query in queries() if title == "State of the service")
    until(lambda: prometheus.value(state) == 6, 30)
    until(lambda: prometheus.value("instance:ccproxy_serving:bool") == 0, 30)
