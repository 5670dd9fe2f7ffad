"""What an entry of LiteLLM's model_list says before anybody is asked."""

import textwrap

import pytest

from ccproxy_supervisor.core.deployment import Model, near
from ccproxy_supervisor.core.litellm import parse_litellm


def models(text, **env):
    return parse_litellm(textwrap.dedent(text), env).models


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1", "http://127.8.8.8", "localhost:1234", "http://[::1]:80", "http://0.0.0.0:1", "http://10.0.0.7",
        "http://192.168.1.5:8000", "http://172.16.0.1", "http://169.254.1.1", "http://[fe80::1]", "http://100.100.1.2:11434",
        "http://mac-2:11434", "http://mini.local", "http://gpu.lan", "http://host.docker.internal:11434", "http://a.tail1.ts.net",
    ],
)  # fmt: skip
def test_this_machine_and_the_private_network_are_near(url):
    assert near(url)


@pytest.mark.parametrize(
    "url", [None, "", "https://api.openai.com/v1", "http://8.8.8.8", "http://[2001:4860:4860::8888]", "http://[::1",
            "http://172.32.0.1", "https://local.example.com", "http://"],
)  # fmt: skip
def test_everybody_elses_machines_are_not(url):
    assert not near(url)


@pytest.mark.parametrize(
    ("model", "free"),
    [
        (Model("m", "openai/gpt"), False),
        (Model("m", "gpt-4o"), False),
        (Model("m", "openai/x", mock=True), True),
        (Model("m", "echo/words", custom=True), True),
        (Model("m", "openai/x", api_base="http://127.0.0.1:8000/v1"), True),
        (Model("m", "openai/x", api_base="https://api.example.com/v1"), False),
        (Model("m", "ollama/llama2", "llama2"), True),
        (Model("m", "llama2", "llama2", provider="ollama"), True),
        (Model("m", "ollama/gpt-oss:120b-cloud", "gpt-oss:120b-cloud", "http://127.0.0.1:11434"), False),
        (Model("m", "ollama/kimi-k2:cloud", "kimi-k2:cloud"), False),
        (Model("m", "ollama/llama2", "llama2", "https://ollama.com"), False),
        (Model("m", "llamafile/x"), True),
    ],
)
def test_what_is_answered_at_home_costs_nothing(model, free):
    assert model.free is free


@pytest.mark.parametrize(
    ("upstream", "does"),
    [
        ("ollama/nomic-embed-text", "embedding"), ("ollama/mxbai-embed-large", "embedding"), ("ollama/all-minilm:22m", "embedding"),
        ("ollama/bge-m3", "embedding"), ("hosted_vllm/BAAI/bge-reranker-v2", "rerank"), ("cohere/rerank-v3.5", "rerank"),
        ("openai/whisper-1", "audio_transcription"), ("openai/tts-1", "audio_speech"), ("openai/dall-e-3", "image_generation"),
        ("openai/gpt-image-1", "image_generation"), ("openai/sora-2", "video_generation"), ("ollama/llama-guard3", "moderation"),
        ("ollama/llama3.2", ""), ("openai/gpt-4o", ""), ("ollama/gemma3:27b", ""), ("ollama/qwen3-coder:30b", ""),
    ],
)  # fmt: skip
def test_a_name_is_the_last_resort_to_tell_what_a_model_does(upstream, does):
    assert Model("m", upstream).does == does
    assert Model("m", upstream, mode="chat").does == "chat"


def test_what_the_entry_says_of_checks_is_read():
    (found,) = models(
        """\
        model_list:
        - model_name: "openai/*"
          litellm_params: {model: "openai/*"}
          model_info: {mode: chat, disable_background_health_check: true, health_check_model: openai/gpt-5-mini}
        """
    )
    assert found == Model(
        "openai/*", "openai/*", mode="chat", spared="model_info.disable_background_health_check", checked_as="openai/gpt-5-mini"
    )  # fmt: skip
    assert found.wildcard


def test_handlers_and_the_names_checked_in_the_background_may_stand_in_an_included_file():
    config = "include: [more.yaml]\nmodel_list: [{model_name: a, litellm_params: {model: echo/a}}]"
    more = """\
        litellm_settings: {custom_provider_map: [{provider: echo, custom_handler: echo.handler}]}
        general_settings: {background_health_check_model_groups: [b]}
        model_list: [{model_name: b, litellm_params: {model: openai/b, base_url: "http://127.0.0.1:1", api_base: "http://x.com"}}]
        """
    found = parse_litellm(config, {}, include=lambda _, name: (name, textwrap.dedent(more))).models
    assert found == (
        Model("a", "echo/a", custom=True, spared="general_settings.background_health_check_model_groups"),
        Model("b", "openai/b", api_base="http://127.0.0.1:1"),
    )


@pytest.mark.parametrize("info", ["null", "[]", "word", "{mode: 7}"])
def test_a_model_info_that_says_nothing_is_passed_over(info):
    (found,) = models(f"model_list: [{{model_name: m, litellm_params: {{model: openai/x}}, model_info: {info}}}]")
    assert found == Model("m", "openai/x")


def test_ollama_by_custom_provider_or_base_url_is_ollama():
    found = models(
        """\
        model_list:
        - {model_name: a, litellm_params: {model: llama2, custom_llm_provider: ollama_chat, base_url: "http://[::1]:11434"}}
        - {model_name: b, litellm_params: {model: "*", custom_llm_provider: ollama, base_url: "http://h:11434"}}
        """
    )
    assert found == (
        Model("a", "llama2", "llama2", "http://[::1]:11434", provider="ollama_chat"),
        Model("b", "*", None, "http://h:11434", provider="ollama"),
    )
