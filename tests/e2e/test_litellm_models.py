"""Real LiteLLM asked for models: what is asked, what is not, and what its reports come to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from real import shipped, typed

pytestmark = pytest.mark.real
asked = []


class Upstream(BaseHTTPRequestHandler):
    """Counts what it is asked: by the first part of the path, what, and for which model."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, who, *what = self.path.split("/")
        asked.append((who, "/".join(what), body["model"]))
        status, answer = 200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        message = {"role": "assistant", "content": "well"}
        answer["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer["usage"] = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if what[-1] == "embeddings":
            answer |= {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}]}
        if who == "shut":
            status, answer = 401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"


def model(name, upstream, base=None, **info):
    params = {"model": upstream, "api_key": "none"} | ({"api_base": base} if base else {})
    return {"model_name": name, "litellm_params": params, "model_info": info}


LITELLM = shipped(
    model("pair", "openai/one", f"{URL}/one"), model("pair", "hosted_vllm/two", "http://127.0.0.1:9/v1"),
    model("shut", "openai/three", f"{URL}/shut"),
    model("vectors", "openai/four", f"{URL}/vectors", mode="embedding"),
    model("paid", "openai/gpt-5-mini"),  # no address of its own: the worker's environment leads it here
    model("spared", "openai/five", f"{URL}/spared", disable_background_health_check=True),
    model("words", "openai/text-embedding-3-small", f"{URL}/words"),
)  # fmt: skip
SETTINGS = {
    "models": {"interval": "3s"},
    "proxy": {"env": {"OPENAI_API_BASE": f"{URL}/paid", "OPENAI_BASE_URL": f"{URL}/paid", "OPENAI_API_KEY": "none"}},
}


def row(status, name):
    (found,) = [model for model in status["models"] if model["name"] == name]
    return found


def test_two_deployments_under_one_name_are_counted_and_the_one_that_is_down_is_named(daemon):
    status = daemon.until(lambda s: row(s, "pair")["healthy_deployments"] is not None and s)
    told = row(status, "pair")

    assert (told["healthy"], told["deployments"], told["healthy_deployments"]) == (True, 2, 1)
    assert told["detail"].startswith("1 of 2: cannot be reached: ")
    assert told["upstreams"] == ["openai/one", "hosted_vllm/two"]
    page = daemon.metrics()
    assert 'ccproxy_model_healthy{model="pair"} 1.0' in page
    assert 'ccproxy_model_healthy_deployments{model="pair"} 1.0' in page


def test_a_refused_key_is_said_in_words_and_degrades(daemon):
    status = daemon.until(lambda s: row(s, "shut")["healthy"] is False and s)

    assert row(status, "shut")["detail"].startswith("the key is refused: ")
    assert any(reason.startswith("model shut fails: the key is refused") for reason in status["reasons"])
    assert status["status"] == "degraded"


def test_each_is_asked_what_its_mode_says(daemon):
    """One says it itself; the other's is in LiteLLM's list of models."""
    daemon.until(lambda s: row(s, "vectors")["healthy"] and row(s, "words")["healthy"])

    assert {("vectors", "embeddings", "four"), ("words", "embeddings", "text-embedding-3-small")} <= {*asked}
    assert not [what for who, what, _ in asked if who in ("vectors", "words") and what != "embeddings"]


def test_what_costs_money_is_asked_nothing_until_it_may_be(daemon):
    before = row(daemon.status(), "echo")["checked"]
    time.sleep(1)
    daemon.until(lambda s: row(s, "echo")["checked"] != before)  # a round later
    status = daemon.status()

    assert row(status, "paid")["healthy"] is None
    assert "would cost money" in row(status, "paid")["detail"]
    assert not [who for who, *_ in asked if who in ("paid", "spared")]
    assert (
        "not asked, for it would cost money; models.check or models.paid allows it: paid"
        in typed(daemon, "check").stdout
    )
    daemon.change(models={"check": ["paid"]})
    assert daemon.order("/reload")["result"] == "applied"
    daemon.until(lambda s: row(s, "paid")["healthy"])
    assert [model for who, _, model in asked if who == "paid"]
    assert not [who for who, *_ in asked if who == "spared"]
