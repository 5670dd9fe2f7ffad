"""Real LiteLLM that demands its key, and workers that print every secret they have."""

import os
import re
import subprocess
import time

import httpx
import psutil
import pytest

from load import Load, question
from real import shipped, typed

pytestmark = pytest.mark.real
UPSTREAM = "upstream-" + os.urandom(16).hex()
LITELLM = shipped(
    {
        "model_name": "nowhere",
        "litellm_params": {
            "model": "hosted_vllm/x",
            "api_base": "http://127.0.0.1:9",
            "api_key": "os.environ/UPSTREAM_KEY",
        },
    },
    general_settings={"master_key": "os.environ/LITELLM_MASTER_KEY"},
)
SETTINGS = {
    "proxy": {
        "auth": "master-key",
        "env_file": "secrets.env",
        "env": {"LITELLM_LOG": "DEBUG", "LITELLM_DISABLE_REDACT_SECRETS": "true"},
    },
    "models": {"interval": "2s"},
}


@pytest.fixture(scope="module")
def house(house):
    secrets = house.folder / "secrets.env"
    secrets.touch(mode=0o600)
    secrets.write_text(f"UPSTREAM_KEY={UPSTREAM}\n")
    return house


@pytest.fixture
def key(daemon):
    file = daemon.folder / "master.key"
    assert oct(file.stat().st_mode)[-3:] == "600"
    return file.read_text().strip()


def ask(daemon, key=None, content="hi", model="actor"):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(daemon.url + "/v1/messages", json=question(content, model), headers=headers, timeout=60)


def everything_written(daemon):
    return (
        b"".join(path.read_bytes() for path in daemon.folder.rglob("*.log*"))
        + (daemon.folder / "run" / "state.json").read_bytes()
    )


def told(daemon, name):
    """Count the secrets told to a log, and hidden."""
    return (daemon.folder / "logs" / f"{name}.log").read_text().count("told: ***\n")


def test_only_who_has_the_key_is_served(daemon, key):
    assert ask(daemon, key).status_code == 200
    for wrong in (None, key + "x", "sk-1234"):
        refused = ask(daemon, wrong)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (401, "false")
        assert refused.json()["error"]["type"] == "authentication_error"
    assert daemon.get("/v1/models").json()["error"]["code"] == "invalid_api_key"
    assert "Traceback" not in (daemon.folder / "logs" / "stderr.log").read_text()
    with Load(daemon.port, key=key, rate=10, streams=1) as load:
        time.sleep(0.5)
    assert load.lost == []


HEADERS = ["x-api-key", "x-litellm-api-key", "api-key", "x-goog-api-key", "Ocp-Apim-Subscription-Key"]


@pytest.mark.parametrize("name", HEADERS)
def test_the_key_is_taken_as_litellm_takes_it(daemon, key, name):
    assert daemon.get("/v1/models", headers={name: key}).status_code == 200
    assert daemon.get("/v1/models", headers={name: key + "x"}).status_code == 401
    both = daemon.get("/v1/models", headers={name: key, "Authorization": "Bearer sk-other"})
    assert both.status_code == (200 if name == "x-litellm-api-key" else 401)


def test_what_litellm_leaves_open_is_open(daemon):
    """And nothing else is: what it says itself to who has no key, it says on the private socket."""
    uds = httpx.HTTPTransport(uds=str(daemon.home.socket(daemon.status()["workers"][0]["worker"])))
    with httpx.Client(transport=uds, base_url="http://w", timeout=60) as inside:
        for path in (
            "/",
            "/health/liveliness",
            "/health/readiness",
            "/ui/",
            "/routes",
            "/public/providers",
            "/nowhere",
        ):
            own, ours = inside.get(path).status_code, daemon.get(path, timeout=60).status_code
            assert (path, ours) == (path, 401 if path == "/nowhere" else own)
        for path in ("/v1/models", "/health?model=echo", "/model/info", "/key/list", "/metrics"):
            assert inside.get(path).status_code in (400, 401, 500)
            assert (path, daemon.get(path).status_code) == (path, 401)


def test_health_costs_nothing_and_needs_no_key(daemon):
    answer = daemon.get("/health")
    assert answer.json()["models"] == httpx.get(daemon.admin_url + "/health").json()["models"] != []
    assert {"status", "uptime"} < set(answer.json())
    assert answer.elapsed.total_seconds() < 5


def test_ps_finds_the_workers(daemon):
    shown = subprocess.run(["ps", "axww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    found = [int(line.split()[0]) for line in shown.splitlines() if "litellm" in line and str(daemon.folder) in line]
    assert set(daemon.pids()) <= set(found)


def test_the_probes_have_the_key(daemon):
    well = {"actor": True, "echo": True, "mock": True, "claude-*": True, "nowhere": False}
    daemon.until(lambda s: {m["name"]: m["healthy"] for m in s["models"]} == well)


def test_what_a_model_prints_is_in_the_logs_without_the_secrets(daemon, key):
    """LiteLLM itself is told to say all it can: at this level it prints the keys of its models."""
    for name in ("UPSTREAM_KEY", "LITELLM_MASTER_KEY"):
        assert ask(daemon, key, f"tell {name}").status_code == 200
    assert ask(daemon, key, model="nowhere").status_code == 500

    daemon.until(lambda _: (told(daemon, "stdout"), told(daemon, "stderr")) == (2, 2))
    daemon.until(lambda _: "'api_key': '***'" in (daemon.folder / "logs" / "litellm.log").read_text())
    assert key.encode() not in everything_written(daemon)
    assert UPSTREAM.encode() not in everything_written(daemon)


def test_no_page_no_command_line_and_no_command_shows_them(daemon, key):
    processes = [daemon.process.pid, *daemon.pids()]
    shown = [" ".join(psutil.Process(pid).cmdline()) for pid in processes]
    shown += [httpx.get(daemon.admin_url + path).text for path in ("/", "/status", "/health", "/metrics")]
    shown += [str(daemon.status()), daemon.last_words()]
    for words in (["status", "--json"], ["check"], ["why"], ["doctor"], ["logs"]):
        done = typed(daemon, *words)
        shown += [done.stdout, done.stderr]

    assert not [text for text in shown if key in text or UPSTREAM in text]
    assert all(shown[:6])


def test_a_reload_with_another_secret_hides_both(daemon, key):
    other = "other-" + os.urandom(16).hex()
    (daemon.folder / "secrets.env").write_text(f"UPSTREAM_KEY={other}\n")
    report, before = daemon.order("/reload"), told(daemon, "stderr")
    assert ask(daemon, key, "tell UPSTREAM_KEY").status_code == 200

    assert report["result"] == "rolled"
    assert not re.search(f"{other}|{UPSTREAM}", str(report))
    daemon.until(lambda _: told(daemon, "stderr") == before + 1)
    assert other.encode() not in everything_written(daemon)
    assert UPSTREAM.encode() not in everything_written(daemon)
