"""Escape sequences and tricks of direction, put wherever a command finds words of others, reach no terminal."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from ccproxy_supervisor.cli import COMMANDS, main
from ccproxy_supervisor.core.printable import json_text, printable
from ccproxy_supervisor.edge.incidents import write
from ccproxy_supervisor.launcher.tally import Tally
from sample_status import document
from status_server import Said, answering
from terminal import Terminal

SHORT = "\x1b]0;e\x07\u202e\x9b2J"
EVIL = f"{SHORT}\x1b[5mevil\x08\r\x7f\u2028\u200f\u2066\U000e0041"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200f\u2028\u202e\u2066\ud800-\udfff\U000e0041]")
OURS = re.compile(r"\x1b\[(\d+;?)*m")  # colours

CONFIG = {
    "model_list": [{"model_name": EVIL, "litellm_params": {"model": EVIL, "api_key": f"os.environ/{EVIL}"}}],
    EVIL: EVIL,
}

#: Of every command, what is typed. A command that is not here fails the test: think of what others can make it say.
TYPED = {
    "run": ["run"],
    "check": ["check", "check --deep"],
    "status": ["status", "status --json"],
    "reload": ["reload"],
    "restart": ["restart"],
    "renew": ["renew"],
    "stop": ["stop"],
    "rotate": ["rotate"],
    "logs": ["logs", "logs litellm", "logs supervisor --level error"],
    "why": ["why", "why --json"],
    "usage": ["usage", "usage --by client", "usage --json", "usage --since EVIL"],
    "doctor": ["doctor", "doctor --json"],
    "selftest": ["selftest --list"],
    "init": ["init HOME --no-litellm"],
    "install": ["install", "install --dry-run"],
    "uninstall": ["uninstall --dry-run --purge", "uninstall --purge"],
    "upgrade": ["upgrade", "upgrade --to EVIL"],
    "rollback": ["rollback"],
    "traefik": ["traefik", "traefik --check", "traefik --output -"],
    "token": ["token add alice", "token list", "token list --json", "token revoke EVIL", "token revoke alice"],
    "connect": ["connect claude alice", "connect opencode alice --url EVIL --model EVIL", "connect codex EVIL"],
    "notify": ["notify", "notify test"],
    "schema": ["schema"],
    "version": ["version"],
    "files": ["files", "files EVIL", "files traefik --to HOME"],
}


def spoil(value):
    """The same document, with evil in every word that is not a time."""
    if isinstance(value, dict):
        return {key: spoil(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spoil(item) for item in value]
    return value + EVIL if isinstance(value, str) and not re.match(r"\d{4}-", value) else value


@pytest.fixture
def home(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="cc-")) / f"h{SHORT}"
    (folder / "logs").mkdir(parents=True, mode=0o700)
    (folder / "run").mkdir(mode=0o700)
    folder.chmod(0o700)
    (folder / "supervisor.yaml").write_text("proxy: {port: 20451}\nadmin: {port: 20452}\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / f"file{SHORT}").touch()
    record = {"time": "2026-11-23T08:00:00.000Z", "level": "error" + EVIL, "event": EVIL, "logger": EVIL, EVIL: EVIL}
    more = {"message": EVIL, "exception": f"{EVIL}\n{EVIL}", "output": [EVIL], "worker": EVIL}
    for log in ("supervisor", "litellm", "stdout", "stderr"):
        lines = [json.dumps(record | more, ensure_ascii=False), EVIL.replace("\r", "")]
        (folder / f"logs/{log}.log").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\x9b5m\n")
    write(
        folder / "run/incidents",
        spoil({"at": "2026-11-23T08:00:00Z", "cause": "exited", "detail": "x", "output": ["y"]}),
    )
    write(
        folder / "run/incidents", spoil({"at": "2026-11-23T08:00:01Z", "cause": "upgrade", "told": "", "detail": "x"})
    )
    Tally(str(folder / "run")).row(EVIL[:20], "chat", EVIL[:20]).add("ok")
    monkeypatch.setenv("CCPROXY_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "100")
    yield folder
    shutil.rmtree(folder.parent)


@pytest.fixture
def spoilt(home):
    (home / "supervisor.yaml").write_text("proxy: {port: 20451}\nadmin: {port: 20452}\n" + yaml.safe_dump({EVIL: 1}))
    return home


def typed(line, home):
    words = [word.replace("EVIL", f"1{EVIL}").replace("HOME", str(home)) for word in line.split()]
    return CliRunner().invoke(main, words, color=True, input="n\n")


def check(said):
    found = UNSAFE.findall(OURS.sub("", said))
    assert found == [], said
    assert "\x1b[5m" not in said
    return said


@pytest.mark.parametrize("settings", ["good", "spoilt"])
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "run"])
def test_what_files_and_answers_say_is_only_shown(command, settings, request):
    home = request.getfixturevalue("home" if settings == "good" else "spoilt")
    answer = {"result": EVIL, "detail": EVIL, "changes": [EVIL], "generation": 1, **spoil(document())}
    with answering(Said(answer), unix=home / "run/control.sock"):
        for line in TYPED[command]:
            result = typed(line, home)
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
            said = check(result.output)
            if "--json" in line and result.exit_code != 78:
                json.loads(result.stdout)
            assert said or command in ("logs", "token"), line


def test_json_says_the_same_though_it_is_escaped():
    value = {EVIL: [EVIL, "Grüße, 日本語 \U0001f600"]}

    assert json.loads(check(json_text(value))) == value
    assert "Grüße, 日本語 \U0001f600" in json_text(value)


def test_a_refused_order_is_told_in_code(home):
    with answering(Said({"error": EVIL}, status=409), unix=home / "run/control.sock"):
        result = typed("reload", home)

    assert result.exit_code == 1
    assert check(result.output).startswith("Error: \\x1b]0;e\\x07\\u202e\\x9b2J")


def test_a_daemon_that_cannot_use_its_settings_says_so_in_code(spoilt):
    done = subprocess.run(
        [sys.executable, "-m", "ccproxy_supervisor", "run"], capture_output=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 78
    assert "\\x1b]0;e\\x07" in check(done.stderr)


def test_misuse_is_told_in_code(home):
    for line in ("EVIL", "status --EVIL", "logs EVIL", "logs --since EVIL"):
        assert typed(line, home).exit_code == 2
        check(typed(line, home).output)


def test_raw_lines_are_as_in_the_file_for_programs_and_in_code_for_a_terminal(home):
    assert EVIL.replace("\r", "").encode() in typed("logs stdout --raw", home).stdout_bytes
    with Terminal([sys.executable, "-m", "ccproxy_supervisor", "logs", "stdout", "--raw"]) as terminal:
        said = terminal.until("5m\r\n")
    check(said.replace("\r\n", "\n"))
    assert printable(EVIL.replace("\r", "")) in said


def test_status_on_a_terminal_shows_evil_in_code(home):
    command = [sys.executable, "-m", "ccproxy_supervisor", "status"]
    with answering(Said(spoil(document())), unix=home / "run/control.sock"), Terminal(command) as terminal:
        said = terminal.until("llama")
    assert "\\x1b]0;e" in said
    check(re.sub(r"\r\n", "\n", said))
