import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.ollama import (
    MOST_MODELS,
    known_as,
    lacking,
    local,
    read_loaded,
    read_models,
    read_version,
    root,
    wanted,
)
from ccproxy_supervisor.core.wedge import Loaded

OURS = "http://127.0.0.1:11434"


def tags(*names):
    return json.dumps({"models": [{"name": name, "model": name, "size": 1} for name in names]}).encode()


def ollama(tag="llama2", base=None, **more):
    return Model("llama", f"ollama/{tag}", tag, base, **more)


def test_names_are_read_in_order():
    assert read_models(tags("llama2:latest", "qwen3:8b")) == ("llama2:latest", "qwen3:8b")


@pytest.mark.parametrize("body", [b"{}", b'{"models": null}', b'{"models": []}', b'{"models": [{}, {"name": 1}]}'])
def test_no_models_is_an_answer(body):
    assert read_models(body) == ()


def test_an_older_answer_without_name_is_read_by_model():
    assert read_models(b'{"models": [{"model": "a:1"}]}') == ("a:1",)


def test_names_nobody_can_ask_for_are_left_out():
    assert read_models(tags("x" * 257, "a\x1b[2J", "", "ok", "\ud800")) == ("ok",)


@pytest.mark.parametrize(
    "body",
    [b"", b"Ollama is running", b"[]", b'"x"', b"\xff\xfe{", b"[" * 100_000, b'{"models": {}}', b'{"models": "a"}',
     b'{"models": ["a"]}', b'{"models": 1' + b"0" * 5000 + b"}", tags(*["a"] * (MOST_MODELS + 1))],
)  # fmt: skip
def test_an_answer_of_another_shape_is_a_value_error(body):
    with pytest.raises(ValueError, match=r"not|more than"):
        read_models(body)


JSON = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["models", "name", "x"]), inner),
)


@settings(max_examples=50, deadline=None)
@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_names_or_a_value_error(body):
    try:
        names = read_models(body)
    except ValueError:
        return
    assert all(name.isprintable() and 0 < len(name) <= 256 for name in names)


def test_a_version_is_a_short_text():
    assert read_version(b'{"version": "0.12.3"}') == "0.12.3"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"version": 1}',
        b'{"version": ""}',
        b'{"version": "a\\nb"}',
        json.dumps({"version": "1" * 300}).encode(),
    ],
)
def test_anything_else_is_no_version(body):
    with pytest.raises(ValueError, match="version"):
        read_version(body)


@pytest.mark.parametrize(
    ("wants", "has"),
    [("llama2", "llama2:latest"), ("llama2:latest", "llama2"), ("LLaMA2", "llama2:latest"), ("library/llama2", "llama2"),
     ("registry.ollama.ai/library/llama2:7b", "llama2:7b"), ("hf.co:443/a/b", "hf.co:443/a/b:latest"), ("me/x", "me/x:latest")],
)  # fmt: skip
def test_two_spellings_of_one_name_are_the_same(wants, has):
    assert lacking([wants], [has]) == ()


@pytest.mark.parametrize(
    ("wants", "has"), [("llama2:7b", "llama2:latest"), ("llama2", "me/llama2"), ("llama", "llama2")]
)
def test_another_tag_or_owner_is_another_model(wants, has):
    assert lacking([wants], [has]) == (wants,)


def test_what_is_lacking_is_named_as_written():
    assert lacking(["Llama2", "qwen3:8b"], ["qwen3:8b"]) == ("Llama2",)


@pytest.mark.parametrize(
    "base",
    [
        None,
        OURS,
        "http://localhost:11434/",
        "http://[::1]:11434",
        "localhost:11434",
        "http://127.0.0.1:11434/v1",
        "http://0.0.0.0:11434",
        "http://[::]:11434",
        "http://127.0.1.1:11434",
        "http://LOCALHOST:11434",
        "http://localhost.:11434",
    ],
)
def test_a_model_without_a_base_or_with_ours_asks_ours(base):
    assert known_as(ollama(base=base), OURS) == "llama2"


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:11435", "http://mac-2:11434", "https://127.0.0.1", "http://[::1", "http://x:bad"]
)
def test_a_model_of_another_server_does_not_ask_ours(base):
    assert known_as(ollama(base=base), OURS) is None


def test_wanted_are_the_tags_of_our_ollama_each_once():
    models = [
        ollama(), ollama(), ollama("qwen3:8b"), ollama("far", "http://mac-2:11434"), ollama("faked", mock=True),
        Model("gpt", "openai/gpt"), Model("compat", "openai/phi4", api_base=f"{OURS}/v1"),
        Model("any", "openai/*", api_base=OURS),
    ]  # fmt: skip
    assert wanted(models, OURS) == ("llama2", "qwen3:8b", "phi4")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Model("m", "openai/qwen3:8b", api_base="http://127.0.0.1:11434/v1"), "qwen3:8b"),
        (Model("m", "qwen3:8b", api_base="http://localhost:11434/v1", provider="openai"), "qwen3:8b"),
        (Model("m", "openai/qwen3:8b", api_base="http://0.0.0.0:11434/v1", provider="openai"), "qwen3:8b"),
        (Model("m", "hosted_vllm/me/qwen", api_base="http://127.0.0.1:11434/v1"), "me/qwen"),
        (Model("m", "anthropic/qwen3:8b", api_base="http://127.0.0.1:11434"), "qwen3:8b"),
        (Model("m", "llama2", "llama2", provider="ollama_chat"), "llama2"),
        (Model("m", "*", provider="ollama"), None),
        (Model("m", "openai/gpt", api_base="http://127.0.0.1:8000/v1"), None),
        (Model("m", "openai/gpt"), None),
        (Model("m", "echo/x", custom=True, api_base=OURS), None),
    ],
)
def test_whatever_the_dialect_what_asks_our_ollama_is_its_own(model, name):
    assert known_as(model, OURS) == name
    assert local(model, OURS) is (model.answered_by in ("ollama", "ollama_chat") or name is not None)


def test_a_model_without_an_address_asks_the_usual_one_whatever_ours_is():
    assert known_as(ollama(), "http://127.0.0.1:9999") is None
    assert local(Model("m", "openai/x", api_base="http://localhost:11434/v1"), "http://127.0.0.1:9999")


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_ollamas_own_paths_start_at_the_root(url):
    assert root(url) == "http://h:1"


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("2026-11-25T09:00:00.123456789Z", 1795597200.123456), ("2026-11-25T01:00:00.5-08:00", 1795597200.5),
        ("2318-03-01T00:00:00Z", 10986883200.0), ("0001-01-01T00:00:00Z", None), ("soon", None), (None, None), (7, None),
        ("9999-99-99", None),
    ],
)  # fmt: skip
def test_what_is_loaded_is_read_with_its_time_and_context(expires, moment):
    body = json.dumps({"models": [{"name": "m", "expires_at": expires, "context_length": 4096}]}).encode()
    assert read_loaded(body) == (Loaded("m", moment, 4096),)


@pytest.mark.parametrize("context", [None, "4096", -1, 0, 4.5])
def test_a_context_that_is_no_count_is_not_known(context):
    body = json.dumps({"models": [{"model": "m", "context_length": context}, {"name": 7}]}).encode()
    assert read_loaded(body) == (Loaded("m"),)
