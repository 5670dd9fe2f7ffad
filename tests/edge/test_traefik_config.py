import os
import plistlib
import re
import stat
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ccproxy_supervisor.cli.gateway import token as token_command
from ccproxy_supervisor.cli.gateway import traefik as traefik_command
from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.settings import Settings, parse
from ccproxy_supervisor.deploy.tokens import Ledger, load
from ccproxy_supervisor.deploy.traefik import KEY_HEADERS, document, render

NOW = "2026-11-23T08:00:00Z"
ALICE, BOB = "alice-_" + "a" * 36, "bob0" + "B" * 39
LEDGER = Ledger().add("alice", NOW, ALICE).add("bob", NOW, BOB)
STATIC = Path(__file__).parents[2] / "config" / "traefik" / "traefik.yaml"


def matches(rule: str, path: str, headers: dict[str, str], method: str = "POST") -> bool:
    """Judge a request by a rule, with Python's regular expressions in the place of Go's."""
    calls = {
        "PathPrefix": path.startswith,
        "Path": path.__eq__,
        "Method": method.__eq__,
        "PathRegexp": lambda pattern: bool(re.search(pattern, path)),
        "Header": lambda name, value: headers.get(name) == value,
        "HeaderRegexp": lambda name, pattern: bool(re.search(pattern, headers.get(name, "\0"))),
    }
    python = re.sub(r"`([^`]*)`", lambda text: repr(text[1]), rule).replace("&&", "and").replace("||", "or")
    return bool(eval(python, {"__builtins__": {}}, calls))


def router(
    path: str, headers: dict[str, str], settings: Settings | None = None, ledger: Ledger = LEDGER, method: str = "POST"
) -> str:
    routers = document(settings or Settings(), ledger, None)["routers"]
    hits = [name for name, told in routers.items() if matches(told["rule"], path, headers, method)]
    return max(hits, key=lambda name: routers[name]["priority"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/responses/resp_bGl0ZWxsbQ==",
        "/responses/resp_68/input_items",
        "/v1/responses/resp_68/cancel",
        "/v1/models",
        "/v1/models/llama3.2:1b",
        "/chat/completions",
    ],
)
def test_a_client_reaches_what_its_api_offers(path):
    assert router(path, {"Authorization": f"Bearer {ALICE}"}) == "client-alice"
    assert router(path, {"X-Api-Key": BOB}) == "client-bob"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/key/generate",
        "/model/new",
        "/config/update",
        "/ui/",
        "/v1/messages/batches",
        "/v1/messages/",
        "/x/v1/messages",
        "/v1/models/../../key/generate",
        "/v1/messagesX",
        "/v1/responses/",
        "/v1/responses/resp_68/else",
        "/v1/responses/../key/generate",
        "/V1/messages",
        "/health/liveliness",
        "/metrics",
    ],
)
def test_no_token_opens_what_administers_litellm(path):
    assert router(path, {"Authorization": f"Bearer {ALICE}"}) == "other-alice"
    assert router(path, {"Authorization": f"Bearer {ALICE}x"}) == "ccproxy-deny"


def test_the_settings_may_offer_more_paths():
    settings = parse("traefik: {paths: [/v1/images/generations, /v1/audio/*]}")
    alice = {"X-Api-Key": ALICE}
    for path in ("/v1/images/generations", "/v1/audio/speech", "/v1/audio/a/b", "/v1/messages"):
        assert router(path, alice, settings) == "client-alice"
    for path in ("/v1/images/generations/x", "/v1/images", "/v1/audio", "/v1/audiox", "/v1/imagesXgenerations"):
        assert router(path, alice, settings) == "other-alice"


@pytest.mark.parametrize(
    "path", ["v1/x", "/", "/v1/", "/v1/(a|b)", "/v1/*/x", "/v1/../key", "/v1/.x", "/*", "/a b", "/a`b"]
)
def test_a_path_that_is_none_is_no_setting(path):
    with pytest.raises(ConfigError, match="must be a path such as /v1/images/generations"):
        parse(yaml.safe_dump({"traefik": {"paths": [path]}}))


def test_whether_there_is_anybody_may_be_asked_by_everybody():
    assert router("/", {}, method="HEAD") == "ccproxy-hello"
    assert router("/", {}, method="GET") == "ccproxy-deny"
    assert router("/v1/models", {}, method="HEAD") == "ccproxy-deny"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {ALICE}x"},
        {"Authorization": f"Bearer {ALICE[:-1]}"},
        {"Authorization": f"Bearer {ALICE.upper()}"},
        {"Authorization": f"xBearer {ALICE}"},
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": ALICE},
        {"Authorization": f"Bearer {ALICE} {BOB}"},
        {"Authorization": "Bearer .*"},
        {"X-Api-Key": f"{ALICE}x"},
        {"X-Api-Key": ".*"},
        {"Api-Key": ALICE},
    ],
)
def test_anything_but_a_whole_token_is_denied(headers):
    assert router("/v1/messages", headers) == "ccproxy-deny"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_as_one_likes(scheme):
    assert router("/v1/messages", {"Authorization": f"{scheme} {ALICE}"}) == "client-alice"


