"""Real LiteLLM with the shipped configuration: what clients, Prometheus and a person at a terminal get."""

import json
import re

import httpx
import pytest

from load import Load, question, said
from real import shipped, typed

pytestmark = pytest.mark.real
SETTINGS = {"models": {"interval": "2s"}}
LITELLM = shipped(litellm_settings={"callbacks": ["actor.witness"]})
PATHS = ["/v1/messages", "/v1/chat/completions"]


def ask(daemon, path, **more):
    return httpx.post(daemon.url + path, json=question("one two three", **more), timeout=60)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("model", "text"), [("echo", "You said: one two three"), ("mock", "LiteLLM is up.")])
def test_a_question_is_answered(daemon, path, model, text):
    answer = ask(daemon, path, model=model)

    assert answer.status_code == 200, answer.text
    content = answer.json()["content"][0]["text"] if path == PATHS[0] else answer.json()["choices"][0]["message"]
    assert text in json.dumps(content)


@pytest.mark.parametrize(("path", "end"), [(PATHS[0], "event: message_stop"), (PATHS[1], "data: [DONE]")])
def test_an_answer_is_streamed_word_by_word(daemon, path, end):
    """The first word is there before the last one is said: the answer comes in many pieces."""
    body = question("one two three", stream=True)
    with httpx.stream("POST", daemon.url + path, json=body, timeout=60) as answer:
        pieces = list(answer.iter_text())

    assert answer.status_code == 200
    assert said("".join(pieces)).split() == ["You", "said:", "one", "two", "three"]
    assert end in pieces[-1]
    assert len(pieces) >= 5


def test_an_unknown_model_is_litellms_error_not_ours(daemon):
    answer = ask(daemon, "/v1/chat/completions", model="nobody")

    assert answer.status_code == 400
    assert "nobody" in answer.json()["error"]["message"]


def test_what_clients_ask_is_in_litellms_log_and_what_probes_ask_is_not(daemon):
    ask(daemon, "/v1/messages")

    def asked():
        return [line["message"] for line in daemon.log("litellm") if line["logger"] == "uvicorn.access"]

    daemon.until(lambda _: any('"POST /v1/messages HTTP/1.1" 200' in line for line in asked()))
    assert not [line for line in asked() if "/health" in line]


def test_callbacks_hear_of_clients_and_never_of_the_warm_up(daemon):
    ask(daemon, "/v1/chat/completions")
    ask(daemon, "/v1/chat/completions", model="nobody")
    stdout = daemon.folder / "logs" / "stdout.log"

    daemon.until(lambda _: {"witness: success words", "witness: failure nobody"} <= {*stdout.read_text().splitlines()})
    assert "warm-up" not in stdout.read_text()


def test_models_are_probed_through_litellm(daemon):
    names = ("echo", "mock", "actor", "claude-*")
    status = daemon.until(lambda s: {m["name"]: m["healthy"] for m in s["models"]} == dict.fromkeys(names, True))

    assert all(model["checked"] for model in status["models"])
    page = daemon.metrics()
    assert all(f'ccproxy_model_healthy{{model="{name}"}} 1.0' in page for name in names)
    assert 'ccproxy_probe_success{probe="models"} 1.0' in page


def test_metrics_name_the_versions_and_the_one_worker(daemon):
    page = daemon.metrics()

    assert re.search(r'^ccproxy_build_info\{.*litellm="\d+\.\d+\.\d+.*"\} 1\.0$', page, re.MULTILINE)
    assert 'ccproxy_workers{state="serving"} 1.0' in page
    (memory,) = re.findall(r'^ccproxy_worker_resident_memory_bytes\{slot="0"\} (.+)$', page, re.MULTILINE)
    assert float(memory) > 100e6


def test_a_second_start_of_the_same_home_is_refused(daemon):
    second = typed(daemon, "run")

    assert second.returncode == 75
    assert str(daemon.process.pid) in second.stderr


def test_status_tells_a_person_and_a_program(daemon):
    shown, document = typed(daemon, "status"), typed(daemon, "status", "--json")

    assert (shown.returncode, document.returncode) == (0, 0)
    assert "healthy" in shown.stdout
    assert "echo" in shown.stdout
    (worker,) = json.loads(document.stdout)["workers"]
    assert (worker["slot"], worker["state"], worker["pid"]) == (0, "serving", *daemon.pids())


def test_version_names_litellm(daemon):
    told = typed(daemon, "version")

    assert told.returncode == 0
    assert daemon.status()["litellm"] in told.stdout


def test_a_reload_of_unchanged_files_does_nothing_and_says_so(daemon):
    before = daemon.pids()
    reload = typed(daemon, "reload")

    assert (reload.returncode, reload.stdout.split(":")[0]) == (0, "unchanged")
    assert daemon.pids() == before


def test_check_finds_what_is_wrong_before_a_reload_does(daemon):
    assert typed(daemon, "check").returncode == 0
    daemon.write("config.yaml", "model_list: [{model_name: echo}]")
    wrong = typed(daemon, "check")
    refused = typed(daemon, "reload")
    daemon.write("config.yaml", LITELLM)

    assert wrong.returncode == 78
    assert "litellm_params" in wrong.stderr
    assert (refused.returncode, refused.stdout.split(":")[0]) == (1, "refused")
    assert "litellm_params" in refused.stdout


def test_check_deep_asks_litellm_itself(daemon):
    """A callback that does not exist passes every check of ours."""
    good = typed(daemon, "check", "--deep")
    daemon.write("config.yaml", shipped(litellm_settings={"callbacks": ["nowhere.to_be_found"]}))
    shallow, deep = typed(daemon, "check"), typed(daemon, "check", "--deep")
    daemon.write("config.yaml", LITELLM)

    assert (good.returncode, shallow.returncode, deep.returncode) == (0, 0, 78), good.stderr
    assert "nowhere" in deep.stderr


def turned_away(daemon):
    """A worker asked to leave accepts for another moment, and whom it accepts it serves."""
    while (answer := ask(daemon, "/v1/messages")).status_code != 503:
        assert answer.status_code == 200, answer.text
    return answer


def test_a_stop_waits_for_the_streams_and_tells_newcomers_to_come_back(daemon):
    with Load(daemon.port, rate=0, streams=2, words=300) as load:
        load.end()
        stop = typed(daemon, "stop")
        daemon.until(lambda status: status["status"] == "stopping")
        late = turned_away(daemon)

    assert stop.returncode == 0
    assert late.headers["retry-after"]
    assert (load.lost, load.streamed) == ([], 2)
    assert daemon.process.wait(30) == 0
    assert typed(daemon, "status").returncode == 3
