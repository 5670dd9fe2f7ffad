"""LiteLLM changed under a running daemon: real releases, and releases that are not what they seem."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from ccproxy_supervisor.core.model import SUPERSEDED
from ccproxy_supervisor.deploy import locks, pip
from ccproxy_supervisor.deploy.environments import Environments
from ccproxy_supervisor.deploy.errors import InstallError
from ccproxy_supervisor.deploy.home import FILES
from ccproxy_supervisor.deploy.inspection import inspect
from ccproxy_supervisor.deploy.litellm import install
from ccproxy_supervisor.edge import upgrades
from ccproxy_supervisor.edge.home import Home, packages
from daemon import ROOT, Daemon
from load import Load, question
from real import real, shipped
from wheels import release

pytestmark = pytest.mark.real
OTHER = "1.105.0"  # a real release besides the pinned one
GOOD, BETTER, BROKEN, SICK, EVIL, SLOW, HALF = "9.0.0", "9.1.0", "9.2.0", "9.3.0", "9.4.0", "9.5.0", "9.6.0"
ECHO = "model_list: [{model_name: echo, litellm_params: {model: hosted_vllm/echo, mock_response: hi}}]\n"


def started(folder: Path, words: tuple[str, ...], **environ: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-u", "-m", "ccproxy_supervisor", *words, "--config", str(folder / "supervisor.yaml")]
    return subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environ
    )  # fmt: skip


def typed(daemon: Daemon, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person would; its output is shown when the test fails."""
    with started(daemon.folder, words, **environ) as process:
        out, err = process.communicate(timeout=2400)
    print(out, err)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def linked(daemon: Daemon) -> str:
    return Environments(daemon.folder).current.version


# Real releases.


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture
def pinned(litellm):
    """A daemon on the pinned release, in a home like any other: its environment is its own to change."""
    with real(proxy={"python": "venv/bin/python"}) as daemon:
        daemon.folder.chmod(0o700)
        environment = daemon.folder / "venvs" / upgrades.pinned()
        made = Path(litellm).parent.resolve().parent
        shutil.copytree(made, environment, symlinks=True, copy_function=link_or_copy)
        environments = Environments(daemon.folder)
        environments.switch(environments.find(upgrades.pinned()))
        yield daemon


@pytest.mark.xdist_group("litellm-1")
def test_an_upgrade_and_the_way_back_lose_no_request_and_cut_no_stream(pinned):
    daemon = pinned.start(seconds=120)
    with Load(daemon.port, rate=3, streams=4) as upgrading:
        up = typed(daemon, "upgrade", "--to", OTHER)
        status = daemon.status()
    with Load(daemon.port, rate=3, streams=4) as going_back:
        back = typed(daemon, "rollback")

    assert (up.returncode, back.returncode) == (0, 0)
    assert (upgrading.lost, going_back.lost) == ([], [])
    assert f"\nLiteLLM {upgrades.pinned()} → {OTHER}, " in up.stdout
    assert min(upgrading.streamed, going_back.streamed) >= 4
    assert (status["litellm"], daemon.status()["litellm"]) == (OTHER, upgrades.pinned())
    assert f'litellm="{upgrades.pinned()}"' in daemon.metrics()
    assert {worker["last_ending"]["cause"] for worker in daemon.status()["workers"]} == {"upgrade"}


def beside(daemon, package):
    """The environment that an upgrade would build for *package*, without the ten minutes for all the others."""
    made, new = (daemon.folder / "venvs" / f"{upgrades.pinned()}{more}" for more in ("", "-2"))
    shutil.copytree(made, new, symlinks=True, copy_function=link_or_copy)
    more = locks.from_report(pip.resolve(package, print))
    (new / "more.lock").write_text(more)
    pip.install(new / "bin" / "python", new / "more.lock", print)
    (new / "more.lock").unlink()
    stamp = Environments(daemon.folder).find(upgrades.pinned()).stamp.name
    (new / stamp).unlink()  # a link to the other's
    (new / stamp).write_text(locks.added(locks.shipped(upgrades.pinned()), (package,), more))


