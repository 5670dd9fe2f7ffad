"""A daemon, and its workers, whatever the parent left them: ignored and blocked signals, closed descriptors."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ccproxy_supervisor import __version__
from daemon import ROOT, Daemon, wait_until_gone

HOSTILE = """
import os, signal, sys
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for fd in sys.argv[1].split(","):
    os.close(int(fd))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.fixture
def daemon():
    with Daemon(health={"interval": "200ms", "timeout": "3s"}) as daemon:
        yield daemon


def hostile(closed, *words):
    return [sys.executable, "-c", HOSTILE, closed, *words]


def run(daemon, closed):
    words = ("-W", "error", "-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file))
    daemon.process = subprocess.Popen(hostile(closed, *words), cwd=ROOT)
    daemon.until(lambda status: status["status"] == "healthy", 60)


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1,2"])
def test_a_daemon_started_by_a_hostile_parent_does_all_its_work(daemon, closed):
    run(daemon, closed)
    [pid] = daemon.pids()
    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    status = daemon.until(lambda status: status["status"] == "healthy" and daemon.pids() not in ([], [pid]))
    assert status["workers"][0]["last_ending"]["status"] == -signal.SIGKILL  # and not unknown, without SIGCHLD

    assert daemon.get("/print?line=hello").status_code == 200
    daemon.until(lambda _: "hello" in (daemon.folder / "logs" / "stdout.log").read_text())
    assert daemon.order("/restart")["result"] == "rolled"
    [pid] = daemon.pids()
    assert daemon.end() == 0
    wait_until_gone(pid)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux shows them")
def test_a_worker_hears_every_signal_again(daemon):
    run(daemon, "0")
    facts = dict(line.split(":\t") for line in Path(f"/proc/{daemon.pids()[0]}/status").read_text().splitlines())
    ignored = {number for number in range(1, 32) if int(facts["SigIgn"], 16) >> (number - 1) & 1}
    assert int(facts["SigBlk"], 16) == 0
    assert ignored <= {
        getattr(signal, name)
        for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")
    }


def test_a_launcher_by_itself_hears_every_signal(daemon):
    """As a worker that another version of the daemon starts."""
    code = "import os, runpy, signal; runpy.run_path('ccproxy_supervisor/launcher/__main__.py')['stand'](); "
    code += "print(signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL, signal.pthread_sigmask(0, ()))"
    done = subprocess.run(hostile("0", "-c", code), capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True set()\n"


def test_a_configuration_that_cannot_be_used_is_refused_into_the_void_too(daemon):
    daemon.write("supervisor.yaml", "nonsense: 1")
    words = ("-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file))
    assert subprocess.run(hostile("0,1,2", *words), check=False, cwd=ROOT).returncode == 78


def test_what_shells_and_nohup_ignore_on_purpose_stays_ignored():
    code = "import signal; from ccproxy_supervisor.edge.ground import stand; stand(); "
    code += "print(all(signal.getsignal(s) is signal.SIG_IGN for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)))"
    done = subprocess.run(hostile("0", "-c", code), capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "True\n"


def test_what_is_opened_next_never_becomes_standard_output(daemon):
    run(daemon, "0,1,2")
    names = (
        {os.readlink(f"/proc/{daemon.process.pid}/fd/{fd}") for fd in (0, 1, 2)} if os.path.isdir("/proc") else set()
    )
    assert names <= {os.devnull}
    assert psutil.Process(daemon.process.pid).is_running()


def test_the_version_is_an_option_too():
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_supervisor", "--version"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == f"ccproxy-supervisor {__version__}\n"


@pytest.mark.parametrize("words", [(), ("token",)])
def test_help_says_of_each_command_a_whole_sentence(words):
    command = [sys.executable, "-m", "ccproxy_supervisor", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "..." not in done.stdout.partition("Commands:")[2] != ""


@pytest.mark.parametrize(("soft", "hard", "becomes"), [(256, 4096, 4096), (256, 20000, 8192), (9000, 20000, 9000)])
def test_a_daemon_gets_the_descriptors_that_a_terminal_withholds(soft, hard, becomes):
    ask = "from ccproxy_supervisor.edge.ground import make_room; print(make_room())"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); {ask}"
    done = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(becomes)


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="only Linux shows them")
def test_a_daemon_from_a_terminal_that_withholds_descriptors_has_enough_and_so_have_its_workers(daemon):
    words = ["-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file)]
    command = ["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", sys.executable, *words]
    daemon.process = subprocess.Popen(command, cwd=ROOT)
    daemon.until(lambda status: status["status"] == "healthy", 60)

    for pid in (daemon.process.pid, *daemon.pids()):
        assert psutil.Process(pid).rlimit(psutil.RLIMIT_NOFILE)[0] == 8192
    assert daemon.end() == 0
