"""A supervisor begins anew in its own process, and its workers serve on; a stub in LiteLLM's place."""

import random
import shutil
import signal
import site
import socket
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from ccproxy_supervisor.edge.incidents import read
from daemon import LONG, ROOT, Daemon, enough, follow
from ports import free_ports
from steady import Steady

QUICK = {"interval": "200ms", "timeout": "3s"}


@pytest.fixture
def daemon():
    with Daemon(health=QUICK, proxy={"drain_timeout": "30s"}) as daemon:
        yield daemon


def renewed(daemon, code=0):
    """Order it as a person would; returns what the command says."""
    command = [sys.executable, "-m", "ccproxy_supervisor", "renew", "--config", str(daemon.home.settings_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr + daemon.last_words()
    return done.stdout + done.stderr


def events(daemon, name):
    return [line for line in daemon.log() if line["event"] == name]


@pytest.fixture
def copy(tmp_path):
    """The package in a folder of its own, to be changed under a running daemon."""
    shutil.copytree(ROOT / "ccproxy_supervisor", tmp_path / "ccproxy_supervisor")
    return tmp_path


def change(copy, name, old, new):
    file = copy / "ccproxy_supervisor" / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_process_and_its_workers_stay_the_same(daemon):
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])
    before, lines = (daemon.pids(), daemon.pids("standby")), []
    reader = follow(daemon, lines, LONG)
    said = renewed(daemon)
    enough(daemon)
    reader.join()
    status = daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])

    assert said.startswith("renewed: adopted 2 workers in ")
    assert (status["pid"], (daemon.pids(), daemon.pids("standby"))) == (daemon.process.pid, before)
    assert lines[-1] == "data: [DONE]"
    assert (status["supervisor"]["renewals"], status["supervisor"]["adopted"]) == (1, 2)
    assert "ccproxy_supervisor_renewals_total 1.0" in daemon.metrics()
    assert status["last_incident"] == ""
    assert daemon.end() == 0
    assert daemon.workers() == []


def test_sigusr2_orders_it_too(daemon):
    daemon.start()
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.until(lambda s: s["supervisor"]["renewals"] == 1)

    assert events(daemon, "renewal.ended")[0]["by"] == "SIGUSR2"


def test_a_child_that_is_adopted_is_still_reaped(daemon):
    daemon.change(proxy={"preload": "off"})
    daemon.start()
    (worker,) = daemon.pids()
    renewed(daemon)
    psutil.Process(worker).kill()
    status = daemon.until(lambda s: s["workers"][0]["last_ending"])

    assert status["workers"][0]["last_ending"]["status"] == -9
    assert [child.pid for child in psutil.Process(daemon.process.pid).children() if child.status() == "zombie"] == []


def test_ports_that_changed_are_taken_up_and_a_stream_on_the_old_one_ends_well(daemon):
    daemon.start()
    old, old_admin, lines = daemon.port, daemon.admin_port, []
    reader = follow(daemon, lines, LONG)
    daemon.port, daemon.admin_port = free_ports(2)
    daemon.change(proxy={"port": daemon.port}, admin={"port": daemon.admin_port, "socket": "run/other.sock"})
    refused = daemon.order("/reload")
    assert refused["result"] == "refused"
    assert "ccproxy-supervisor renew" in refused["detail"]
    renewed(daemon)
    assert daemon.get("/").status_code == 200
    assert httpx.get(daemon.admin_url + "/health").status_code == 200
    enough(daemon)
    reader.join()

    assert lines[-1] == "data: [DONE]"
    for port in (old, old_admin):
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < deadline, f"{port} is open"
            time.sleep(0.05)


def test_a_port_that_somebody_has_is_no_reason_to_leave(daemon):
    daemon.start()
    before = daemon.pids()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        daemon.change(proxy={"port": stranger.getsockname()[1]})
        said = renewed(daemon, code=1)

    assert said.startswith("refused: cannot listen on")
    assert daemon.pids() == before


