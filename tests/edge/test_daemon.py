"""The whole daemon with real processes and sockets; a stub in LiteLLM's place, behind the real launcher."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from ccproxy_supervisor.cli.common import NotRunning
from ccproxy_supervisor.edge.incidents import read
from daemon import LONG, Daemon, enough, follow, gone, wait_until_gone
from ports import free_ports

QUICK = {"interval": "200ms", "timeout": "3s"}


@pytest.fixture
def daemon():
    with Daemon(health=QUICK) as daemon:
        yield daemon


def test_serves_reports_and_stops_as_asked(daemon):
    daemon.start()

    assert daemon.get("/").text == str(daemon.pids()[0])
    status = daemon.status()
    assert (status["status"], status["generation"], status["listen"]["port"]) == ("healthy", 1, daemon.port)
    assert [(w["slot"], w["state"], w["restarts"]) for w in status["workers"]] == [(0, "serving", 0)]
    told, asked = httpx.get(daemon.admin_url + "/health").json(), daemon.get("/health").json()
    assert abs(told.pop("uptime") - asked.pop("uptime")) < 60
    assert asked == told
    assert told["status"] == "healthy"
    assert daemon.end() == 0
    assert [line["event"] for line in daemon.log() if line["event"].startswith("worker.")] == [
        "worker.starting", "worker.standby", "worker.serving", "worker.draining", "worker.gone",
    ]  # fmt: skip


def test_a_killed_worker_is_replaced_and_nobody_is_refused(daemon):
    daemon.start()
    (before,) = daemon.pids()
    os.kill(before, signal.SIGKILL)

    assert daemon.get("/").text != str(before)
    ending = daemon.until(lambda s: s["workers"][0].get("last_ending"))["workers"][0]["last_ending"]
    assert (ending["cause"], ending["status"]) == ("exited", -9)


def test_what_a_dead_worker_has_started_holds_up_neither_its_place_nor_the_next_daemon(daemon):
    file = daemon.folder / "grandchild"
    daemon.start()
    daemon.get("/leave", params={"file": str(file)})
    while not (file.exists() and file.read_text().endswith("\n")):
        time.sleep(0.01)
    grandchild, pids = int(file.read_text()), daemon.pids()
    try:
        os.kill(pids[0], signal.SIGKILL)
        daemon.until(lambda status: status["status"] == "healthy" and daemon.pids() not in ([], pids))
        assert daemon.end() == 0
        daemon.start()
        assert daemon.get("/").text == str(daemon.pids()[0])
        assert not gone(grandchild)
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_standby_takes_over(daemon):
    daemon.change(proxy={"standby": 1})
    daemon.start(wait=None)
    daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])
    (warm,) = daemon.pids("standby")
    os.kill(daemon.pids()[0], signal.SIGKILL)

    assert daemon.get("/").text == str(warm)
    daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])


def test_a_standby_takes_over_from_a_worker_that_a_stranger_told_to_leave(daemon):
    daemon.change(proxy={"standby": 1, "drain_timeout": "30s"})
    daemon.start(wait=None)
    daemon.until(lambda s: [w["state"] for w in s["workers"]] == ["serving", "standby"])
    (before,), (warm,) = daemon.pids(), daemon.pids("standby")
    lines = []
    reader = follow(daemon, lines, LONG)
    os.kill(before, signal.SIGTERM)
    daemon.until(lambda s: before not in [w["pid"] for w in s["workers"] if w["state"] == "serving"])

    while (answered := daemon.get("/").text) == str(before):  # it accepts for another moment
        pass
    assert (answered, reader.is_alive()) == (str(warm), True)
    enough(daemon)
    reader.join()
    assert lines == [*(f"data: {number}" for number in range(len(lines) - 1)), "data: [DONE]"]
    daemon.until(lambda s: (s["workers"][0]["last_ending"] or {}).get("cause") == "exited")


@pytest.mark.parametrize("trouble", ["stopped", "blocked", "sick"])
def test_an_unresponsive_worker_is_replaced(daemon, trouble):
    if trouble != "sick":  # it does not answer at all
        daemon.change(health={"timeout": "1s"})
    daemon.start()
    (before,) = daemon.pids()
    match trouble:
        case "stopped":
            os.kill(before, signal.SIGSTOP)
        case "sick":
            daemon.get("/sick")
        case "blocked":
            with pytest.raises(httpx.ReadTimeout):
                daemon.get("/block?seconds=30", timeout=httpx.Timeout(20, read=0.2))

    status = daemon.until(lambda s: s["workers"][0]["pid"] not in (before, None) and s["status"] == "healthy")
    assert status["workers"][0]["restarts"] == 1
    daemon.until(lambda s: (s["workers"][0]["last_ending"] or {}).get("cause") == "unresponsive")
    assert gone(before)


def test_a_stream_outlives_a_reload_that_replaces_its_worker(daemon):
    daemon.start()
    (before,) = daemon.pids()
    lines = []
    reader = follow(daemon, lines, chunks=40)
    daemon.change(proxy={"env": {"NEW": "1"}})
    report = daemon.order("/reload")
    reader.join()

    assert report["result"] == "rolled"
    assert "proxy.env changed" in report["changes"]
    assert report["generation"] == 2
    assert lines[-1] == "data: [DONE]"
    assert len(lines) == 41
    assert daemon.get("/env").json()["NEW"] == "1"
    daemon.until(lambda s: gone(before))


def test_a_reload_that_cannot_start_keeps_the_old_worker(daemon):
    daemon.start()
    before = daemon.pids()
    daemon.change(proxy={"env": {"STUB_FAIL": "3"}})
    report = daemon.order("/reload")

    assert report["result"] == "failed"
    assert "status 3" in report["detail"]
    assert "stub: told to fail" in report["detail"]
    assert daemon.pids() == before


def test_an_edit_that_was_never_reloaded_reaches_no_restarted_worker(daemon):
    daemon.start()
    daemon.write("config.yaml", "model_list: broken")
    os.kill(daemon.pids()[0], signal.SIGKILL)

    config = Path(daemon.get("/env").json()["CONFIG_FILE_PATH"])
    assert "hello from echo" in config.read_text()
    assert config.parent.parent == daemon.folder / "run" / "births"


def test_copies_of_old_configurations_are_removed(daemon):
    daemon.start()
    daemon.write("config.yaml", (daemon.folder / "config.yaml").read_text() + "# changed\n")
    assert daemon.order("/reload")["changes"] == [f"{daemon.folder}/config.yaml changed"]

    (copy,) = daemon.folder.glob("run/births/*/config.yaml")
    assert copy.read_text().endswith("# changed\n")
    assert oct(copy.stat().st_mode)[-3:] == "600"


def test_sighup_reloads_and_a_bad_file_is_refused_by_name(daemon):
    daemon.start()
    daemon.write("supervisor.yaml", "proxy: {prot: 1}")
    daemon.process.send_signal(signal.SIGHUP)

    reload = daemon.until(lambda s: s["reload"])["reload"]
    assert reload["result"] == "refused"
    assert "supervisor.yaml:1" in reload["detail"]
    assert "proxy.port" in reload["detail"]
    assert daemon.get("/").status_code == 200


def test_a_socket_edited_away_does_not_hide_the_daemon(daemon):
    daemon.start()
    daemon.change(admin={"socket": "run/other.sock"})
    report = daemon.order("/reload")

    assert report["result"] == "refused"
    assert "admin.socket" in report["detail"]


def test_sigterm_lets_a_stream_end(daemon):
    daemon.start()
    lines = []
    reader = follow(daemon, lines, chunks=20)
    assert daemon.end() == 0
    reader.join()

    assert lines[-1] == "data: [DONE]"


def test_new_requests_during_a_stop_are_told_to_come_back(daemon):
    daemon.change(proxy={"drain_timeout": "30s"})
    daemon.start()
    lines = []
    reader = follow(daemon, lines, LONG)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.until(lambda s: s["status"] == "stopping")
    while (answer := daemon.get("/v1/messages")).status_code == 400:  # the stub's own, until it has heard the order
        assert reader.is_alive()
    enough(daemon)
    reader.join()

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["type"] == "error"
    assert daemon.process.wait(60) == 0


def test_workers_without_grace_leave_when_the_supervisor_is_killed(daemon):
    daemon.change(proxy={"orphan_grace": "0s"})
    daemon.start()
    (worker,) = daemon.pids()
    lines = []
    reader = follow(daemon, lines, chunks=20)
    daemon.process.kill()
    reader.join()

    assert lines[-1] == "data: [DONE]"
    wait_until_gone(worker)


def test_a_leftover_that_leaves_takes_nothing_of_its_successor_with_it(daemon):
    daemon.change(proxy={"drain_timeout": "30s", "orphan_grace": "0s"})
    daemon.start()
    (leftover,) = daemon.pids()
    lines = []
    reader = follow(daemon, lines, LONG)
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    enough(daemon)
    reader.join()
    wait_until_gone(leftover)

    assert lines[-1] == "data: [DONE]"
    assert (daemon.folder / "run" / "w2.sock").exists()
    before = daemon.pids()
    probes = 'ccproxy_probe_seconds_count{probe="liveness"} '
    daemon.until(lambda s: float(daemon.metrics().split(probes)[1].split()[0]) > 20)
    assert daemon.pids() == before


def test_a_hung_leftover_is_killed_by_the_next_supervisor(daemon):
    daemon.start()
    (worker,) = daemon.pids()
    os.kill(worker, signal.SIGSTOP)
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()

    assert gone(worker)
    daemon.until(lambda _: "leftover.killed" in [line["event"] for line in daemon.log()])


def test_a_second_supervisor_says_who_owns_the_home(daemon):
    daemon.start()
    command = [sys.executable, "-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)

    assert second.returncode == 75
    assert f"process {daemon.process.pid} owns it" in second.stderr


def test_an_unusable_configuration_is_explained(daemon):
    daemon.change(proxy={"prot": 1})
    command = [sys.executable, "-m", "ccproxy_supervisor", "run", "--config", str(daemon.home.settings_file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 78
    assert "proxy.prot: unknown key; did you mean proxy.port?" in run.stderr


def test_a_port_held_by_a_stranger_is_named_and_waited_for(daemon):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", daemon.port))
        stranger.listen()
        daemon.start(wait=None)
        status = daemon.until(lambda s: s["detail"])
        assert status["status"] == "unhealthy"
        assert f"cannot listen on 127.0.0.1:{daemon.port}" in status["detail"]
        assert f"pid {os.getpid()}" in status["detail"]
    daemon.until(lambda s: s["status"] == "healthy")


def test_a_reload_while_the_port_is_held_may_name_another_and_tells_what_is_wrong(daemon):
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", daemon.port))
        stranger.listen()
        daemon.start(wait=None)
        daemon.until(lambda s: s["detail"])
        daemon.change(proxy={"prot": 1})
        refused = daemon.order("/reload")
        assert refused["result"] == "refused"
        assert "proxy.prot: unknown key" in refused["detail"]
        daemon.settings["proxy"].pop("prot")
        (held, daemon.port) = (daemon.port, free_ports(1)[0])
        daemon.change(proxy={"port": daemon.port})
        applied = daemon.order("/reload")
        assert (applied["result"], applied["changes"]) == ("applied", [f"proxy.port: {held} -> {daemon.port}"])
        daemon.until(lambda s: s["status"] == "healthy")
    assert daemon.get("/").status_code == 200


def test_orders_come_only_over_the_control_socket(daemon):
    daemon.start()

    assert httpx.post(daemon.admin_url + "/stop").status_code in (404, 405)
    assert httpx.get(daemon.admin_url + "/health", headers={"Host": "evil.example"}).status_code == 421
    assert oct((daemon.folder / "run" / "control.sock").stat().st_mode)[-3:] == "600"


def test_two_workers_share_the_socket_and_restart_replaces_both(daemon):
    daemon.change(proxy={"workers": 2})
    daemon.start()
    before = set(daemon.pids())
    report = daemon.order("/restart")

    assert (report["result"], report["generation"]) == ("rolled", 1)
    assert len(set(daemon.pids()) - before) == 2


def test_memory_beyond_the_limit_replaces_the_worker_without_a_failure(daemon):
    daemon.change(proxy={"max_memory": "150MiB"})
    daemon.start()
    (before,) = daemon.pids()
    daemon.get("/grow?mib=200")

    status = daemon.until(lambda s: s["workers"][0]["pid"] not in (before, None) and s["status"] == "healthy")
    assert status["workers"][0]["restarts"] == 0
    daemon.until(lambda s: 'ccproxy_worker_endings_total{cause="memory"} 1.0' in daemon.metrics())


def test_a_canary_is_proven_beside_the_serving_worker(daemon):
    daemon.start()
    before = daemon.pids()

    assert daemon.order("/canary", {"python": sys.executable, "model": "echo"})["ok"] is True
    refused = daemon.order("/canary", {"python": sys.executable, "model": "nobody"})
    assert refused["ok"] is False
    assert "nobody" in refused["detail"]
    broken = daemon.order("/canary", {"python": "/nonexistent/python", "model": "echo"})
    assert "cannot start /nonexistent/python" in broken["detail"]
    assert daemon.pids() == before


def test_a_canary_is_proven_though_the_interpreter_of_the_settings_is_gone(daemon):
    daemon.start()
    daemon.change(proxy={"python": "/nowhere/python"})

    assert daemon.order("/canary", {"python": sys.executable, "model": "echo"})["ok"] is True


def test_what_workers_print_is_kept_and_shown_with_their_end(daemon):
    daemon.start()
    daemon.get("/print?line=out+of+luck&err=1")
    daemon.until(lambda _: "out of luck" in daemon.last_words())  # a thread writes the logs
    with pytest.raises(httpx.RemoteProtocolError):
        daemon.get("/die?status=9")

    ending = daemon.until(lambda s: s["workers"][0].get("last_ending"))["workers"][0]["last_ending"]
    assert ending["status"] == 9
    assert "out of luck" in ending["output"]
    assert (daemon.folder / "logs" / "stderr.log").read_text() == "out of luck\n"


def test_a_key_that_an_upstream_repeats_is_shown_nowhere(daemon):
    daemon.write("secrets.env", "UPSTREAM_KEY=sekret-value-123456\n")
    (daemon.folder / "secrets.env").chmod(0o600)
    daemon.change(
        proxy={"env_file": "secrets.env", "env": {"STUB_UPSTREAM_ERROR": "no such key: sekret-value-123456"}},
        models={"interval": "10s"},
    )
    daemon.start(wait="degraded")
    told = [daemon.metrics(), *(httpx.get(daemon.admin_url + path).text for path in ("/status", "/health"))]

    assert daemon.status()["models"][0]["detail"] == "no such key: ***"
    assert not [text for text in told if "sekret" in text]


def test_a_restarted_supervisor_remembers_restarts_and_the_day(daemon):
    daemon.start()
    os.kill(daemon.pids()[0], signal.SIGKILL)
    daemon.until(lambda s: s["workers"][0]["restarts"] == 1 and s["status"] == "healthy")
    saved = daemon.saved(
        lambda state: state["slots"]["0"]["restarts"] and state["day"]["endings"] and ends(state["day"]) == "healthy"
    )
    day = [state for _, state in saved["day"]["service"]]
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()

    assert daemon.status()["workers"][0]["restarts"] == 1
    history = daemon.status()["history"]
    assert [run["state"] for run in history["service"]][: len(day)] == day
    assert [each["cause"] for each in history["endings"]][:1] == ["exited"]


def ends(day):
    """The last state of the service of *day*."""
    return day["service"][-1][1]


def test_a_supervisor_that_was_killed_is_told_by_status_and_why_once(daemon):
    daemon.start()
    assert daemon.status()["last_incident"] == ""  # there was no earlier one
    daemon.saved(lambda state: ends(state["day"]) == "healthy")
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    assert "The supervisor was killed, or crashed" in daemon.status()["last_incident"]
    assert daemon.end() == 0
    daemon.start()  # after a stop as asked
    assert daemon.end() == 0

    assert [each["cause"] for each in read(daemon.home.run / "incidents", 10)] == ["killed"]
    command = [sys.executable, "-m", "ccproxy_supervisor", "why", "--config", str(daemon.home.settings_file)]
    assert "The supervisor was killed" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_commands_without_a_daemon_exit_3(daemon):
    with pytest.raises(NotRunning):
        daemon.status()
    command = [sys.executable, "-m", "ccproxy_supervisor", "reload", "--config", str(daemon.home.settings_file)]
    reload = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (reload.returncode, reload.stderr) == (3, f"cannot reach the daemon of {daemon.folder}: it is not running\n")