@pytest.mark.xdist_group("litellm-1")
def test_a_package_that_an_integration_needs_is_refused_in_words_then_installed_and_used(pinned):
    config = shipped(litellm_settings={"callbacks": ["prometheus"], "require_auth_for_metrics_endpoint": False})
    pinned.write("config.yaml", config)
    checked, started = typed(pinned, "check"), typed(pinned, "run")

    assert (checked.returncode, started.returncode) == (78, 78)
    for told in (checked, started):
        assert "litellm_settings.callbacks[0]: prometheus needs the package prometheus-client" in told.stderr
        assert "add it to proxy.packages and run: ccproxy-supervisor upgrade" in told.stderr

    beside(pinned, "prometheus-client>=0.20,<1")
    pinned.change(proxy={"packages": ["prometheus-client>=0.20,<1"], "workers": 2, "start_timeout": "5m"})
    upgraded = typed(pinned, "upgrade")

    assert upgraded.returncode == 0, upgraded.stderr
    assert re.search(r"prometheus-client +new → 0\.", upgraded.stdout)
    assert Environments(pinned.folder).current.path.name == f"{upgrades.pinned()}-2"
    assert inspect(Environments(pinned.folder).current.path) == []
    assert typed(pinned, "check").returncode == 0
    assert typed(pinned, "upgrade").stdout.endswith(f"LiteLLM {upgrades.pinned()} is in use; nothing to do\n")

    daemon = pinned.start(seconds=300)
    for _ in range(6):
        body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
        assert httpx.post(daemon.url + "/v1/chat/completions", json=body, timeout=60).status_code == 200

    def counted():
        text = daemon.get("/metrics/", timeout=60).text
        found = re.findall(
            r'^litellm_proxy_total_requests_metric_total\{.*requested_model="mock".*\} ([0-9.]+)$', text, re.MULTILINE
        )
        return sum(map(float, found))

    daemon.until(lambda _: counted() == 6, 60)
    assert {counted() for _ in range(6)} == {6}


# Releases of the stub: installed by the real pip, started by the real launcher.


