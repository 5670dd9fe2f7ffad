"""What is put together of what others know."""

import pytest

from ccproxy_supervisor.core.checks import by_name
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.health import Heard, ModelHealth
from ccproxy_supervisor.core.model import OllamaStatus, Reloaded
from ccproxy_supervisor.core.settings import ModelSettings
from ccproxy_supervisor.overview import Overview, Samples, Scene
from stage import plan_of

pytestmark = pytest.mark.anyio
NOON = 1_795_435_200.0
LLAMA, QWEN = Model("llama", "ollama/llama2", "llama2"), Model("llama", "ollama/qwen", "qwen")


@pytest.fixture
def health():
    kept = ModelHealth()
    kept.adopt(by_name([LLAMA, QWEN]), ModelSettings())
    return kept


def overview(health, ollama=None):
    samples = Samples(lambda _: None, lambda: 0.0)
    return Overview(
        "/home",
        lambda: Scene(plan_of(), []),
        samples,
        lambda: health.views,
        lambda: ollama,
        str,
        dict,
        dict,
        dict,
        lambda: NOON,
    )


async def test_a_model_whose_failure_no_longer_counts_is_not_asked_and_no_reason(health):
    told = overview(health)
    for _ in range(2):
        health.heard("llama", Heard(healthy=False, detail="runner died"), NOON)
    assert "model llama fails: runner died" in told.document()["reasons"]
    health.passed_over("llama")
    health.passed_over("llama")
    document = told.document()
    assert not any("llama" in reason for reason in document["reasons"])
    (model,) = document["models"]
    assert (model["healthy"], model["checked"]) == (None, "2026-11-23T12:00:00Z")


async def test_two_deployments_under_one_name_are_one_row_that_counts_them(health):
    health.heard("llama", Heard(healthy=True, well=1, detail="1 of 2: late"), NOON)
    told = overview(health)
    (model,) = told.document()["models"]
    assert model == {
        "name": "llama", "healthy": True, "checked": "2026-11-23T12:00:00Z", "detail": "1 of 2: late", "asked": True,
        "deployments": 2, "healthy_deployments": 1, "upstream": "ollama/llama2", "upstreams": ["ollama/llama2", "ollama/qwen"],
    }  # fmt: skip
    assert told.health()["models"] == ["ollama/llama2", "ollama/qwen"]


async def test_ollama_is_shown_as_its_watch_knows_it_now(health):
    assert overview(health).document()["ollama"] is None
    assert overview(health, OllamaStatus(up=True, version="1")).document()["ollama"]["version"] == "1"


async def test_the_reload_that_is_shown_is_the_one_ordered_last(health):
    told = overview(health)
    for order, result in ((1, "rolled"), (3, "refused"), (2, "rolled")):
        told(Reloaded(result, "", "SIGHUP", order=order))
    assert told.document()["reload"]["result"] == "refused"
