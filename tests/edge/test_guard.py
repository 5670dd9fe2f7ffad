"""The public door of a LiteLLM that has a key and no database."""

import sys
from types import SimpleNamespace

import pytest

from ccproxy_supervisor.launcher.guard import OTHER_KEYS, presented, refuses

KEY = "sk-the-key"
PROXY = "litellm.proxy.proxy_server"


@pytest.fixture
def proxy(monkeypatch):
    module = SimpleNamespace(master_key=KEY, general_settings={}, prisma_client=None, user_custom_auth=None)
    monkeypatch.setitem(sys.modules, PROXY, module)
    for name in ("DATABASE_URL", "DIRECT_URL"):
        monkeypatch.delenv(name, raising=False)
    return module


def request(path="/v1/models", method="GET", query="", **headers):
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "query_string": query.encode(), "headers": pairs}


ACCEPTED = [
    {"authorization": f"Bearer {KEY}"},
    {"authorization": f"bearer {KEY}"},
    {"authorization": f"Basic {KEY}"},
    {"authorization": f"AWS4-HMAC-SHA256 Credential=Bearer {KEY}/20261125/eu/bedrock/aws4_request, Signature=x"},
    {"x_api_key": KEY},
    {"api_key": KEY},
    {"x_goog_api_key": KEY},
    {"ocp_apim_subscription_key": KEY},
    {"x_litellm_api_key": KEY},
    {"x_litellm_api_key": f"Bearer {KEY}", "authorization": "Bearer other"},
    {"authorization": f"Bearer {KEY}", "x_api_key": "other"},
    {"authorization": "", "x_api_key": KEY},
]
REFUSED = [
    {"authorization": "Bearer other"},
    {"authorization": f"Bearer {KEY}x"},
    {"authorization": KEY},
    {"authorization": "Bearer "},
    {"x_api_key": "other"},
    {"authorization": "Bearer other", "x_api_key": KEY},
    {"authorization": "Bearer \u00e9\u2603"},
]


@pytest.mark.parametrize("headers", ACCEPTED)
def test_who_brings_the_key_is_let_through(proxy, headers):
    assert refuses(request(**headers)) == ""


@pytest.mark.parametrize("headers", REFUSED)
def test_who_brings_another_is_not(proxy, headers):
    assert refuses(request(**headers)) == "The API key is not valid."


def test_who_brings_none_is_told_so(proxy):
    assert refuses(request()) == "No API key was sent."


def test_the_first_of_two_headers_of_a_name_counts_as_for_litellm():
    twice = request() | {"headers": [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")]}
    assert presented(twice) == b"a"


def test_google_clients_bring_it_in_the_query(proxy):
    path = "/v1beta/models/m:generateContent"
    assert refuses(request(path, "POST", f"alt=sse&key={KEY}")) == ""
    assert refuses(request(path, "POST", f"alt=sse&key={KEY}x"))


OPEN = [
    "/",
    "/health/liveliness",
    "/health/liveness",
    "/health/readiness",
    "/ui",
    "/ui/login/",
    "/openapi.json",
    "/mcp/",
]


@pytest.mark.parametrize("path", OPEN)
def test_what_litellm_leaves_open_stays_so(proxy, path):
    assert refuses(request(path)) == ""


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/health/readiness/details", "/uix", "/health", "//", "/unknown", "/%2e"]
)
def test_all_else_is_guarded(proxy, path):
    assert refuses(request(path))


def test_a_browser_may_ask_what_it_may_do(proxy):
    assert refuses(request("/v1/messages", "OPTIONS")) == ""


@pytest.mark.parametrize("setting", OTHER_KEYS)
def test_where_other_keys_count_litellm_decides(proxy, setting):
    proxy.general_settings = {setting: "something"}
    assert refuses(request()) == ""


def test_with_a_database_litellm_decides(proxy, monkeypatch):
    proxy.prisma_client = object()
    assert refuses(request()) == ""
    proxy.prisma_client = None
    assert refuses(request())
    monkeypatch.setenv("DATABASE_URL", "postgresql://…")  # connected or not
    assert refuses(request()) == ""


def test_without_a_key_it_is_open_to_all(proxy):
    proxy.master_key = None
    assert refuses(request()) == ""
