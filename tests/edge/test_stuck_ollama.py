"""A daemon beside an Ollama that answers everything and generates nothing."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from daemon import Daemon

pytestmark = pytest.mark.once

DEAD = "llama runner process has terminated: signal: killed"
LITELLM = """
model_list:
  - {model_name: chat, litellm_params: {model: ollama_chat/llama2, api_base: "URL"}}
  - {model_name: echo, litellm_params: {model: openai/echo, mock_response: hi}}
"""


class Ollama(BaseHTTPRequestHandler):
    """Has one model, whose runner dies until the file *cured* is there."""

    cured = None
    asked = []  # noqa: RUF012

    def do_GET(self):
        models = {"models": [{"name": "llama2:latest"}]}
        answers = {"/api/version": {"version": "0.32.4"}, "/api/tags": models, "/api/ps": models}
        self.say(200, answers[self.path])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Ollama.asked.append(body)
        well = body.get("keep_alive") == 0 or Ollama.cured.exists()
        self.say(200 if well else 500, {"response": "a"} if well else {"error": DEAD})

    def say(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def daemon(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    Ollama.cured, Ollama.asked = tmp_path / "cured", []
    made = Daemon(
        litellm=LITELLM.replace("URL", url),
        proxy={"env": {"STUB_UPSTREAM_ERROR": f"litellm.APIConnectionError: {DEAD}"}},
        models={"interval": "2s"}, ollama={"enabled": True, "url": url, "interval": "1s"},
    )  # fmt: skip
    yield made
    made.close()
    server.shutdown()
    server.server_close()


def test_it_is_told_and_without_leave_nothing_is_done(daemon):
    daemon.start(wait=None)
    status = daemon.until(lambda s: s["ollama"] and s["ollama"]["stuck"], 60)

    assert status["ollama"]["stuck"].startswith("llama2 fails: ")
    assert any(reason.startswith("Ollama is stuck: llama2 fails") for reason in status["reasons"])
    assert status["status"] == "degraded"
    status = daemon.until(lambda s: "Ollama answers and generates nothing" in s["last_incident"])
    assert "ccproxy_ollama_stuck 1.0" in daemon.metrics()
    assert not [body for body in Ollama.asked if body.get("keep_alive") == 0]


def test_it_is_helped_step_by_step_as_its_owner_allows(daemon):
    touch = [sys.executable, "-c", f"open({str(Ollama.cured)!r}, 'w')"]
    daemon.change(ollama={"help": {"after": "1s", "unload": True, "restart_command": touch}})
    daemon.start(wait=None)
    daemon.until(lambda _: Ollama.cured.exists(), 90)

    assert [body for body in Ollama.asked if body.get("keep_alive") == 0]
    daemon.until(lambda s: s["ollama"]["stuck"] is None, 60)
    daemon.until(lambda _: "ollama.recovered" in [line["event"] for line in daemon.log("supervisor")])
    steps = [line["step"] for line in daemon.log("supervisor") if line["event"] == "ollama.helped"]
    assert steps == ["unload", "restart_command"]
    events = [line["event"] for line in daemon.log("supervisor") if line["event"].startswith("ollama.")]
    assert events == ["ollama.found", "ollama.stuck", "ollama.helped", "ollama.helped", "ollama.recovered"]