def test_without_tokens_everything_is_denied_and_the_file_is_not_empty():
    told = yaml.safe_load(render(Settings(), Ledger(), None))["http"]

    assert list(told["routers"]) == ["ccproxy-hello", "ccproxy-deny"]
    words = ["ccproxy-challenge", "ccproxy-final", "ccproxy-words", "ccproxy-deny"]
    assert told["routers"]["ccproxy-deny"]["middlewares"] == words
    assert told["middlewares"]["ccproxy-deny"]["ipAllowList"]["rejectStatusCode"] == 401
    assert told["services"]["ccproxy-nobody"]["loadBalancer"]["servers"] == [{"url": "http://127.0.0.1:1"}]


@pytest.mark.parametrize(("key", "sent"), [("sk-litellm", "Bearer sk-litellm"), (None, "")])
def test_the_key_of_a_client_goes_no_further(key, sent):
    told = document(Settings(), LEDGER, key)["middlewares"]["ccproxy-credentials"]["headers"]["customRequestHeaders"]

    assert told == dict.fromkeys(KEY_HEADERS, "") | {"Authorization": sent}
    assert {"Authorization", "X-Api-Key"} <= set(KEY_HEADERS)


def test_nothing_that_may_have_been_acted_on_is_repeated():
    told = document(Settings(), LEDGER, None)["middlewares"]["ccproxy-retry"]["retry"]

    assert set(told) == {"attempts", "initialInterval"}  # not `status`, not `retryNonIdempotentMethod`


def test_the_only_server_is_never_taken_out():
    balancer = document(Settings(), LEDGER, None)["services"]["ccproxy"]["loadBalancer"]

    assert balancer["servers"] == [{"url": "http://127.0.0.1:8081"}]
    assert not {"healthCheck", "passiveHealthCheck"} & set(balancer)


def test_answers_may_take_for_ever_and_no_connection_is_used_twice():
    told = document(Settings(), LEDGER, None)

    assert told["serversTransports"]["ccproxy"]["maxIdleConnsPerHost"] == -1
    assert told["serversTransports"]["ccproxy"]["forwardingTimeouts"]["responseHeaderTimeout"] == "0s"
    assert told["services"]["ccproxy"]["loadBalancer"]["responseForwarding"]["flushInterval"] == "100ms"
    assert not [name for name, what in told["middlewares"].items() if "buffering" in what]


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]"), ("localhost", "localhost")]
)
def test_the_address_that_is_listened_on_is_dialled_as_one_can(host, url):
    settings = parse(f"proxy: {{host: '{host}', port: 9000, allow_remote: true, auth: master-key}}")

    servers = document(settings, LEDGER, "sk-x")["services"]["ccproxy"]["loadBalancer"]["servers"]

    assert servers == [{"url": f"http://{url}:9000"}]


def test_every_part_that_is_named_is_there():
    fleet = parse("fleet: [{host: a.local}, {host: b.local}]")
    for settings in (Settings(), fleet):
        for ledger in (Ledger(), LEDGER, LEDGER.add("fleet", NOW)):
            told = document(settings, ledger, None)
            named = {name for r in told["routers"].values() for name in r.get("middlewares", ())}
            served = {r["service"] for r in told["routers"].values()}
            assert named <= set(told["middlewares"])
            assert served <= set(told["services"])
            assert {s["loadBalancer"]["serversTransport"] for s in told["services"].values()} == set(
                told["serversTransports"]
            )


