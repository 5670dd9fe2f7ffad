"""Whom a new LiteLLM is tried with."""

import pytest

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.canary import best, why_none, wrong
from ccproxy_supervisor.core.deployment import Model

OURS = "http://127.0.0.1:11434"
MOCK = Model("mock", "openai/x", mock=True)
LLAMA, QWEN = Model("llama", "ollama/llama2", "llama2"), Model("qwen", "ollama_chat/qwen3:8b", "qwen3:8b")
GPT, EMBED = Model("gpt", "openai/gpt-5"), Model("embed", "ollama/nomic-embed-text", "nomic-embed-text")
VLLM = Model("vllm", "hosted_vllm/x", api_base="http://127.0.0.1:8000/v1")
UNFIT = [
    GPT, EMBED, Model("ollama/*", "ollama/*"), Model("all", "openai/*", api_base=OURS), Model("any-*", "ollama/x", "x"),
    Model("speech", "openai/x", api_base=OURS, mode="audio_speech"), Model("draw", "openai/sdxl", api_base=OURS),
    Model("rank", "cohere/x", api_base=OURS, mode="rerank"), Model("vec", "openai/x", mock=True, mode="embedding"),
    Model("cloud", "ollama/glm:cloud", "glm:cloud"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("models", "loaded", "name"),
    [
        ([*UNFIT, LLAMA, MOCK], (), "mock"),
        ([*UNFIT, LLAMA, QWEN], ("qwen3:8b",), "qwen"),
        ([*UNFIT, LLAMA, QWEN], (), "llama"),
        ([LLAMA, VLLM], (), "vllm"),
        ([LLAMA, VLLM], ("llama2:latest",), "llama"),
        ([LLAMA, Model("echo", "echo/x", custom=True)], (), "echo"),
        ([Model("m", "ollama/far", "far", "http://mac-2:11434"), LLAMA], ("far",), "m"),
        ([Model("llama", "openai/gpt-5"), LLAMA, QWEN], ("llama2",), "qwen"),
        (UNFIT, ("nomic-embed-text", "x", "glm:cloud"), None),
        ([], (), None),
    ],
)
def test_a_mock_before_what_is_loaded_before_what_is_local_and_nothing_that_does_not_chat(models, loaded, name):
    assert best(models, OURS, loaded) == name


def test_it_is_told_why_none_may_be_asked():
    told = "gpt would cost money, embed does embedding, ollama/* stands for many"
    assert why_none(UNFIT[:3]) == told
    assert why_none([LLAMA]) == ""


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Answer(200, b'{"choices": [{}]}', 1.0), None),
        (Answer(200, b'{"choices": []}', 1.0), "no completion"),
        (Answer(200, b'{"error": "x"}', 1.0), "no completion"),
        (Answer(200, b"[", 1.0), "no completion"),
        (Answer(500, b'{"choices": [{}]}', 1.0), "answered 500"),
        (Failure("timeout", "no complete answer", 1.0), "no complete answer"),
    ],
)
def test_only_a_completion_is_an_answer(outcome, why):
    told = wrong("m", outcome)
    assert (told is None) if why is None else told.startswith("model m does not answer: ")
    assert why is None or why in told
