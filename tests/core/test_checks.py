"""Who is asked whether it is well, and who is not."""

import pytest

from ccproxy_supervisor.core.checks import by_name, strangers, told, unasked
from ccproxy_supervisor.core.costmap import with_modes
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.settings import ModelSettings, parse

LLAMA = Model("llama", "ollama/llama2", "llama2")
GPT = Model("gpt", "openai/gpt-5")
HOME = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("model", "settings", "why"),
    [
        (LLAMA, {}, ""),
        (Model("m", "openai/x", mock=True), {}, ""),
        (Model("m", "echo/x", custom=True), {}, ""),
        (Model("m", "openai/x", api_base=HOME), {}, ""),
        (LLAMA, {"interval": None}, "models.interval is off"),
        (GPT, {}, "cost money"),
        (GPT, {"check": ("other",)}, "cost money"),
        (GPT, {"check": ("gpt",)}, ""),
        (GPT, {"paid": True}, ""),
        (Model("m", "anthropic/claude"), {}, "cost money"),
        (Model("gpt", "openai/gpt-5", spared="model_info.x"), {"check": ("gpt",)}, "model_info.x leaves it out"),
        (Model("m", "ollama/*"), {}, "stands for many"),
        (Model("m", "openai/*"), {"paid": True}, "stands for many"),
        (Model("openai/*", "openai/*", checked_as="openai/gpt-5-nano"), {}, "cost money"),
        (Model("openai/*", "openai/*", checked_as="openai/gpt-5-nano"), {"paid": True}, ""),
        (Model("m", "ollama/*"), {"check": ("m",)}, ""),
        (Model("m", "ollama/nomic-embed-text"), {}, "looks like embedding; set model_info.mode"),
        (Model("m", "ollama/nomic-embed-text", mode="embedding"), {}, ""),
        (Model("m", "openai/whisper", api_base=HOME, mode="audio_transcription"), {}, ""),
        (Model("m", "openai/whisper", api_base=HOME), {}, "looks like audio transcription"),
        (Model("m", "openai/sd", api_base=HOME, mode="image_generation"), {}, "a whole image generation"),
        (Model("m", "openai/dall-e-3", mode="image_generation"), {"paid": True}, "a whole image generation"),
        (Model("m", "openai/sd", api_base=HOME, mode="image_generation"), {"check": ("m",)}, ""),
        (Model("m", "openai/g", api_base=HOME, mode="moderation"), {}, "no check for mode moderation"),
    ],
)
def test_only_what_costs_nothing_and_does_what_the_check_asks_is_asked(model, settings, why):
    reason = unasked((model,), ModelSettings(**settings))
    assert why in reason
    assert bool(reason) is bool(why)


def test_a_name_is_asked_only_if_each_of_its_deployments_may_be():
    mixed = (Model("m", "ollama/llama2", "llama2"), Model("m", "openai/gpt-5"))
    assert unasked(mixed, ModelSettings()).endswith("models.check or models.paid allows it (one of 2 deployments)")
    assert unasked(mixed, ModelSettings(check=("m",))) == ""


def test_it_is_told_by_reason():
    models = [LLAMA, GPT, Model("o", "openai/o9"), Model("e", "ollama/all-minilm")]
    assert list(told(models, ModelSettings())) == [
        "asked whether they are well: llama",
        "not asked, for it would cost money; models.check or models.paid allows it: gpt, o",
        "not asked, for it looks like embedding; set model_info.mode: e",
    ]
    assert list(told([LLAMA], ModelSettings(interval=None))) == ["not asked, for models.interval is off: llama"]


def test_a_name_to_check_that_is_not_there_is_found():
    found = strangers([GPT], parse("models: {check: [gpt, gptt, gptt, z]}\nollama: {preload: [y, gpt]}"), "s.yaml")
    assert [str(fault) for fault in found] == [
        "s.yaml: models.check: LiteLLM's config has no model gptt; did you mean gpt?",
        "s.yaml: models.check: LiteLLM's config has no model z",
        "s.yaml: ollama.preload: LiteLLM's config has no model y",
    ]


def test_deployments_are_gathered_in_order():
    assert list(by_name([GPT, LLAMA, GPT])) == ["gpt", "llama"]


COSTS = '{"sample": {"mode": 1}, "gpt-5": {"x": {"y": 1}, "mode": "responses"},\n "openai/tts": {"mode":"audio_speech"}, "bad": {"mode": [}, "odd": 7}'


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        (GPT, "responses"), (Model("m", "gpt-5"), "responses"), (Model("m", "openai/tts"), "audio_speech"),
        (Model("m", "openai/nobody"), None), (Model("m", "bad"), None), (Model("m", "odd"), None), (Model("m", "sample"), None),
        (Model("m", "openai/gpt-5", mode="chat"), "chat"), (Model("m", "openai/*", checked_as="openai/gpt-5"), "responses"),
    ],
)  # fmt: skip
def test_litellms_own_list_says_what_a_model_does(model, mode):
    assert with_modes([model], lambda: COSTS)[0].mode == mode


def test_the_list_is_not_read_where_nobody_needs_it():
    def fail():
        raise AssertionError

    models = (Model("m", "x/y", mode="chat"), Model("m", "x/y", mock=True))
    assert with_modes(models, fail) == models
