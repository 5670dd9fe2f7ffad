"""What LiteLLM would drop, by rules as they are read from its source; tests/e2e/test_losses.py asks LiteLLM itself."""

from __future__ import annotations

import json

import pytest

from ccproxy_supervisor.core.litellm import parse_litellm
from ccproxy_supervisor.core.rules import rules
from ccproxy_supervisor.core.served import dropped

ROUTER = '''
class CredentialLiteLLMParams(LiteLLMBaseModel):
    api_key: str | None = None
    api_base: Optional[str] = None
    api_version: str | None = None
    vertex_credentials: Union[str, dict, None] = None

class GenericLiteLLMParams(CredentialLiteLLMParams, Unknown):
    """
    With words.
    """

    custom_llm_provider: str | None = None
    rpm: int | None = None
    timeout: float | str | httpx.Timeout | None = None
    stream_timeout: float | str | None = None
    max_budget: float | None = None
    use_in_pass_through: bool | None = False
    tags: list[str] | None = None
    drop_params: bool | None = None

    @field_validator("drop_params", mode="before")
    @classmethod
    def coerce(cls, value):
        return None

class LiteLLM_Params(GenericLiteLLMParams):
    model: str
    mode: Literal["a"] | None = None

class Other(Base):
    api_key: int
'''
UTILS = 'class LlmProviders(str, Enum):\n    OPENAI = "openai"\n    OLLAMA = "ollama"  # ours\n    BEDROCK = "bedrock"\n\nLater = 1\n'
PACKAGE = '_custom_logger_compatible_callbacks_literal = Literal[\n    "langfuse",\n    "dotprompt",\n]\n'
COSTS = json.dumps(
    {
        "gpt-4o": {"mode": "chat"},
        "fallback_generalizations": {
            "rules": [{"pattern": "^claude-[a-z]+-\\d+$", "model_info": {}}, {"pattern": "("}]
        },
    }
)
RULES = rules((ROUTER, UTILS), '{"publicai": {}}', PACKAGE, lambda: COSTS)


def lost(params, info="{}", env=(), more="", known=RULES):
    text = f"model_list:\n- model_name: m\n  litellm_params:\n    {params}\n  model_info: {info}\n{more}"
    config = parse_litellm(text, dict(env), rules=known)
    return [str(fault).removeprefix("config.yaml:") for _, fault in config.dropped]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ("api_version: 2024-06-01", "api_version: must be text, not a date; put it in quotes"),
        ("api_key: 12345", "api_key: must be text, not a number; put it in quotes"),
        ("api_key: yes", "api_key: must be text, not true or false; put it in quotes"),
        ("api_base: {a: 1}", "api_base: must be text, not a mapping"),
        ("rpm: many", "rpm: must be a whole number, not a word"),
        ("rpm: 6.5", "rpm: must be a whole number, not a number"),
        ("max_budget: lots", "max_budget: must be a number, not a word"),
        ("use_in_pass_through: maybe", "use_in_pass_through: must be true or false, not a word"),
        ("tags: free", "tags: must be a list, not a word"),
        ("vertex_credentials: [a]", "vertex_credentials: must be text or a mapping, not a list"),
        ("stream_timeout: [1]", "stream_timeout: must be text or a number, not a list"),
    ],
)
def test_a_field_of_the_wrong_kind_costs_the_model_its_place(params, told):
    assert lost(f"model: openai/x\n    {params}") == [f"5: model_list[0].litellm_params.{told}"]


@pytest.mark.parametrize(
    "params",
    [
        "api_key: null", 'rpm: "6"', "rpm: 6.0", "rpm: true", 'max_budget: "0.5"', "max_budget: 1", "use_in_pass_through: 'yes'",
        "use_in_pass_through: 1", "timeout: [1]", "drop_params: [1]", "mode: 5", "unknown: {a: 1}", "api_key: os.environ/K",
        "vertex_credentials: {a: 1}", "organization: [a, b]",
    ],
)  # fmt: skip
def test_what_pydantic_converts_and_what_is_not_known_is_left_alone(params):
    assert lost(f"model: openai/x\n    {params}", env={"K": "1"}) == []