def hollow(value: object) -> bool:
    """Whether there is an empty mapping or list in it; Traefik refuses a file for one."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value in ({}, []) or any(hollow(part) for part in inside)


def test_nothing_in_the_file_is_empty():
    fleet = parse("fleet: [{host: a.local}, {host: b.local}]")

    for settings in (Settings(), fleet):
        for ledger in (Ledger(), LEDGER, LEDGER.add("fleet", NOW)):
            for key in ("sk-litellm", None):
                assert not hollow(document(settings, ledger, key))


def test_the_static_file_offers_what_the_dynamic_one_uses_and_shows_no_secrets():
    static = yaml.safe_load(STATIC.read_text())

    assert set(Ledger().entry_points) <= set(static["entryPoints"])
    assert all(point["address"].startswith("127.0.0.1:") for point in static["entryPoints"].values())
    assert static["providers"]["file"]["watch"] is True
    assert "api" not in static
    assert "headers" not in static["accessLog"]["fields"]
    assert {"RouterName", "DownstreamStatus"} <= set(static["accessLog"]["fields"]["names"])
    assert static["entryPoints"]["web"]["transport"]["respondingTimeouts"]["writeTimeout"] == "0s"


def test_traefik_as_a_service_starts_the_static_file_and_shows_its_log_to_nobody_else():
    told = plistlib.loads((STATIC.parent / "com.visiquate.traefik.plist").read_bytes())

    assert told["ProgramArguments"][-1] == f"--configFile={STATIC.name}"
    assert Path(told["WorkingDirectory"]).name == "traefik"
    assert told["Umask"] == 0o077


# The commands.


@pytest.fixture
def home(tmp_path):
    (tmp_path / "supervisor.yaml").write_text("proxy: {auth: master-key}\n")
    return tmp_path


def say(command, home, *words, code=0, **more):
    done = CliRunner().invoke(command, [*words, "--config", str(home / "supervisor.yaml")], **more)
    assert done.exit_code == code, done.output
    return done


def test_a_token_is_shown_once_and_in_force_at_once(home):
    made = say(token_command, home, "add", "alice")

    secret = made.stdout.strip()
    assert len(secret) == 43
    assert secret not in made.stderr
    written = home / "traefik" / "dynamic.yaml"
    assert secret in written.read_text()
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "tokens.json").stat().st_mode) == 0o600
    listed = say(token_command, home, "list").output + say(token_command, home, "list", "--json").output
    assert "alice" in listed
    assert secret not in listed


def test_a_revoked_token_is_in_no_file(home):
    secret = say(token_command, home, "add", "alice").stdout.strip()
    say(token_command, home, "add", "bob")

    say(token_command, home, "revoke", "alice")

    left = "".join(path.read_text() for path in home.rglob("*") if path.is_file())
    assert secret not in left
    assert "client-bob" in left


def test_a_token_from_standard_input_is_not_printed(home):
    made = say(token_command, home, "add", "fleet", "--stdin", input=ALICE + "\n")

    assert ALICE not in made.output
    assert load(home / "tokens.json").tokens[0].secret == ALICE


def test_an_empty_standard_input_makes_no_token(home):
    made = say(token_command, home, "add", "fleet", "--stdin", input="", code=1)

    assert "32 to 256" in made.stderr
    assert load(home / "tokens.json") == Ledger()


def test_the_file_that_was_chosen_is_the_one_that_is_rewritten(home, tmp_path):
    chosen = tmp_path / "elsewhere" / "ccproxy.yaml"
    say(traefik_command, home, "--output", str(chosen), "--entry-point", "secure")

    say(token_command, home, "add", "alice")

    assert yaml.safe_load(chosen.read_text())["http"]["routers"]["client-alice"]["entryPoints"] == ["secure"]
    assert not (home / "traefik").exists()


def test_printing_writes_nothing(home):
    told = say(traefik_command, home, "--output", "-").stdout

    assert yaml.safe_load(told)["http"]["routers"]
    assert not (home / "traefik").exists()


def test_check_tells_whether_the_file_is_what_it_should_be(home):
    say(traefik_command, home, "--check", code=78)  # not there
    say(traefik_command, home)
    say(traefik_command, home, "--check")

    (home / "supervisor.yaml").write_text("proxy: {auth: master-key, port: 9000}\n")
    assert "out of date" in say(traefik_command, home, "--check", code=1).stderr

    say(traefik_command, home)
    (home / "traefik" / "dynamic.yaml").chmod(0o644)
    assert "chmod 600" in say(traefik_command, home, "--check", code=78).stderr


def test_the_key_of_the_env_file_counts_before_the_generated_one(home):
    (home / "secrets.env").write_text("LITELLM_MASTER_KEY=sk-of-the-operator-0123456789\n")
    (home / "secrets.env").chmod(0o600)
    (home / "supervisor.yaml").write_text("proxy: {auth: master-key, env_file: secrets.env}\n")

    told = say(traefik_command, home, "--output", "-").stdout

    assert "Bearer sk-of-the-operator-0123456789" in told
    assert not (home / "master.key").exists()


def test_bad_settings_change_nothing(home):
    say(token_command, home, "add", "alice")
    before = (home / "traefik" / "dynamic.yaml").read_text()
    (home / "supervisor.yaml").write_text("proxy: {prot: 1}\n")

    assert "did you mean proxy.port" in say(token_command, home, "revoke", "alice", code=78).stderr
    assert (home / "traefik" / "dynamic.yaml").read_text() == before


def test_a_file_that_cannot_be_written_leaves_the_command_to_be_repeated(home):
    say(token_command, home, "add", "alice")
    os.replace(home / "traefik" / "dynamic.yaml", home / "kept.yaml")
    (home / "traefik" / "dynamic.yaml").mkdir()

    say(token_command, home, "revoke", "alice", code=1)
    (home / "traefik" / "dynamic.yaml").rmdir()
    say(token_command, home, "revoke", "alice")

    assert load(home / "tokens.json").tokens == ()


def test_the_targets_of_prometheus_are_readable_for_it(home, tmp_path):
    say(traefik_command, home, "--prometheus-targets", str(tmp_path / "t.json"))

    assert stat.S_IMODE((tmp_path / "t.json").stat().st_mode) == 0o644


def test_the_workers_are_told_who_asks_and_a_client_cannot_say_so_itself():
    told = document(Settings(), LEDGER, None)
    for token in LEDGER.tokens:
        names = told["routers"][f"client-{token.name}"]["middlewares"]
        said = [told["middlewares"][name].get("headers", {}).get("customRequestHeaders", {}) for name in names]
        assert [headers["X-CCProxy-Client"] for headers in said if "X-CCProxy-Client" in headers] == [token.name]
