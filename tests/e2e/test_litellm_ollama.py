"""Real LiteLLM before an Ollama whose runner hangs: a client that waits is answered once the runner was ended."""

import os
import shutil
import socket
import subprocess
import sys
from datetime import datetime

import httpx
import psutil
import pytest

from load import question
from real import shipped

pytestmark = pytest.mark.real

#: Like Ollama it is a server with a child that runs the model; that one does nothing, and the next one works.
SERVER = """
import json, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

first = subprocess.Popen([sys.argv[2], "runner"])
DONE = {"model": "llama2", "created_at": "2026-11-25T09:00:00Z", "done": True, "done_reason": "stop", "response": "hello",
        "message": {"role": "assistant", "content": "hello"}, "prompt_eval_count": 1, "eval_count": 1}
LISTED = {"models": [{"name": "llama2:latest", "expires_at": "2318-01-01T00:00:00Z", "context_length": 4096}]}

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say({"version": "0.32.4"} if self.path == "/api/version" else LISTED)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in ("/api/chat", "/api/generate") and body.get("keep_alive") != 0:
            first.wait()
        self.say({} if self.path == "/api/show" else DONE)

    def say(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def ollama(tmp_path_factory):
    """Its port; the processes have the names that Ollama's have."""
    folder = tmp_path_factory.mktemp("ollama")
    program = folder / "ollama"
    program.symlink_to(shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable)
    (folder / "serve").write_text(SERVER)
    (folder / "runner").write_text("import time\ntime.sleep(3600)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {"PATH": os.environ["PATH"]}
    words = [str(program), "serve", str(port), str(program)]
    server = subprocess.Popen(words, cwd=folder, env=environ, stderr=subprocess.DEVNULL)
    yield port
    for process in [*psutil.Process(server.pid).children(), psutil.Process(server.pid)]:
        process.kill()
    server.wait()


@pytest.fixture(scope="module")
def house(house, ollama):
    url = f"http://127.0.0.1:{ollama}"
    chat = {"model_name": "chat", "litellm_params": {"model": "ollama_chat/llama2", "api_base": url}}
    house.write("config.yaml", shipped(chat))
    house.change(ollama={"enabled": True, "url": url, "help": {"after": "1s", "unload": True, "restart_runner": True}})
    return house


def test_a_client_that_waits_for_a_hung_runner_is_answered_when_that_was_ended(daemon):
    asked = datetime.now().astimezone()
    answer = httpx.post(daemon.url + "/v1/chat/completions", json=question("hi", "chat"), timeout=300)

    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "hello"
    events = [line for line in daemon.log() if line["event"].startswith("ollama.")]
    assert [(line["event"], line.get("step")) for line in events][1:4] == [
        ("ollama.stuck", None), ("ollama.helped", "unload"), ("ollama.helped", "restart_runner"),
    ]  # fmt: skip
    assert events[1]["detail"] == "llama2:latest answers nothing"
    print(f"found after {(datetime.fromisoformat(events[1]['time']) - asked).total_seconds():.1f} s")
    daemon.until(lambda s: s["ollama"]["stuck"] is None, 60)
    assert daemon.status()["workers"][0]["restarts"] == 0  # nothing of it was LiteLLM's fault