#: Once it is in use, it starts when there is a file `go`.
WAITS = f"""
async def lifespan(receive, send, begin=lifespan):
    while os.readlink("venv").endswith("{SLOW}") and not os.path.exists("go"):
        await asyncio.sleep(0.05)
    await begin(receive, send)
""".encode()
#: Starts twice: as the canary, and for the first of two slots.
FAILS = b"""
async def lifespan(receive, send, begin=lifespan):
    open(f"start-{os.getpid()}", "w").close()
    if sum(name.startswith("start-") for name in os.listdir(".")) > 2:
        await receive()
        return await send({"type": "lifespan.startup.failed", "message": "RuntimeError: one too many"})
    await begin(receive, send)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    server = "litellm/proxy/proxy_server.py"
    stub = (ROOT / "tests" / "stub" / server).read_bytes()
    for version, more in {
        GOOD: {},
        BETTER: {},
        BROKEN: {server: b"raise RuntimeError('no such table: models')\n"},
        SICK: {server: stub.replace(b'200 if model == "echo" else 400', b"500")},
        SLOW: {server: stub + WAITS},
        HALF: {server: stub + FAILS},
        EVIL: {"litellm_init.pth": b"import os; open(os.environ['HOME'] + '/stolen', 'w').close()\n"},
    }.items():
        release(folder, version, more, requires=("uvicorn",))
    return folder


@pytest.fixture
def place(wheels, monkeypatch):
    """A daemon on GOOD; pip finds the other releases, and everything else where it always does."""
    known = os.environ.get("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{known} {wheels}".strip())
    with Daemon("venv/bin/python", ECHO, upgrade={"denied": ["9.9.9"]}) as daemon:
        daemon.folder.chmod(0o700)
        environments = Environments(daemon.folder)
        environments.folder.mkdir()
        lock = locks.from_report(pip.resolve(f"litellm[proxy]=={GOOD}", lambda _: None))
        fill = lambda python, lock: pip.install(python, lock, lambda _: None)  # noqa: E731
        environments.switch(install(environments, GOOD, lock, fill, print))
        yield daemon


@pytest.mark.parametrize(
    ("version", "reason"),
    [(BROKEN, "no such table: models"), (SICK, "model echo does not answer: answered 500")],
)
def test_a_release_that_does_not_serve_leaves_the_old_one_serving(place, version, reason):
    daemon = place.start()
    pids = daemon.pids()
    with Load(daemon.port, path="/v1/chat/completions", ask=question("hi")) as load:
        result = typed(daemon, "upgrade", "--to", version)

    assert result.returncode == 1
    assert f"LiteLLM {version} does not serve" in result.stderr
    assert reason in result.stderr
    assert load.lost == []
    assert daemon.pids() == pids
    assert linked(daemon) == GOOD
    (incident,) = (daemon.folder / "run" / "incidents").glob("*-upgrade.json")
    assert reason in json.loads(incident.read_text())["detail"]
    assert daemon.status()["upgrade"]["last"]["result"] == "failed"
    assert "ccproxy_litellm_upgrade_last_success 0.0" in daemon.metrics()


@pytest.mark.parametrize(("version", "reason"), [(BROKEN, "no such table: models"), (SICK, "answered 500")])
def test_without_a_daemon_the_new_release_is_tried_all_the_same(place, version, reason):
    result = typed(place, "upgrade", "--to", version)

    assert result.returncode == 1
    assert reason in result.stderr
    assert linked(place) == GOOD


def test_without_a_daemon_a_good_release_is_there_for_its_next_start(place):
    assert typed(place, "upgrade", "--to", BETTER).returncode == 0
    assert place.start().status()["litellm"] == BETTER


def test_packages_are_installed_beside_without_losing_a_request_and_gone_back_from(place):
    daemon = place.start()
    daemon.change(proxy={"packages": ["prometheus-client"]})
    with Load(daemon.port, path="/v1/chat/completions", ask=question("hi")) as load:
        up = typed(daemon, "upgrade", "--to", GOOD)
    current = Environments(daemon.folder).current

    assert (up.returncode, load.lost) == (0, [])
    assert (current.path.name, current.packages) == (f"{GOOD}-2", ("prometheus-client",))
    assert "prometheus-client" in packages(current.path)
    assert "prometheus-client==" in current.stamp.read_text()
    assert "--hash=sha256:" in current.stamp.read_text()
    assert typed(daemon, "upgrade", "--to", GOOD).stdout.endswith(f"LiteLLM {GOOD} is in use; nothing to do\n")
    assert typed(daemon, "rollback").returncode == 0
    assert "proxy.packages: prometheus-client is not in LiteLLM's environment yet" in typed(daemon, "check").stdout


def test_a_release_that_runs_code_at_start_is_refused_before_it_runs(place, tmp_path):
    result = typed(place, "upgrade", "--to", EVIL, HOME=str(tmp_path))

    assert result.returncode == 1
    assert f"refused LiteLLM {EVIL}: litellm_init.pth would run code at every start" in result.stderr
    assert not (tmp_path / "stolen").exists()
    assert linked(place) == GOOD
    assert [each.version for each in Environments(place.folder).all()] == [GOOD]


def test_the_evil_release_would_have_run_its_code(wheels, tmp_path):
    """The proof above is one only if that code runs where nobody looks."""
    site = tmp_path / "lib"
    with zipfile.ZipFile(next(wheels.glob(f"litellm-{EVIL}-*"))) as wheel:
        wheel.extractall(site)

    subprocess.run([sys.executable, "-c", f"import site; site.addsitedir({str(site)!r})"],
                   check=True, env=os.environ | {"HOME": str(tmp_path)})  # fmt: skip

    assert (tmp_path / "stolen").exists()


@contextmanager
def index():
    """An empty package index; yields its URL and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_denied_version_is_refused_before_anything_is_downloaded(place):
    with index() as (url, asked):
        only = {"PIP_INDEX_URL": url, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
        for version in ("1.82.7", "1.82.8", "9.9.9"):
            result = typed(place, "upgrade", "--to", version, **only)
            assert result.returncode == 1
            assert f"refused LiteLLM {version}" in result.stderr
        assert asked == []

        assert typed(place, "upgrade", "--to", "9.8.7", **only).returncode == 1
        assert asked == ["/simple/litellm/"]


def test_without_a_network_the_reason_is_clear_and_nothing_is_left(place):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    nowhere |= {"PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_NO_CACHE_DIR": "1"}

    for words in (("--to", BETTER), ()):  # to be resolved; the lock that is shipped
        result = typed(place, "upgrade", *words, **nowhere)
        assert result.returncode == 1
        assert "the package index does not answer; is there a network?" in result.stderr

    assert [each.version for each in Environments(place.folder).all()] == [GOOD]


def test_a_package_that_is_not_the_locked_one_is_not_installed(wheels, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    environments = Environments(tmp_path)
    environments.folder.mkdir()
    fill = lambda python, lock: pip.install(python, lock, lambda _: None)  # noqa: E731

    with pytest.raises(InstallError, match="its hash differs"):
        install(environments, GOOD, f"litellm=={GOOD} --hash=sha256:{'0' * 64}\n", fill, print)

    assert environments.all() == []


def test_an_interpreter_that_vanished_is_named_and_mended(place):
    broken = Environments(place.folder).current
    for python in (broken.path / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/nowhere/Cellar/python3")

    place.start(wait=None)
    assert place.process.wait(120) == 78
    assert "upgrade --repair" in place.last_words()
    repaired = typed(place, "upgrade", "--repair")
    place.start(seconds=120)

    assert repaired.returncode == 0
    assert "which is gone" in repaired.stdout
    assert place.status()["litellm"] == GOOD
    assert not broken.path.exists()


def test_an_interpreter_that_vanished_is_mended_while_its_workers_serve(place):
    daemon = place.start()
    broken = Environments(daemon.folder).current
    (before,) = daemon.pids()
    for python in (broken.path / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/nowhere/Cellar/python3")

    with Load(daemon.port, path="/v1/chat/completions", ask=question("hi")) as load:
        repaired = typed(daemon, "upgrade", "--repair")

    assert repaired.returncode == 0
    assert load.lost == []
    (after,) = daemon.status()["workers"]
    assert after["pid"] != before
    assert after["python"] == f"{daemon.folder.resolve()}/venvs/{GOOD}-2/bin/python"
    assert not broken.path.exists()


def test_a_release_that_fails_in_the_second_slot_leaves_neither_slot(place):
    place.change(proxy={"workers": 2})
    daemon = place.start()

    result = typed(daemon, "upgrade", "--to", HALF)

    assert result.returncode == 1
    assert "one too many" in result.stderr
    assert linked(daemon) == GOOD
    status = daemon.until(lambda status: len(status["workers"]) == 2)
    assert {worker["python"] for worker in status["workers"]} == {f"{daemon.folder.resolve()}/venvs/{GOOD}/bin/python"}
    assert status["status"] == "healthy"


def test_a_reload_during_the_roll_takes_up_the_new_release_with_it(place):
    daemon, told = place.start(), {}
    with started(daemon.folder, ("upgrade", "--to", SLOW)) as process:
        rolling(daemon)
        daemon.change(logs={"level": "debug"})
        reload = threading.Thread(target=lambda: told.update(daemon.order("/reload")))
        reload.start()
        daemon.until(lambda _: any(SUPERSEDED in line.get("detail", "") for line in daemon.log()))
        daemon.write("go", "")
        out, err = process.communicate(timeout=120)
        reload.join()

    assert process.returncode == 0, out + err
    assert told["result"] == "rolled"
    assert daemon.status()["litellm"] == linked(daemon) == SLOW
    assert {each.version for each in Environments(daemon.folder).all()} == {GOOD, SLOW}


def rolling(daemon):
    """Wait until a worker of SLOW is to take over."""
    python = f"{daemon.folder.resolve()}/venvs/{SLOW}/bin/python"
    daemon.until(
        lambda status: (
            linked(daemon) == SLOW
            and any(worker["python"] == python and worker["state"] == "starting" for worker in status["workers"])
        ),
        120,
    )


def test_an_upgrade_that_is_killed_after_the_switch_is_finished_by_the_daemon_and_can_be_undone(place):
    daemon = place.start()
    with started(daemon.folder, ("upgrade", "--to", SLOW)) as process:
        rolling(daemon)
        process.kill()
        assert process.wait() == -signal.SIGKILL

    assert daemon.get("/health/readiness").status_code == 200
    daemon.write("go", "")
    daemon.until(lambda status: status["litellm"] == SLOW and len(status["workers"]) == 1)
    assert typed(daemon, "rollback").returncode == 0
    assert daemon.status()["litellm"] == linked(daemon) == GOOD


@pytest.mark.parametrize("line", ["packages change", "installing", "of 4 packages", "inspecting", "trying it"])
def test_an_upgrade_that_is_killed_leaves_a_home_that_serves_and_can_be_upgraded(place, line):
    daemon = place.start()
    with started(daemon.folder, ("upgrade", "--to", BETTER)) as process:
        assert any(line in said for said in process.stdout), "the line was never said"
        process.kill()
        assert process.wait() == -signal.SIGKILL

    assert httpx.get(f"{daemon.url}/health/readiness", timeout=60).status_code == 200
    assert linked(daemon) == GOOD
    again = typed(daemon, "upgrade", "--to", BETTER)
    assert again.returncode == 0
    assert daemon.status()["litellm"] == BETTER
    assert {each.version for each in Environments(daemon.folder).all()} == {GOOD, BETTER}


def test_the_built_package_carries_locks_advisories_and_the_default_configuration(tmp_path):
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        data = "ccproxy_supervisor/data"
        assert wheel.read(f"{data}/litellm/{upgrades.pinned()}.lock").decode() == locks.shipped(upgrades.pinned())
        for name in FILES:
            assert wheel.read(f"{data}/config/{name}") == (ROOT / "config" / name).read_bytes()
        assert f"{data}/litellm/advisories.yaml" in wheel.namelist()


def test_a_home_is_found_where_init_made_it(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "ccproxy_supervisor", "init", "--no-litellm", str(tmp_path / "h")], check=True, text=True,
        capture_output=True,
    )  # fmt: skip
    checked = Home(tmp_path / "h" / "supervisor.yaml").read_plan(os.environ, sys.executable)

    assert "wrote" in made.stdout
    assert checked.settings.proxy.port == 8081
