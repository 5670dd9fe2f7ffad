"""Real LiteLLM while it starts: it calls nobody, and imports nothing that somebody else has put above the home."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from load import question
from real import interpreter, real

pytestmark = pytest.mark.real
SPY = """
from litellm.integrations.custom_logger import CustomLogger

class Spy(CustomLogger):
    def __getattribute__(self, name):
        if name.startswith(("async_", "log_")):
            open(HEARD, "a").write(name + "\\n")
        return super().__getattribute__(name)

    async def async_pre_call_hook(self, *_, **__):
        open(HEARD, "a").write("request\\n")

spy = Spy()
"""
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "x", "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
}  # fmt: skip


@pytest.fixture
def upstream():
    """Whoever is asked for anything; yields its address and what was asked."""
    asked = []

    class Provider(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def wild(url):
    """A config in which every name leads to the upstream."""
    params = {"api_base": f"{url}/v1", "api_key": "k"}
    models = {"*": "hosted_vllm/*", "openai/*": "openai/*", "spare": "hosted_vllm/spare", "ollama": "ollama_chat/x"}
    return yaml.safe_dump(
        {
            "model_list": [{"model_name": n, "litellm_params": {"model": m, **params}} for n, m in models.items()],
            "litellm_settings": {
                "default_fallbacks": ["spare"],
                "fallbacks": [{"*": ["spare"]}],
                "callbacks": ["spy.spy"],
                "num_retries": 2,
            },
            "general_settings": {"disable_model_info_refresh": True},  # its own lists of models, every five minutes
            "router_settings": {"default_litellm_params": params, "default_fallbacks": ["spare"]},
        }
    )


def names_of_packages():
    """What LiteLLM could import: everything that is installed beside it."""
    [packages] = Path(interpreter()).parent.parent.glob("lib/python3*/site-packages")
    found = {path.name.partition(".")[0] for path in packages.iterdir() if path.suffix in ("", ".py", ".so")}
    return {name for name in found if name.isidentifier()}


def test_a_start_calls_nobody_and_imports_nothing_from_above_the_home(tmp_path, upstream, litellm):
    url, asked = upstream
    home, ran = tmp_path / "others" / "home", tmp_path / "ran"
    home.mkdir(parents=True)
    for name in names_of_packages():
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write('{name} ')\nraise ImportError")
    with real(wild(url), folder=home, proxy={"standby": 1}) as daemon:
        heard = tmp_path / "heard"
        daemon.write("spy.py", f"HEARD = {str(heard)!r}\n{SPY}")
        daemon.start(seconds=300)
        daemon.until(lambda _: len(daemon.pids("standby")) == 1, 300)
        assert daemon.order("/restart", timeout=300)["result"] == "rolled"
        daemon.until(lambda _: len(daemon.pids("standby")) == 1, 300)

        assert not ran.exists()
        assert asked == []
        assert not heard.exists()

        answer = httpx.post(f"{daemon.url}/v1/messages", json=question("hi", "any"), timeout=60)
        assert (answer.status_code, asked) == (200, ["/v1/chat/completions"])
        assert "request" in heard.read_text()
