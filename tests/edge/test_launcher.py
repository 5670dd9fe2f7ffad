"""The launcher that a daemon started with is the one it runs, whatever becomes of the package."""

import os
import shutil
import subprocess
import sys
import time

import httpx
import psutil
import pytest

from ccproxy_supervisor.core.model import SpawnError
from ccproxy_supervisor.edge import launcher
from ccproxy_supervisor.edge.launcher import MAIN, NAME, PACKAGE, Launcher
from daemon import ROOT, Daemon, wait_until_gone


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A launcher of our own to spoil."""
    shutil.copytree(PACKAGE, tmp_path / "package")
    monkeypatch.setattr(launcher, "PACKAGE", tmp_path / "package")
    return tmp_path / "package"


def texts(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.py")}


def test_the_copy_is_whole_and_ours_alone(tmp_path):
    folder = os.path.dirname(Launcher(tmp_path / "run")())

    assert texts(PACKAGE) == texts(tmp_path / "run" / os.path.basename(folder))
    assert oct(os.stat(folder).st_mode)[-3:] == "700"
    assert {oct(entry.stat().st_mode)[-3:] for entry in os.scandir(folder)} == {"600"}


def test_what_becomes_of_the_package_changes_nothing(tmp_path, package):
    first = texts(package)
    keep = Launcher(tmp_path / "run")
    (package / MAIN).write_text("raise SystemExit(2)")
    (package / "serve.py").unlink()

    assert texts((tmp_path / "run").joinpath(os.path.basename(os.path.dirname(keep())))) == first


@pytest.mark.parametrize("spoil", [shutil.rmtree, lambda folder: (folder / "serve.py").write_text("broken")])
def test_a_spoiled_copy_is_made_whole_before_it_is_used(tmp_path, spoil):
    keep = Launcher(tmp_path / "run")
    [folder] = [tmp_path / "run" / os.path.basename(os.path.dirname(keep()))]
    spoil(folder)

    keep()
    assert texts(folder) == texts(PACKAGE)


def test_where_nothing_can_be_written_the_original_serves_while_it_is_the_same(tmp_path, package):
    (tmp_path / "run").write_text("no folder")
    keep = Launcher(tmp_path / "run")
    assert keep() == str(package / MAIN)

    (package / MAIN).write_text("raise SystemExit(2)")
    with pytest.raises(SpawnError, match="cannot keep a copy of the launcher in "):
        keep()


def test_a_worker_of_this_home_is_known_by_its_launcher(tmp_path):
    keep = Launcher(tmp_path / "run")
    os.symlink(tmp_path, tmp_path / "alias")

    assert keep.started(["python", keep(), "--number", "1"])
    assert keep.started(["python", str(tmp_path / "alias" / "run" / f"{NAME}earlier" / MAIN)])
    assert not keep.started(["python", f"/elsewhere/run/{NAME}earlier/{MAIN}"])
    assert not keep.started(["tail", str(tmp_path / "run" / f"{NAME}earlier" / "serve.py")])


def test_old_copies_are_removed_but_for_those_in_use(tmp_path, package):
    used = Launcher(tmp_path / "run")()
    (package / "serve.py").write_text("# of another version")
    idle = Launcher(tmp_path / "run")()
    (package / "serve.py").write_text("# of the newest")
    keep = Launcher(tmp_path / "run")
    newest = keep()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", used]) as process:
        while not psutil.Process(process.pid).cmdline():  # for an instant of its exec it has none
            time.sleep(0.001)
        keep.forget_others([process.pid, 2**30])
        process.kill()

    assert [os.path.exists(path) for path in (used, idle, newest)] == [True, False, True]


def test_a_process_that_cannot_be_asked_keeps_every_copy(tmp_path, package, monkeypatch):
    def broken(_):
        raise SystemError("<method 'cmdline'> returned a result with an exception set")  # as on macOS

    old = Launcher(tmp_path / "run")()
    (package / "serve.py").write_text("# newer")
    monkeypatch.setattr(psutil.Process, "cmdline", broken)

    Launcher(tmp_path / "run").forget_others([os.getpid()])
    assert os.path.exists(old)


@pytest.mark.parametrize(
    "spoil", [shutil.rmtree, lambda folder: [f.write_text("broken(") for f in folder.rglob("*.*")]]
)
def test_a_daemon_whose_package_is_changed_under_it_goes_on(tmp_path, spoil):
    shutil.copytree(ROOT / "ccproxy_supervisor", tmp_path / "ccproxy_supervisor")
    with Daemon() as daemon:
        daemon.start(package=tmp_path)
        spoil(tmp_path / "ccproxy_supervisor")
        [pid] = daemon.pids()
        psutil.Process(pid).kill()
        wait_until_gone(pid)
        daemon.until(lambda status: status["status"] == "healthy" and daemon.pids() != [pid])
        assert daemon.get("/").text == str(daemon.pids()[0])

        daemon.change(proxy={"env": {"NEW": "1"}}, health={"interval": "2s"}, logs={"max_size": "1MiB"})
        assert daemon.order("/reload")["result"] == "rolled"
        assert daemon.order("/restart")["result"] == "rolled"
        assert daemon.order("/rotate")["result"]
        assert daemon.get("/").text == str(daemon.pids()[0])
        for page in ("/", "/health", "/status", "/metrics"):
            assert httpx.get(daemon.admin_url + page).status_code == 200
        assert daemon.end() == 0


def test_nothing_is_imported_from_two_folders_above_the_home(tmp_path):
    home = tmp_path / "others" / "home"
    home.mkdir(parents=True)
    (tmp_path / "evil.py").write_text("print('run')")
    attack = "sys.path.insert(0, os.path.abspath('../..'))"  # as LiteLLM does, at its import and later
    code = f"""
import importlib, os, sys
from ccproxy_supervisor.launcher.serve import aside
def attempt():
    {attack}
    importlib.invalidate_caches()
    try:
        import evil
    except ImportError:
        print("not found")
with aside():
    attempt()
attempt()
print(os.getcwd())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["not found", "not found", str(home)]
