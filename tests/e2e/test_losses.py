"""Deployments that real LiteLLM drops at its start: foreseen by `check`, seen in a newcomer, never served in silence."""

from __future__ import annotations

import httpx
import pytest

from ccproxy_supervisor.deploy.validate import validate
from real import real, typed

GOOD = """\
litellm_settings: {disable_hf_tokenizer_download: true}
router_settings: {model_group_alias: {alias: good, hidden: {model: good, hidden: true}}}
model_list:
  - {model_name: good, litellm_params: {model: openai/x, api_key: none, mock_response: hi}, model_info: {access_groups: [some]}}
  - {model_name: "any/*", litellm_params: {model: "openai/*", api_key: none}}
  - {model_name: team, litellm_params: {model: openai/x, api_key: none}, model_info: {team_id: t, team_public_model_name: theirs}}
  - {model_name: orgs, litellm_params: {model: openai/x, api_key: none, organization: [a, b]}}
"""
ENTRIES = {
    "provider": "{model: opnai/gpt-4o, api_key: none}",
    "version": '{model: azure/gpt, api_base: "http://127.0.0.1:9", api_key: none, api_version: 2024-06-01}',
    "key": "{model: openai/gpt, api_key: 12345}",
    "rate": "{model: openai/gpt, api_key: none, rpm: many}",
    "bare": "{model: my-llama, api_key: none}",
    "good": "{model: nobody/x, api_key: none}",  # a second deployment of a name that keeps one
}
FORESEEN = GOOD + "".join(f"  - {{model_name: {name}, litellm_params: {params}}}\n" for name, params in ENTRIES.items())
#: What nobody but LiteLLM itself finds.
UNFORESEEN = GOOD + '  - {model_name: tagged, litellm_params: {model: openai/x, api_key: none, tag_regex: ["("]}}\n'


@pytest.fixture
def daemon(litellm):
    with real(GOOD) as house:
        yield house


def models(daemon):
    return {row["name"]: row for row in daemon.status()["models"]}


def test_check_foresees_exactly_what_litellm_drops(daemon):
    assert validate(daemon.home.read_plan({})) is None

    daemon.write("config.yaml", FORESEEN)
    plan = daemon.home.read_plan({})

    told = typed(daemon, "check")
    assert told.returncode == 78
    lines = told.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        [f"config.yaml:{8 + place}", f"model_list[{4 + place}].litellm_params.{field}"]
        for place, field in enumerate(("model", "api_version", "api_key", "rpm", "model", "model"))
    ]
    found = validate(plan)
    assert [line.split(":")[0] for line in found.splitlines()] == [
        f"LiteLLM drops model {name}" for name in ("good", "provider", "version", "key", "rate", "bare")
    ]
    assert {name for name, _ in plan.litellm.dropped} == set(ENTRIES)
    assert "12345" not in found + told.stderr


def test_at_the_first_start_what_works_is_served_and_the_rest_is_told_of(daemon):
    daemon.write("config.yaml", FORESEEN)
    daemon.start(wait="degraded", seconds=300)

    status = daemon.status()
    assert sum(reason.startswith("LiteLLM dropped model ") for reason in status["reasons"]) == len(ENTRIES)
    assert models(daemon)["rate"]["healthy"] is False
    assert "rpm: Input should be a valid integer" in models(daemon)["rate"]["detail"]
    assert "1 of 2 deployments" in models(daemon)["good"]["detail"]
    body = {"model": "good", "messages": [{"role": "user", "content": "hi"}]}
    assert httpx.post(daemon.url + "/v1/chat/completions", json=body, timeout=60).status_code == 200

    daemon.write("config.yaml", GOOD)
    report = daemon.order("/reload", timeout=300)

    assert report["result"] == "rolled"
    assert daemon.until(lambda status: status["status"] == "healthy")["reasons"] == []


def test_a_reload_that_would_lose_a_model_is_refused_or_fails_and_nothing_else_changes(daemon):
    daemon.start(seconds=300)
    pids = daemon.pids()
    daemon.write("config.yaml", FORESEEN)
    refused = daemon.order("/reload")

    assert refused["result"] == "refused"
    assert "config.yaml:8: model_list[4].litellm_params.model: LiteLLM knows no provider opnai" in refused["detail"]

    daemon.write("config.yaml", UNFORESEEN)
    failed = daemon.order("/reload", timeout=300)

    assert failed["result"] == "failed"
    assert "LiteLLM dropped tagged (Invalid regex in tag_regex" in failed["detail"]
    assert daemon.pids() == pids
    assert daemon.status()["status"] == "healthy"