def test_a_reference_is_judged_by_what_it_stands_for():
    assert lost("model: openai/x\n    rpm: os.environ/R", env={"R": "6"}) == []
    assert lost("model: openai/x\n    rpm: os.environ/R", env={"R": "x"}) == [
        "5: model_list[0].litellm_params.rpm: must be a whole number, not a word"
    ]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ("model: opnai/gpt-4o", "LiteLLM knows no provider opnai; did you mean openai?"),
        ("model: nobody/gpt-4o", "LiteLLM knows no provider nobody"),
        ("model: my-llama", "LiteLLM does not know whose model that is; write provider/model, such as openai/my-llama"),
        ("model: gpt-4o\n    custom_llm_provider: opnai", "LiteLLM knows no provider opnai; did you mean openai?"),
        (
            'model: opnai/x\n    api_base: "http://127.0.0.1:1/v1"',
            "LiteLLM knows no provider opnai; did you mean openai?",
        ),
    ],
)
def test_a_model_of_nobody_is_told_with_what_was_meant(params, told):
    assert lost(params) == [f"4: model_list[0].litellm_params.model: {told}"]


@pytest.mark.parametrize(
    "params",
    [
        "model: openai/anything", "model: publicai/x", "model: dotprompt/x", "model: gpt-4o", "model: claude-sonnet-9", 'model: "*"',
        "model: ft:gpt-4o:me", "model: x\n    custom_llm_provider: openai", "model: openai/x\n    custom_llm_provider: openai",
        "model: llama\n    api_base: https://api.groq.com/openai/v1", f"model: meta/llama:{'0' * 64}", "model: mine/x",
    ],
)  # fmt: skip
def test_what_litellm_finds_a_provider_for_is_not_lost(params):
    more = "litellm_settings: {custom_provider_map: [{provider: mine, custom_handler: mine.handler}]}\n"

    assert lost(params, more=more) == []


def test_an_entry_for_certain_environments_needs_to_be_told_which_this_is():
    params, info = "model: openai/x", "{supported_environments: [production]}"

    assert lost(params, info) == [
        "5: model_list[0].model_info.supported_environments: needs LITELLM_ENVIRONMENT, which is not set; set it in proxy.env"
    ]
    assert lost(params, info, {"LITELLM_ENVIRONMENT": "staging"}) == []
    text = f"model_list: [{{model_name: m, litellm_params: {{{params}}}, model_info: {info}}}]"
    assert parse_litellm(text, {"LITELLM_ENVIRONMENT": "staging"}).expected == ()
    assert parse_litellm(text, {"LITELLM_ENVIRONMENT": "production"}).expected == (("m", 1),)


@pytest.mark.parametrize(
    "known",
    [
        rules(("", ""), "{}", "", lambda: COSTS),
        rules((ROUTER, ""), "[", PACKAGE, lambda: COSTS),
        rules(("class LiteLLM_Params(X):\n    broken broken\n", UTILS), '{"a": 1}', PACKAGE, lambda: ""),
    ],
)
def test_sources_of_another_shape_judge_nobody(known):
    assert lost("model: opnai/x", known=known) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"deployments": {"a": 1, "b": 2, "*": 1}, "dropped": {}}, {}),
        ({"deployments": {"a": 1, "b": 1}, "dropped": {"b": "no\x1b[2J way"}}, {"b": "1 of 2 deployments: no[2J way", "*": "it does not say why"}),
        ({"deployments": {"a": "x", "b": 5, "*": 1}, "dropped": {"a": "w" * 999}}, {"a": "w" * 300}),
    ],
)  # fmt: skip
def test_a_worker_is_held_against_the_names_and_their_number(said, told):
    assert dropped({"a": 1, "b": 2, "*": 1}, json.dumps(said).encode()) == told


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"deployments": 5, "dropped": {}}', b"[" * 100_000])
def test_a_worker_that_says_nothing_sensible_is_not_judged(said):
    assert dropped({"a": 1}, said) == {}
