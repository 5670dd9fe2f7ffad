"""What `status` shows, to people and to programs."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli import status as module
from ccproxy_supervisor.core.settings import Settings
from ccproxy_supervisor.view.plain import plain
from ccproxy_supervisor.view.sheet import sheet
from sample_status import NOW, document
from status_server import Said, answering
from terminal import Terminal, bare

#: A daemon that has just begun says no more than this.
EARLY = {
    "status": "starting", "uptime": 0.1, "version": "0.1.0", "pid": 7, "home": "/home", "generation": 0,
    "listen": {"host": "::1", "port": 8081}, "workers": [], "models": [], "ollama": None, "reload": None,
}  # fmt: skip


@pytest.fixture
def home(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def said(home):
    said = Said(document(time.time()))
    with answering(said, unix=home / "run" / "control.sock"):
        yield said


def status(home, *options):
    return CliRunner().invoke(module.status, ["--config", str(home / "supervisor.yaml"), *options])


def test_json_is_the_daemons_own_document(home, said):
    told = status(home, "--json")
    assert told.stdout == json.dumps(said.document, indent=2, ensure_ascii=False) + "\n"
    assert list(json.loads(told.stdout)) == list(said.document)


@pytest.mark.parametrize("word", ["healthy", "degraded", "unhealthy", "starting", "stopping"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_exit_code_says_whether_all_is_well(home, said, word, options):
    said.document["status"] = word
    assert status(home, *options).exit_code == (0 if word == "healthy" else 1)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_without_a_daemon_it_says_so_and_exits_3(home, options):
    told = status(home, *options)
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr == f"not running: no daemon answers for {home}\n"


@pytest.mark.parametrize(
    "text", ["admin: {prot: 1}\nproxy: [", "a: [1, 2", "- 1", "", "admin: {socket: 3}", "admin: []"]
)
def test_a_broken_settings_file_does_not_hide_the_daemon(home, said, text):
    (home / "supervisor.yaml").write_text(text)
    assert status(home).exit_code == 1


def test_the_socket_is_where_the_settings_say(home):
    assert Settings().admin.socket == "run/control.sock"
    (home / "supervisor.yaml").write_text("admin: {socket: run/other.sock}")
    with answering(Said(document(NOW, status="healthy")), unix=home / "run" / "other.sock"):
        assert status(home).exit_code == 0


def test_everything_is_told_in_plain_words_where_there_is_no_terminal(home, said):
    told = status(home).stdout
    for fact in (
        "status    degraded", "because   Ollama does not have qwen3-coder:30b", "up 20 h, pid 41, version 0.1.0",
        "127.0.0.1:8081, 2 of 2 workers serving, generation 3", "2 h 54 min", "391 MiB +14/h", "42%",
        "was killed by SIGKILL after 2 h, 3 h ago", "claude-fallback  not asked  never",
        "ollama    up, version 0.12.3; models: llama3.2:3b, nomic-embed-text:latest; loaded: llama3.2:3b; missing: qwen3",
        "reload    rolled 5 h ago by SIGHUP", "incident  3 h ago: Worker 3 in slot 0 was killed",
    ):  # fmt: skip
        assert fact in told
    assert told.isascii()


def test_columns_stay_where_they_are():
    lines = plain(sheet(document(NOW), NOW)).splitlines()
    head = next(line for line in lines if line.startswith("SLOT"))
    assert head.split("  ")[0] == "SLOT"
    assert head.split() == ["SLOT", "STATE", "PID", "GEN", "UPTIME", "RESTARTS", "MEMORY", "CPU", "LAST", "ENDING"]
    rows = lines[lines.index(head) + 1 :][:3]
    for column in ("STATE", "PID", "GEN", "UPTIME", "RESTARTS", "MEMORY", "CPU", "LAST ENDING"):
        at = head.index(column)
        assert all(row[at - 1] == " " != row[at] for row in rows)


def test_a_daemon_that_has_just_begun_can_be_shown():
    assert plain(sheet(EARLY, NOW)) == (
        "status    starting\ndaemon    up 0.1 s, pid 7, version 0.1.0, /home\n"
        "serves    [::1]:8081, 0 of 0 workers serving, generation 0\nlitellm   unknown version\n\n"
        "ollama    not watched\nreload    none yet"
    )


def test_a_worker_between_two_lives_and_a_bad_reload_are_told():
    row = {"slot": 0, "state": "backoff", "worker": 3, "pid": None, "generation": 1, "uptime": 0.0, "backoff": 4.2}
    report = {
        "result": "refused",
        "at": "2026-11-23T19:00:00Z",
        "detail": "one: wrong\ntwo: wrong\nkeeping generation 1",
    }
    ollama = {"up": False, "version": None, "models": [], "loaded": [], "missing": [], "detail": "refused"}
    told = plain(sheet(EARLY | {"workers": [row], "reload": report, "ollama": ollama}, NOW))
    assert "0     backoff 4.2 s  -    1    -       -         -       -    -" in told
    assert "reload    refused 1 h ago: one: wrong\n          two: wrong\n          keeping generation 1" in told
    assert "ollama    down: refused" in told


def test_what_others_said_cannot_command_the_terminal(home, said):
    said.document["models"][0]["detail"] = "red \x1b[31m bell \x07 back \x08 line \u202e end"
    told = status(home).stdout
    assert r"red \x1b[31m bell \x07 back \x08 line \u202e end" in told


def test_programs_wait_neither_for_rich_nor_for_pydantic(home, said):
    code = "import sys; from ccproxy_supervisor.cli import main; main(standalone_mode=False)"
    code = f"import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr)); {code}"
    command = [sys.executable, "-c", code, "status", "--json", "--config", str(home / "supervisor.yaml")]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(told.stdout) == said.document
    loaded = set(told.stderr.strip("[]\n").replace("'", "").split(", "))
    assert "http.client" in loaded
    assert loaded.isdisjoint({"rich", "pydantic", "pydantic_core", "anyio", "asyncio", "starlette", "structlog"})


def test_watching_without_a_terminal_tells_what_changed_and_only_then(home, said, monkeypatch):
    def nothing():
        said.document = {**said.document, "uptime": said.document["uptime"] + 1}

    def healthy():
        said.document = {**said.document, "status": "healthy"}

    def interrupt():
        raise KeyboardInterrupt

    steps = iter([nothing, healthy, nothing, interrupt])
    monkeypatch.setattr(
        module, "time", SimpleNamespace(time=time.time, strftime=time.strftime, sleep=lambda _: next(steps)())
    )
    told = status(home, "--watch")
    assert told.exit_code == 0
    words = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("status")]
    assert words == ["degraded", "healthy"]


def test_watching_goes_on_without_the_daemon(home, monkeypatch):
    server = answering(Said(document(NOW)), unix=home / "run" / "control.sock")

    def interrupt():
        raise KeyboardInterrupt

    steps = iter([server.__enter__, lambda: server.__exit__(None, None, None), lambda: None, interrupt])
    monkeypatch.setattr(
        module, "time", SimpleNamespace(time=time.time, strftime=time.strftime, sleep=lambda _: next(steps)())
    )
    told = status(home, "--watch").stdout
    parts = [part.split("\n")[1][:12] for part in told.split("--- ")[1:]]
    assert parts == ["not running:", "status    de", "not running:"]


def test_watching_and_json_do_not_go_together(home):
    assert status(home, "--watch", "--json").exit_code == 2


def test_a_terminal_is_watched_resized_survives_the_daemon_and_is_left_clean(home):
    code = "from ccproxy_supervisor.cli import status as it; it.EVERY = 0.02; it.status()"
    command = [sys.executable, "-c", code, "--watch", "--config", str(home / "supervisor.yaml")]
    with answering(Said(document(time.time())), unix=home / "run" / "control.sock"):
        watched = Terminal(command)
        with watched:
            assert "\x1b[?1049h" in watched.until("was killed by SIGKILL after 2 h, 3 h ago")
            watched.resize(60, 40)
            assert "degraded" in watched.until("\x1b[2m0  \x1b[0mwas killed by SIGKILL")  # below its row
            server_gone(home)
            screen = bare(watched.until("this was its last answer:") + watched.until("rolled"))
            assert "waiting for one" in screen
            watched.interrupt()
            code, rest = watched.end()
    assert code == 0
    assert "\x1b[?1049l" in rest
    assert "Traceback" not in rest


def test_what_a_terminal_has_no_room_for_is_counted_and_the_models_come_last(home, said):
    said.document["models"] = [
        {"name": f"model-{n}", "healthy": True, "checked": None, "detail": ""} for n in range(30)
    ]
    command = [sys.executable, "-m", "ccproxy_supervisor", "status", "--watch"]
    with Terminal([*command, "--config", str(home / "supervisor.yaml")], rows=30) as watched:
        screen = bare(watched.until("more lines; enlarge the terminal"))
        assert screen.index("ollama ") < screen.index("reload ") < screen.index("incident ") < screen.index("model-0 ")
        assert "model-29" not in screen
        watched.resize(120, 60)
        watched.until("model-29")


def server_gone(home):
    (home / "run" / "control.sock").rename(home / "run" / "gone.sock")


def test_a_terminal_gets_colours_and_a_pipe_does_not(home, said):
    command = [sys.executable, "-m", "ccproxy_supervisor", "status", "--config", str(home / "supervisor.yaml")]
    with Terminal(command) as terminal:
        assert "\x1b[1;33mdegraded" in terminal.end()[1]
    with Terminal(command, NO_COLOR="1") as terminal:
        assert terminal.end()[1].count("\x1b[33m") == 0
