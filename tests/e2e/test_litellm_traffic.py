"""Real LiteLLM before an upstream that counts: what the supervisor says went through is what the upstream saw."""

import json
import subprocess
import threading
import time
from functools import partial

import httpx
import pytest

from daemon import ROOT
from load import Load, kill, question
from real import interpreter, real, shipped, typed
from scraped import parsed
from upstream import Upstream

pytestmark = pytest.mark.real
CHAT = "/v1/chat/completions"
ASKED = {"chat": "up", "responses": "bridged"}  # which has LiteLLM ask for a chat
RESULTS = ("ok", "client_error", "server_error", "broken", "aborted", "refused", "lost")


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def house(litellm, upstream):
    config = shipped(
        upstream.model(),
        upstream.model("again", max_retries=0),
        upstream.model("bridged", use_chat_completions_api=True),
        router_settings={"disable_cooldowns": True},
    )
    with real(config, proxy={"workers": 1, "standby": 1, "keep_alive": "1s"}) as daemon:
        yield daemon


def counts(daemon, model="up"):
    """By result, over all APIs."""
    page = parsed(daemon.metrics())
    series = lambda api, result: f"ccproxy_requests_total{{api={api}}}{{model={model}}}{{result={result}}}"  # noqa: E731
    return {
        result: sum(page.get(series(api, result), 0) for api in ("chat", "messages", "responses")) for result in RESULTS
    }


def tokens(daemon, kind, model="up"):
    return parsed(daemon.metrics()).get(f"ccproxy_tokens_total{{kind={kind}}}{{model={model}}}", 0)