@pytest.mark.parametrize(
    ("name", "old", "new", "why"),
    [
        ("app.py", "STOPPED, STRANDED", "STOPPED = STRANDED =\n, ", "SyntaxError"),
        ("edge/state.py", "import psutil", "import psutil_of_tomorrow as psutil", "psutil_of_tomorrow"),
        ("launcher/orphan.py", "PROTOCOL = 1", "PROTOCOL = 2", "protocol 2, they 1"),
        ("core/settings.py", "proxy: ProxySettings = ProxySettings()", "proxy2: int", "proxy"),
    ],
)
def test_a_program_that_cannot_follow_does_not_follow(daemon, copy, name, old, new, why):
    daemon.start(package=copy)
    before = daemon.pids()
    change(copy, name, old, new)
    said = renewed(daemon, code=1)

    assert said.startswith("refused: ")
    assert why in said
    assert daemon.pids() == before
    assert events(daemon, "renewal.refused")


def test_settings_that_cannot_be_used_are_no_reason_to_leave(daemon):
    daemon.start()
    daemon.write("supervisor.yaml", "proxy: {prot: 1}")

    assert "proxy.prot: unknown key" in renewed(daemon, code=1)
    assert daemon.get("/").status_code == 200


def test_another_version_takes_over_with_its_own_launcher(daemon, copy):
    daemon.start(package=copy)
    (before,) = daemon.pids()
    change(copy, "__init__.py", "__version__ = ", "__version__ = '99.0'  # ")
    change(copy, "launcher/serve.py", "SETTLE = 0.5", "SETTLE = 0.4")
    said = renewed(daemon)

    assert "-> 99.0, adopted 1 worker in " in said
    daemon.until(lambda s: s["version"] == "99.0" and daemon.pids() not in ([], [before]))


@pytest.fixture
def builds(tmp_path):
    """Two builds of the program beside each other, and a link to the first, as `make` leaves them."""
    for name in ("a", "b"):
        build = tmp_path / ".venvs" / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(build)], check=True, timeout=60)
        (packages,) = build.glob("lib/python*/site-packages")
        (packages / "theirs.pth").write_text(site.getsitepackages()[0] + "\n")
        shutil.copytree(ROOT / "ccproxy_supervisor", packages / "ccproxy_supervisor")
        (tmp_path / name).symlink_to(packages)
    (tmp_path / ".venv").symlink_to(".venvs/a")
    return tmp_path


def lead_to(builds, name):
    (builds / ".venv").unlink()
    (builds / ".venv").symlink_to(f".venvs/{name}")


def test_the_link_is_followed_anew(daemon, builds):
    daemon.start(package=builds, python=str(builds / ".venv/bin/python"))
    before, pid = daemon.pids(), daemon.process.pid
    change(builds / "b", "__init__.py", "__version__ = ", "__version__ = '99.0'  # ")
    lead_to(builds, "b")
    said = renewed(daemon)

    assert "-> 99.0, adopted 1 worker" in said
    assert (daemon.status()["pid"], daemon.pids()) == (pid, before)
    assert psutil.Process(pid).environ().get("CCPROXY_STARTED_AS") in (None, str(builds / ".venv/bin/python"))
    lead_to(builds, "a")
    assert "version 99.0 -> " in renewed(daemon)
    assert daemon.pids() == before
    assert not (daemon.home.run / "renewal.json").exists()


