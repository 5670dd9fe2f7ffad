"""What is put together of the events."""

from dataclasses import replace

import pytest

from ccproxy_supervisor.board import Board, Samples, Scene
from ccproxy_supervisor.core.litellm import LiteLLMConfig, Model
from ccproxy_supervisor.core.model import ModelSeen, Reloaded
from stage import plan_of

pytestmark = pytest.mark.anyio
LLAMA = Model("llama", "ollama/llama2", "llama2")


async def test_a_model_whose_failure_no_longer_counts_is_not_asked_and_no_reason():
    scene = Scene(replace(plan_of(), litellm=LiteLLMConfig((LLAMA,))), [])
    board = Board("/home", lambda: scene, Samples(lambda _: None, lambda: 0.0), str, dict, lambda: 1_795_435_200.0)
    board(ModelSeen("llama", healthy=False, detail="runner died"))
    assert "model llama fails: runner died" in board.document()["reasons"]
    board(ModelSeen("llama", healthy=None, detail="no longer loaded"))
    told = board.document()
    assert not any("llama" in reason for reason in told["reasons"])
    (model,) = told["models"]
    assert (model["healthy"], model["detail"]) == (None, "no longer loaded")
    assert model["checked"] == "2026-11-23T12:00:00Z"


async def test_the_reload_that_is_shown_is_the_one_ordered_last():
    board = Board("/home", lambda: Scene(plan_of(), []), Samples(lambda _: None, lambda: 0.0), str, dict, lambda: 0.0)
    for order, result in ((1, "rolled"), (3, "refused"), (2, "rolled")):
        board(Reloaded(result, "", "SIGHUP", order=order))
    assert board.document()["reload"]["result"] == "refused"
