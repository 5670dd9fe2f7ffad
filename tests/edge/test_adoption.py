"""A supervisor is killed, and the next one takes its workers on: real processes, a stub in LiteLLM's place."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import httpx
import psutil
import pytest

from ccproxy_supervisor.edge.incidents import read
from ccproxy_supervisor.edge.launcher import Launcher
from daemon import LONG, Daemon, enough, follow, gone, wait_until_gone
from ports import free_ports
from steady import Steady

QUICK = {"interval": "200ms", "timeout": "3s"}


@pytest.fixture
def daemon():
    with Daemon(health=QUICK, proxy={"drain_timeout": "30s"}) as daemon:
        yield daemon


def killed(daemon):
    daemon.process.kill()
    daemon.process.wait()


def events(daemon, *names):
    return [line for line in daemon.log() if line["event"] in names]


def settled(*states):
    return lambda status: sorted(worker["state"] for worker in status["workers"]) == sorted(states)


def test_the_next_supervisor_goes_on_with_the_same_workers(daemon):
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    daemon.until(settled("serving", "standby"))
    os.kill(daemon.pids()[0], signal.SIGKILL)
    daemon.until(lambda s: settled("serving", "standby")(s) and s["workers"][0]["restarts"] == 1)
    serving, standby = daemon.pids(), daemon.pids("standby")
    daemon.saved(lambda state: state["slots"]["0"]["restarts"] == 1)
    killed(daemon)
    before = len(daemon.log())
    assert daemon.get("/").text == str(serving[0])  # nobody is there, and nobody waits
    daemon.start(wait=None)
    status = daemon.until(settled("serving", "standby"))

    assert (daemon.pids(), daemon.pids("standby")) == (serving, standby)
    assert [worker["adopted"] for worker in status["workers"]] == [True, True]
    assert (status["workers"][0]["restarts"], status["generation"]) == (1, 1)
    assert "ccproxy_workers_adopted_total 2.0" in daemon.metrics()
    assert "2 workers went on serving and were kept" in read(daemon.home.run / "incidents", 1)[0]["told"]
    assert "worker.gone" not in [line["event"] for line in daemon.log()[before:]]
    (standby_number,) = [worker["worker"] for worker in status["workers"] if worker["state"] == "standby"]
    os.kill(serving[0], signal.SIGKILL)
    status = daemon.until(lambda s: settled("serving", "standby")(s) and s["workers"][0]["pid"] == standby[0])
    assert status["workers"][0]["last_ending"]["status"] is None
    assert "not known" in status["workers"][0]["last_ending"]["detail"]
    assert status["workers"][1]["worker"] > standby_number


def test_a_stream_is_not_cut_and_what_is_printed_meanwhile_is_in_the_log(daemon):
    daemon.start()
    lines = []
    reader = follow(daemon, lines, LONG)
    killed(daemon)
    for number in range(100):
        daemon.get(f"/print?line=nobody+reads+{number:04d}+&more=60000")  # more than a pipe and a ring hold: 5 MiB
    daemon.start()
    enough(daemon)
    reader.join()

    assert lines[-1] == "data: [DONE]"
    stdout = daemon.folder / "logs" / "stdout.log"
    dropped = 'ccproxy_log_dropped_bytes_total{log="stdout"} '
    whole = 100 * (len("nobody reads 0000 ") + 60_001)
    daemon.until(lambda _: stdout.stat().st_size + float(daemon.metrics().split(dropped)[1].split()[0]) == whole)
    text = stdout.read_text()
    assert [f"nobody reads {number:04d} " in text for number in range(10)] == [True] * 10
    assert "log.failed" in [line["event"] for line in daemon.log()]


def test_workers_that_nobody_takes_on_drain_and_leave(daemon):
    daemon.change(proxy={"orphan_grace": "1s", "standby": 1})
    daemon.start(wait=None)
    daemon.until(settled("serving", "standby"))
    workers = [psutil.Process(pid) for pid in descriptors(daemon)]
    lines = []
    reader = follow(daemon, lines, LONG)
    killed(daemon)
    deadline = time.monotonic() + 30
    while not any(gone(worker.pid) for worker in workers):  # the standby, which has nothing to finish
        assert time.monotonic() < deadline
        time.sleep(0.05)
    enough(daemon)
    reader.join()
    for worker in workers:
        wait_until_gone(worker.pid)

    assert lines[-1] == "data: [DONE]"
    assert [path.name for path in daemon.home.run.glob("*.sock")] == ["control.sock"]


@pytest.mark.parametrize("what", ["config", "port", "less"])
def test_what_does_not_fit_the_settings_is_replaced_make_before_break(daemon, what):
    daemon.change(proxy={"workers": 2})
    daemon.start(wait=None)
    daemon.until(settled("serving", "serving"))
    before = set(daemon.pids())
    old = daemon.port
    killed(daemon)
    match what:
        case "config":
            daemon.change(proxy={"env": {"NEW": "1"}})
        case "port":
            (daemon.port,) = free_ports(1)
            daemon.change(proxy={"port": daemon.port})
        case "less":
            daemon.change(proxy={"workers": 1})
    daemon.start(wait=None)
    number = 1 if what == "less" else 2
    daemon.until(lambda s: settled(*["serving"] * number)(s) and all(gone(pid) for pid in before - set(daemon.pids())))

    kept = before & set(daemon.pids())
    assert len(kept) == (1 if what == "less" else 0)
    assert daemon.get("/").status_code == 200
    assert daemon.status()["generation"] == (1 if what == "less" else 2)
    if what == "port":
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{old}/")


def test_settings_that_no_worker_can_start_with_leave_the_old_one_serving(daemon):
    daemon.start()
    before = daemon.pids()
    killed(daemon)
    daemon.change(proxy={"env": {"STUB_FAIL": "3"}})
    daemon.start(wait=None)
    status = daemon.until(lambda s: s["reload"])

    assert (status["reload"]["result"], daemon.pids()) == ("failed", before)
    assert "told to fail" in status["reload"]["detail"]


def test_a_worker_that_is_still_starting_is_taken_on_too(daemon):
    daemon.change(proxy={"env": {"STUB_START_DELAY": "3"}})
    daemon.start(wait=None)
    daemon.until(settled("starting"))
    (worker,) = daemon.until(lambda s: s["workers"][0]["pid"])["workers"]
    deadline = time.monotonic() + 30
    while not (daemon.home.run / "a1.sock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed(daemon)
    daemon.start()

    assert daemon.pids() == [worker["pid"]]


def test_one_that_was_told_nothing_leaves_with_its_supervisor(daemon):
    """Killed between a spawn and the first word: the control socket ends before anything came over it."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    daemon.home.run.mkdir()
    command = [daemon.settings["proxy"]["python"], Launcher(daemon.home.run)(), "--number", "7", "--drain", "1"]
    command += ["--uds", str(daemon.home.run / "w7.sock"), "--door", str(daemon.home.run / "a7.sock")]
    fds = {"--control-fd": theirs.fileno(), "--public-fd": listener.fileno(), "--log-fd": theirs.fileno()}
    command += [str(word) for pair in fds.items() for word in pair]
    environ = {"PATH": os.environ["PATH"], **daemon.settings["proxy"]["env"]}
    worker = subprocess.Popen(command, env=environ, pass_fds=[*fds.values()])
    theirs.close()
    ours.close()
    assert worker.wait(30) == 0
    listener.close()


