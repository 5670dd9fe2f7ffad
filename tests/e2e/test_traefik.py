"""Real Traefik in front of the real daemon and real LiteLLM: who passes, what is lost."""

import json
import os
import re
import subprocess
import threading
import time

import pytest
import yaml

from ccproxy_supervisor.cli.gateway import token
from daemon import ROOT, Daemon
from front import Clients, Front, Leash, answering_at_once, opened, until
from load import kill

pytestmark = pytest.mark.real
MODELS = """
model_list:
  - model_name: echo
    litellm_params: {model: openai/echo, api_key: none, mock_response: "hello from echo"}
  - model_name: leash
    litellm_params: {model: hosted_vllm/leash, api_key: none, api_base: "LEASH"}
  - model_name: claude-*
    litellm_params: {model: echo/words}
router_settings: {num_retries: 0}
litellm_settings:
  disable_hf_tokenizer_download: true
  drop_params: true
  custom_provider_map: [{provider: echo, custom_handler: echo.handler}]
"""
ASK = {"model": "echo", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def leash():
    with Leash() as leash:
        yield leash


@pytest.fixture(scope="module")
def daemon(litellm, leash):
    """LiteLLM asks for its key, so every 200 below shows that Traefik put it in."""
    settings = {
        "proxy": {"auth": "master-key", "standby": 1},
        "health": {"timeout": "5s"},
        "models": {"interval": "off"},
    }
    with Daemon(litellm, MODELS.replace("LEASH", leash.url), **settings) as daemon:
        daemon.write("echo.py", (ROOT / "config/echo.py").read_text())
        yield daemon.start()


@pytest.fixture(scope="module")
def front(daemon):
    with Front(daemon) as front:
        yield front


@pytest.fixture(scope="module")
def alice(front):
    secret = front.admit("alice")
    until(lambda: front.get("/v1/models", **bearer(secret))[0] == 200, 30)
    return secret


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def message(front: Front, secret: str) -> int:
    status, body = front.ask("POST", "/v1/messages", ASK, bearer(secret))
    return status if status != 200 or "hello from echo" in body else -1


def said(front, path, method="POST", **headers):
    """Status, headers and words of an answer."""
    with opened(front.port, method, path, ASK, headers) as answer:
        return answer.status, answer.headers, answer.read().decode()


def test_who_is_refused_is_told_so_in_the_shape_of_the_api_and_not_to_try_again(front, alice):
    """Claude Code tries a bare 401 for three minutes without a word."""
    for headers in ({}, bearer("x" * 43)):
        status, told, body = said(front, "/v1/messages?beta=true", **headers)
        assert (status, told["X-Should-Retry"], told["WWW-Authenticate"]) == (401, "false", "Bearer")
        assert json.loads(body)["error"]["type"] == "authentication_error"
        status, told, body = said(front, "/v1/responses", **headers)
        assert (status, told["X-Should-Retry"], told["Content-Type"]) == (401, "false", "application/json")
        assert json.loads(body)["error"]["code"] == "invalid_api_key"


def test_a_good_token_on_a_path_that_is_not_offered_is_told_which(front, alice):
    status, told, body = said(front, "/v1/files", method="GET", **bearer(alice))
    assert (status, told["X-Should-Retry"], told["WWW-Authenticate"]) == (404, "false", None)
    assert json.loads(body)["error"]["message"].startswith("/v1/files is not offered here")
    status, _, body = said(front, "/v1/messages/batches", **bearer(alice))
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")


def test_the_greeting_of_claude_code_is_answered_and_is_no_refused_token(front, alice):
    assert said(front, "/", method="HEAD")[0] == 200
    until(lambda: any(line["RequestMethod"] == "HEAD" for line in front.access_log()), 30)
    [greeting] = [line for line in front.access_log() if line["RequestMethod"] == "HEAD"]
    assert (greeting["RouterName"], greeting["DownstreamStatus"]) == ("ccproxy-hello@file", 200)


#: What the programs were seen to ask: Claude Code 2.1.197, Codex 0.169.0, opencode 1.18.33, anthropic 2.13, openai 3.57.
CLAUDE = {"model": "claude-opus-4-8"}
ASKED = [
    ("POST", "/v1/messages?beta=true", ASK | CLAUDE | {"stream": True, "thinking": {"type": "adaptive"}, "metadata": {"user_id": "{}"},
     "output_config": {"effort": "high"}, "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}),
    ("POST", "/v1/messages/count_tokens", {key: ASK[key] for key in ("model", "messages")}),
    ("POST", "/v1/responses", CLAUDE | {"input": [{"role": "user", "content": "hi"}], "stream": True, "store": False}),
    ("POST", "/v1/chat/completions", ASK | {"stream": True, "stream_options": {"include_usage": True}}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/echo", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_what_the_programs_ask_is_answered(front, alice, method, path, body):
    status, told = front.ask(method, path, body, bearer(alice) | {"anthropic-version": "2023-06-01"})
    assert status == 200, told
    assert told


def test_without_a_token_nothing_is_passed_on(front, alice):
    for headers in ({}, bearer("x" * 43), bearer(alice + "x"), bearer(alice.swapcase()), {"X-Api-Key": alice[:-1]}):
        status, _ = front.ask("POST", "/v1/messages", ASK, headers)
        assert status == 401
    for path in ("/", "/key/generate", "/v1/models/../../key/generate", "/health", "/metrics"):
        assert front.get(path)[0] == 401
        assert front.get(path, **bearer(alice))[0] == 404
    assert message(front, alice) == 200
    assert front.get("/v1/models", **{"X-Api-Key": alice})[0] == 200

    def reached(status):
        """Whether LiteLLM was asked, for each router that answered *status*; the words of a refusal are the daemon's."""
        seen = [line for line in front.access_log() if line["DownstreamStatus"] == status and "RouterName" in line]
        return {line["RouterName"]: f":{front.daemon.port}" in line.get("ServiceURL", "") for line in seen}

    until(lambda: reached(200).get("client-alice@file"), 30)
    assert reached(401) == {"ccproxy-deny@file": False}
    assert reached(404) == {"other-alice@file": False}


def test_the_answer_to_a_stranger_names_the_way_in(front):
    with opened(front.port, "GET", "/v1/models", None, {}) as answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_the_key_a_client_sends_on_the_side_does_not_count(front, alice):
    """LiteLLM would answer 400 to any other key than its own."""
    wrong = {
        "X-Api-Key": "sk-wrong",
        "Api-Key": "sk-wrong",
        "X-Litellm-Api-Key": "sk-wrong",
        "X-Goog-Api-Key": "sk-wrong",
    }

    assert front.get("/v1/models", **bearer(alice), **wrong)[0] == 200


@pytest.mark.parametrize(
    "path", ["/v1/models/echo", "/v1/responses/resp_bGl0ZWxsbQ==", "/v1/responses/resp_bGl0ZWxsbQ==/input_items"]
)
def test_one_thing_can_be_asked_for_by_its_name(front, alice, path):
    """No upstream here keeps responses, so LiteLLM's answer is an error, but it is LiteLLM's."""
    status, body = front.get(path, **bearer(alice))

    assert status != 401, body
    until(lambda: any(line.get("RequestPath") == path and line.get("ServiceURL") for line in front.access_log()), 30)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_a_stream_arrives_word_by_word(front, alice, leash, path):
    """The upstream says the next word only when the last one has arrived at the client."""
    body = ASK | {"model": "leash", "stream": True}

    with opened(front.port, "POST", path, body, bearer(alice)) as answer:
        assert answer.status == 200
        for word in leash.words:
            leash.go.release()
            seen = b""
            while f"{word} ".encode() not in seen:
                line = answer.readline()
                assert line, seen
                seen += line
        rest = answer.read()

    assert b"message_stop" in rest if path == "/v1/messages" else b"[DONE]" in rest


def test_a_revoked_token_is_refused_within_two_seconds(front):
    bob = front.admit("bob")
    until(lambda: front.get("/v1/models", **bearer(bob))[0] == 200, 30)
    time.sleep(3)  # Traefik reads its file at most every two seconds: the next change is the common case

    front.say(token, "revoke", "bob")

    assert until(lambda: front.get("/v1/models", **bearer(bob))[0] == 401, 30) < 2


def test_the_access_log_names_the_client_and_not_its_token(front, alice):
    assert message(front, alice) == 200

    until(lambda: any(line.get("RouterName") == "client-alice@file" for line in front.access_log()), 30)
    written = "".join(path.read_text() for path in front.folder.glob("*.log"))
    assert alice not in written


def test_requests_are_counted_by_the_name_of_the_token_whatever_the_client_says(front, daemon, alice):
    def counted():
        return {client["name"]: client["day"]["requests"] for client in daemon.status()["traffic"]["clients"]}

    before = counted()
    assert front.ask("POST", "/v1/messages", ASK, {"X-CCProxy-Client": "mallory", **bearer(alice)})[0] == 200
    until(lambda: counted().get("alice", 0) == before.get("alice", 0) + 1, 30)
    assert "mallory" not in counted()


def test_an_access_log_that_has_grown_large_is_set_aside_and_begun_anew(tmp_path):
    """As the page about Traefik has cron do it, with a pkill that knows no other Traefik than ours."""
    line = re.search(r"'\d+ \* \* \* \* (find .*)'\) \| crontab -", (ROOT / "docs" / "TRAEFIK.md").read_text())[1]
    with Daemon() as daemon, Front(daemon) as front:
        (tmp_path / "ccproxy").symlink_to(daemon.folder)
        pkill = tmp_path / "pkill"
        pkill.write_text(f'#!/bin/sh\n[ "$*" = "-USR1 -x traefik" ] && kill -USR1 {front.process.pid}\n')
        pkill.chmod(0o755)
        current, aside = front.folder / "access.log", front.folder / "access.log.1"

        def hourly() -> None:
            around = {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
            subprocess.run(["/bin/sh", "-c", line], env=around, check=True)

        hourly()
        assert not aside.exists()
        os.truncate(current, 21 << 20)
        hourly()
        assert aside.stat().st_size >= 21 << 20
        until(current.exists, 30)
        until(lambda: front.get("/after")[0] == 401 and "/after" in current.read_text(), 30)


def test_a_killed_worker_takes_along_only_what_was_inside_it(front, daemon, alice):
    daemon.until(lambda status: status["status"] == "healthy" and daemon.pids("standby"))
    with Clients(lambda: message(front, alice), rate=10) as clients:
        time.sleep(1)
        (victim,) = daemon.pids()
        killed = kill(victim)
        daemon.until(lambda status: daemon.pids() not in ([], [victim]))
        until(lambda: clients.since(killed.after) > 10, 60)

    assert all(killed.hit(outcome) and outcome.status == 502 for outcome in clients.failed())


@pytest.fixture
def stream(front, daemon, alice, leash):
    """A stream that is under way when the test orders something, goes on in the draining worker, and ends whole."""
    parts: list[bytes] = []

    def read() -> None:
        body = ASK | {"model": "leash", "stream": True}
        with opened(front.port, "POST", "/v1/messages", body, bearer(alice), 120) as answer:
            while part := answer.readline():
                parts.append(part)

    def rest() -> None:
        daemon.until(lambda status: daemon.pids("draining"), 120)
        for _ in leash.words[1:]:
            leash.go.release()

    reader, releaser = threading.Thread(target=read), threading.Thread(target=rest)
    reader.start()
    leash.go.release()
    until(lambda: b"one " in b"".join(parts), 60)
    releaser.start()
    yield
    releaser.join()
    reader.join(120)
    assert b"message_stop" in b"".join(parts)


def test_a_reload_under_load_loses_nothing(front, daemon, alice, stream):
    config = daemon.folder / "config.yaml"
    with Clients(lambda: message(front, alice), rate=10) as clients:
        config.write_text(config.read_text() + "# changed\n")
        daemon.change(proxy={"standby": 0})  # one worker less to start
        assert daemon.order("/reload")["result"] == "rolled"
        time.sleep(0.5)

    assert not clients.failed()


def test_a_restart_under_load_loses_nothing(front, daemon, alice, stream):
    before = daemon.pids()
    with Clients(lambda: message(front, alice), rate=10) as clients:
        daemon.order("/restart")
        time.sleep(0.5)

    assert daemon.pids() != before
    assert not clients.failed()


def test_who_waits_too_long_is_told_so_in_the_words_of_the_api():
    with Daemon(proxy={"hold": "300ms", "env": {"STUB_FAIL": "1"}}) as daemon, Front(daemon) as front:
        daemon.start(wait=None)
        secret = front.admit("alice")
        until(lambda: front.get("/v1/models", **bearer(secret))[0] == 503, 30)

        with opened(front.port, "POST", "/v1/messages", ASK, bearer(secret)) as answer:
            assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)
            assert json.loads(answer.read())["type"] == "error"


def test_a_prompt_of_thirty_megabytes_passes():
    with Daemon() as daemon, Front(daemon) as front:
        daemon.start()
        secret = front.admit("alice")
        until(lambda: front.get("/v1/models", **bearer(secret))[0] == 200, 30)

        assert front.ask("POST", "/v1/messages", ASK | {"system": "x" * (30 << 20)}, bearer(secret))[0] == 200


def test_without_a_daemon_there_is_a_clear_answer_at_once():
    with Daemon() as daemon, Front(daemon) as front:
        secret = front.admit("alice")
        until(lambda: front.get("/v1/models", **bearer(secret))[0] == 502, 30)
        took = []
        for _ in range(5):
            began = time.monotonic()
            assert front.ask("POST", "/v1/messages", ASK, bearer(secret)) == (502, "Bad Gateway")
            took.append(time.monotonic() - began)

        assert min(took) < 1
        assert front.get("/v1/models", **bearer("x" * 43))[0] == 401  # Traefik knows by itself


def test_clients_wait_for_a_worker_that_starts_and_none_is_refused():
    """No standby: a crash leaves nobody for a second, and Traefik has no health check that could give up on us."""
    with Daemon(proxy={"hold": "60s", "env": {"STUB_START_DELAY": "1"}}) as daemon, Front(daemon) as front:
        secret = front.admit("alice")
        daemon.start()
        until(lambda: front.get("/v1/models", **bearer(secret))[0] == 200, 30)
        with Clients(lambda: front.get("/v1/models", **bearer(secret))[0], rate=20) as clients:
            (victim,) = daemon.pids()
            killed = kill(victim)
            daemon.until(lambda status: daemon.pids() not in ([], [victim]))

    assert all(killed.hit(outcome) for outcome in clients.failed())
    assert max(outcome.ended - outcome.began for outcome in clients.outcomes) > 0.2


def test_no_answer_is_lost_for_being_faster_than_the_end_of_its_long_prompt():
    prompt = {"model": "echo", "messages": [{"role": "user", "content": "x" * (3 << 20)}]}
    with Daemon() as home, answering_at_once(home.port), Front(home) as front:
        key = bearer(front.admit("alice"))
        until(lambda: front.get("/v1/models", **key)[0] == 200, 30)

        assert {front.ask("POST", "/v1/messages", prompt, key) for _ in range(300)} == {(200, "{}")}


def test_a_traefik_that_keeps_its_connections_loses_nothing_either():
    """Ours does not, for a worker may also be killed; somebody else's does by default."""
    with Daemon(proxy={"workers": 2}, health={"interval": "500ms", "timeout": "5s"}) as daemon:
        daemon.start()
        front = Front(daemon)
        secret = front.admit("alice")
        [rules] = [path for path in front.folder.rglob("*.y*ml") if "maxIdleConnsPerHost" in path.read_text()]
        told = yaml.safe_load(rules.read_text())
        for transport in told["http"]["serversTransports"].values():
            del transport["maxIdleConnsPerHost"]
        rules.write_text(yaml.safe_dump(told))
        with front:
            question = ("POST", "/v1/messages", ASK, bearer(secret))
            with Clients(lambda: front.ask(*question)[0], rate=40) as clients:
                for _ in range(4):
                    assert daemon.order("/restart")["result"] == "rolled"
                    time.sleep(0.5)
        assert {outcome.status for outcome in clients.outcomes} == {200}
        assert len(clients.outcomes) > 100