def soon(fact, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def ask(daemon, content, path=CHAT, timeout=120, **more):
    return httpx.post(daemon.url + path, json=question(content, **{"model": "up", **more}), timeout=timeout)


def gain(before, after):
    return {result: after[result] - before[result] for result in after if after[result] != before[result]}


@pytest.mark.parametrize(
    ("content", "more", "results"),
    [
        ("hi", {}, {"ok": 1}),
        ("hi", {"stream": True}, {"ok": 1}),
        ("fail", {"num_retries": 0}, {"server_error": 1}),
        ("half", {"stream": True}, {"broken": 1}),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_each_request_counts_once_as_what_became_of_it(daemon, path, content, more, results):
    before = counts(daemon)
    ask(daemon, content, path, **more)
    assert soon(lambda: gain(before, counts(daemon))) == results


def test_tokens_are_those_that_the_upstream_said(daemon, upstream):
    before = [tokens(daemon, kind) for kind in ("input", "output", "cached")]
    for stream in (False, True):
        ask(daemon, "hi", stream=stream)
    soon(
        lambda: (
            [tokens(daemon, kind) for kind in ("input", "output", "cached")]
            == [before[0] + 22, before[1] + 6, before[2] + 10]
        )
    )


def test_retries_count_as_retries_and_the_request_once(daemon, upstream):
    seen, before = upstream.asked["up"], counts(daemon)
    retried = lambda: parsed(daemon.metrics()).get("ccproxy_request_retries_total{model=up}", 0)  # noqa: E731
    already = retried()
    assert ask(daemon, "once", num_retries=1).status_code == 200
    assert ask(daemon, "fail once", num_retries=1).status_code == 500
    assert gain(before, counts(daemon)) == {"ok": 1, "server_error": 1}
    assert upstream.asked["up"] - seen == 2 + retried() - already == 4


def test_who_hangs_up_is_counted_as_aborted_and_what_is_in_flight_is_seen(daemon, upstream):
    before = counts(daemon)
    with pytest.raises(httpx.ReadTimeout):
        ask(daemon, "wait", timeout=2)
    flying = lambda: parsed(daemon.metrics())["ccproxy_requests_in_flight{model=up}"]  # noqa: E731
    upstream.go.set()
    soon(lambda: not flying())
    assert gain(before, counts(daemon)) == {"aborted": 1}
    upstream.go.clear()


def test_names_that_nobody_configured_are_one(daemon):
    before = counts(daemon, "other")
    for name in ("nobody", "x" * 1000, "up\n"):
        assert ask(daemon, "hi", model=name).status_code == 400
    assert gain(before, counts(daemon, "other")) == {"client_error": 3}
    assert {model["name"] for model in daemon.status()["traffic"]["models"]} <= {"up", "other", "again"}


def test_only_so_many_are_let_in_and_the_next_is_refused_until_the_setting_is_taken_back(daemon, upstream):
    before, answers = counts(daemon), []
    daemon.change(proxy={"max_in_flight": {"models": {"up": 1}, "queue": 1}})
    assert daemon.order("/reload")["result"] == "applied", "no worker is replaced for it"
    upstream.go.clear()
    asking = [
        threading.Thread(target=lambda: answers.append(ask(daemon, "wait", stream=True).status_code)) for _ in range(2)
    ]
    for thread in asking:
        thread.start()
    soon(lambda: daemon.status()["traffic"]["in_flight"] == 2)
    time.sleep(0.5)
    for path, words in ((CHAT, ("rate_limit_exceeded", "code")), ("/v1/messages", ("rate_limit_error", "error"))):
        refused = ask(daemon, "hi", path)
        assert (refused.status_code, *(word in refused.text for word in words)) == (429, True, True)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    upstream.go.set()
    for thread in asking:
        thread.join()
    daemon.change(proxy={"max_in_flight": {"models": {"up": 50}}})
    assert daemon.order("/reload")["result"] == "applied"
    assert ask(daemon, "hi").status_code == 200
    assert answers == [200, 200]
    assert gain(before, counts(daemon)) == {"ok": 3, "refused": 2}
    queued = parsed(daemon.metrics())["ccproxy_request_queued_seconds_sum{model=up}"]
    assert queued >= 0.5
    upstream.go.clear()


def prompted(daemon, upstream, api, prompt):
    """What a program with the SDK of *api* tells, whose upstream reads on until the answer to the program has begun."""
    upstream.go.clear()
    line = [interpreter(), str(ROOT / "tests" / "sdk_client.py"), daemon.url, api, ASKED[api], prompt]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "begun\n", "it waits for the upstream's first word"
        upstream.go.set()
        told = json.loads(program.stdout.read())
    upstream.go.clear()
    return told


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_sdk_is_kept_company_while_a_prompt_is_read_and_has_the_whole_answer(daemon, upstream, api):
    counted = partial(counts, daemon, ASKED[api])
    before = counted()
    assert prompted(daemon, upstream, api, "wait") == {"said": "one two three"}
    assert soon(lambda: gain(before, counted())) == {"ok": 1}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_sdk_raises_what_the_upstream_says_too_late_for_a_status(daemon, upstream, api):
    counted = partial(counts, daemon, ASKED[api])
    before = counted()
    assert "told to" in prompted(daemon, upstream, api, "wait and fail")["raised"]
    assert soon(lambda: gain(before, counted())) == {"server_error": 1}


@pytest.mark.parametrize(
    ("prompt", "last", "result"), [("wait", "message_stop", "ok"), ("wait and fail", "error", "server_error")]
)
def test_a_messages_client_is_pinged_until_then(daemon, upstream, prompt, last, result):
    before, events = counts(daemon), []
    upstream.go.clear()
    ask = question(prompt, model="up", stream=True, num_retries=0)
    with httpx.stream("POST", f"{daemon.url}/v1/messages", json=ask, timeout=120) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
            if events == [{"type": "ping"}] * 2:
                upstream.go.set()
    upstream.go.clear()
    assert (response.status_code, events[:2], events[-1]["type"]) == (200, [{"type": "ping"}] * 2, last)
    assert ("told to" in json.dumps(events[-1])) == (last == "error")
    assert soon(lambda: gain(before, counts(daemon))) == {result: 1}


def test_through_kills_of_workers_and_supervisor_a_reload_and_a_stop_each_request_is_counted_once(daemon, upstream):
    """What was inside a killed worker is told as lost, nothing else is missing and nothing is there twice."""
    seen, before = upstream.asked["again"], counts(daemon, "again")
    first, blows = tokens(daemon, "input", "again"), []
    ask_chat = question("hi", model="again", num_retries=0)
    with Load(daemon.port, rate=4, path=CHAT, ask=ask_chat) as plain, Load(
        daemon.port, rate=4, path=CHAT, ask={**ask_chat, "stream": True}
    ) as streamed:  # fmt: skip
        for _ in range(2):
            time.sleep(3)
            daemon.until(lambda status: status["serving"] and daemon.pids("standby"), 120)
            blows.append(kill(daemon.pids()[0]))
        daemon.process.kill()
        daemon.process.wait()
        time.sleep(2)
        daemon.start(wait=None)
        daemon.until(lambda status: status["serving"] and daemon.pids("standby"), 120)
        daemon.change(proxy={"env": {"EDITION": "2"}})
        assert daemon.order("/reload")["result"] == "rolled"
        time.sleep(3)
    outcomes = plain.outcomes + streamed.outcomes
    good, bad = ([o for o in outcomes if bool(o.trouble) == wrong] for wrong in (False, True))
    assert all(any(blow.hit(outcome) for blow in blows) for outcome in bad)
    told = gain(before, counts(daemon, "again"))
    assert set(told) <= {"ok", "lost"}
    assert len(good) <= told["ok"] <= sum(told.values()) <= len(outcomes), "one that was not read yet is of no model"
    assert told["ok"] <= upstream.asked["again"] - seen <= len(outcomes)
    expected = 11 * told["ok"]
    soon(lambda: expected - 11 * 8 <= tokens(daemon, "input", "again") - first <= expected + 11 * 8)

    after, daemon_end = counts(daemon, "again"), daemon.end()
    assert daemon_end == 0
    rows = json.loads(typed(daemon, "usage", "--json").stdout)["rows"]
    assert {row["name"]: row["requests"] for row in rows}["again"] == sum(after.values())
    daemon.start()
    assert counts(daemon, "again") == after