def call(run, number):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(run / f"a{number}.sock"))
    return sock


def heard(sock):
    said, fds = b"", []
    while not said.endswith(b"\n"):
        more, given, *_ = socket.recv_fds(sock, 1 << 16, 8)
        assert more
        said, fds = said + more, fds + given
    for fd in fds:
        os.close(fd)
    return json.loads(said), len(fds)


def test_supervisors_that_die_while_they_take_on_change_nothing(daemon):
    daemon.start()
    before = daemon.pids()
    killed(daemon)
    for words in (b"", b"ado", b"garbage\n", b"adopt\n", b"adopt\ncare not json\n"):
        with call(daemon.home.run, 1) as sock:
            hello, fds = heard(sock)
            assert (hello["number"], hello["pid"], hello["said"], fds) == (1, before[0], ["ready", "accepting"], 4)
            sock.sendall(words)
            if words.startswith(b"adopt"):
                assert sock.recv(100).startswith(b"adopted\n")
        assert daemon.get("/").text == str(before[0])
    daemon.start()

    assert daemon.pids() == before


def test_nobody_gets_a_worker_that_has_a_supervisor(daemon):
    daemon.start()
    with call(daemon.home.run, 1) as sock:
        sock.settimeout(1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert daemon.status()["workers"][0]["adopted"] is False


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_gets_nothing(daemon):
    daemon.start()
    killed(daemon)
    for path in (daemon.folder, daemon.home.run):
        path.chmod(0o755)
    (daemon.home.run / "a1.sock").chmod(0o777)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        with call(daemon.home.run, 1) as sock:
            os._exit(0 if sock.recv(1) == b"" else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_worker_that_does_not_answer_is_seen_off(daemon):
    daemon.change(proxy={"workers": 2})
    daemon.start(wait=None)
    daemon.until(settled("serving", "serving"))
    hung, well = daemon.pids()
    os.kill(hung, signal.SIGSTOP)
    killed(daemon)
    daemon.change(proxy={"drain_timeout": "1s"})
    daemon.start(wait=None)
    daemon.until(settled("serving", "serving"))

    assert well in daemon.pids()
    daemon.until(lambda _: gone(hung))
    (declined,) = events(daemon, "worker.declined")
    assert declined["worker"] == 1


def test_what_a_draining_worker_says_last_is_in_the_log(daemon):
    daemon.start()
    (old,) = daemon.pids()
    lines = []
    reader = follow(daemon, lines, LONG)
    daemon.change(proxy={"env": {"NEW": "1"}})
    threading.Thread(target=order_and_forget, args=(daemon, "/reload"), daemon=True).start()
    daemon.until(lambda s: [w for w in s["workers"] if w["state"] == "draining"])
    killed(daemon)
    transport = httpx.HTTPTransport(uds=str(daemon.home.run / "w1.sock"))
    with httpx.Client(transport=transport, base_url="http://w") as inside:
        inside.get("/print?line=last+words")
    daemon.start(wait=None)
    enough(daemon)
    reader.join()
    wait_until_gone(old)

    assert lines[-1] == "data: [DONE]"
    daemon.until(lambda _: "last words" in (daemon.folder / "logs" / "stdout.log").read_text())
    daemon.until(lambda _: not (daemon.home.run / "w1.spool").exists())


def order_and_forget(daemon, path):
    try:
        daemon.order(path)
    except Exception:
        return


def test_a_door_that_somebody_removed_is_put_back(daemon):
    daemon.start()
    before = daemon.pids()
    (daemon.home.run / "a1.sock").unlink()
    killed(daemon)
    deadline = time.monotonic() + 30
    while not (daemon.home.run / "a1.sock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    daemon.start()

    assert daemon.pids() == before


def test_a_stop_of_a_supervisor_that_waits_for_its_port_ends_the_workers_it_has_taken_on(daemon):
    daemon.start()
    (worker,) = daemon.pids()
    killed(daemon)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        daemon.change(proxy={"port": stranger.getsockname()[1]})
        daemon.start(wait=None)
        daemon.until(lambda s: s["detail"])
        assert not gone(worker)
        assert daemon.end() == 0
    wait_until_gone(worker)


def descriptors(daemon):
    """Of each worker."""
    return {pid: psutil.Process(pid).num_fds() for pid in (*daemon.pids(), *daemon.pids("standby"))}


def test_killed_again_and_again_at_any_moment_nothing_is_lost(daemon):
    """No request, no byte of the log, no process and no descriptor, whatever the killed one was doing."""
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    daemon.until(settled("serving", "standby"))
    before = descriptors(daemon)
    moments = random.Random(8)
    with Steady(daemon.port) as steady:
        for _ in range(12):
            killed(daemon)
            daemon.start(wait=None)
            time.sleep(moments.choice([0.3, 1, 2]) * moments.random())  # at every step of a start
        daemon.until(settled("serving", "standby"), 60)
    after = descriptors(daemon)
    assert daemon.end() == 0

    assert steady.lost == []
    assert after.keys() == before.keys()
    assert sum(after.values()) <= sum(before.values()) + 2
    printed = (daemon.folder / "logs" / "stdout.log").read_text().splitlines()
    assert printed == [f"number {number:06d}" for number in range(steady.said)]
    assert daemon.workers() == []
    assert not [path for path in daemon.home.run.iterdir() if path.name.endswith((".sock", ".spool"))]