BEGINS, TAKES_ON = "    image = Image.this()", "    async def public_socket(self) -> socket.socket:"


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("app.py", BEGINS, "    raise SystemExit(9)"),
        ("app.py", BEGINS, "    raise RuntimeError('in vain')"),
        ("app.py", BEGINS, "    return 9"),
        ("recovery.py", TAKES_ON, TAKES_ON + "\n        raise ValueError('in vain')"),
    ],
)
def test_one_that_ends_before_it_has_taken_over_is_followed_by_the_one_before(daemon, builds, name, line, fault):
    daemon.start(package=builds, python=str(builds / ".venv/bin/python"))
    (before, version), lines = (daemon.pids(), daemon.status()["version"]), []
    reader = follow(daemon, lines, LONG)
    change(builds / "b", "__init__.py", "__version__ = ", "__version__ = '99.0'  # ")
    change(builds / "b", name, line, fault)
    lead_to(builds, "b")
    said = renewed(daemon, code=1)

    assert said.startswith(f"went back to version {version}: version 99.0 did not take over: ")
    enough(daemon)
    reader.join()
    assert lines[-1] == "data: [DONE]"
    status = daemon.status()
    assert (status["pid"], daemon.pids()) == (daemon.process.pid, before)
    assert status["supervisor"]["undone"] in said
    assert events(daemon, "renewal.undone")
    assert "version 99.0 did not take over" in str(read(daemon.home.run / "incidents", 10))
    assert not (daemon.home.run / "renewal.json").exists()


def test_one_that_hangs_is_ended_and_who_is_started_then_is_the_one_before(daemon, builds):
    change(builds / "a", "edge/renewal/back.py", "TAKEOVER = 60", "TAKEOVER = 3")
    daemon.start(package=builds, python=str(builds / ".venv/bin/python"))
    before, version = daemon.pids(), daemon.status()["version"]
    change(builds / "b", "__init__.py", "__version__ = ", "__version__ = '99.0'  # ")
    change(builds / "b", "app.py", BEGINS, "    import time; time.sleep(1000)")
    lead_to(builds, "b")
    assert daemon.order("/renew")["result"] == "renewing"
    assert daemon.process.wait(60) == -signal.SIGALRM
    daemon.start(package=builds, python=str(builds / ".venv/bin/python"))

    status = daemon.status()
    assert (status["version"], daemon.pids()) == (version, before)
    assert "version 99.0 did not take over" in status["supervisor"]["undone"]


def test_one_that_ends_as_soon_as_it_follows_leaves_the_workers_for_the_next_start(daemon, copy):
    daemon.start(package=copy)
    before = daemon.pids()
    change(copy, "app.py", "    image = Image.this()", "    raise SystemExit(9)")
    assert daemon.order("/renew")["result"] == "renewing"
    assert daemon.process.wait(30) == 9
    assert daemon.get("/").text == str(before[0])
    daemon.start()

    assert daemon.pids() == before


def test_renewed_and_killed_at_every_step_nothing_is_lost(daemon):
    """No request, no byte of the log, no process: whether the old image is killed, the new one, or neither."""
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    whole = lambda s: sorted(w["state"] for w in s["workers"]) == ["serving", "standby"]  # noqa: E731
    daemon.until(whole)
    before, moments = {*daemon.pids(), *daemon.pids("standby")}, random.Random(5)
    with Steady(daemon.port) as steady:
        for _ in range(8):
            daemon.process.send_signal(signal.SIGUSR2)
            time.sleep(2.5 * moments.random())
            if moments.random() < 0.7:
                daemon.process.kill()
                daemon.process.wait()
                daemon.start(wait=None)
            daemon.until(whole, 60)
    assert {*daemon.pids(), *daemon.pids("standby")} == before
    assert daemon.end() == 0

    assert steady.lost == []
    printed = (daemon.folder / "logs" / "stdout.log").read_text().splitlines()
    assert printed == [f"number {number:06d}" for number in range(steady.said)]
    assert daemon.workers() == []


@pytest.mark.parametrize("after", [0, 0.1, 0.25, 0.4, 0.6])
def test_a_stop_is_not_lost_between_two_images(daemon, after):
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])
    daemon.process.send_signal(signal.SIGUSR2)
    daemon.until(lambda _: events(daemon, "renewal.ordered"))
    time.sleep(after)
    daemon.process.send_signal(signal.SIGTERM)

    assert daemon.process.wait(60) == 0
    assert daemon.workers() == []
