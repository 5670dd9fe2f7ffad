"""Commands that look, and how all of them fail."""

import json
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from ccproxy_supervisor import __version__
from ccproxy_supervisor.cli import COMMANDS, main
from daemon import LITELLM_CONFIG, Daemon


@pytest.fixture
def daemon():
    with Daemon() as daemon:
        yield daemon


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"Example: ccproxy-supervisor {name}" in result.output


def test_a_command_that_is_not_there_is_misuse():
    assert call("reloda").exit_code == 2


def test_check_names_what_is_in_use(daemon):
    result = call("check", "--config", daemon.home.settings_file)
    assert (result.exit_code, result.output) == (
        0, f"{daemon.home.settings_file} is in order: LiteLLM unknown, models echo\nasked whether they are well: echo\n",
    )  # fmt: skip


def test_check_warns_of_what_others_may_read(daemon):
    daemon.folder.chmod(0o755)
    result = call("check", "--config", daemon.home.settings_file)
    assert result.exit_code == 0
    assert f"is open to other users (mode 0755); run: chmod 700 '{daemon.folder}'" in result.output


def test_check_refuses_a_home_that_others_may_write(daemon):
    daemon.folder.chmod(0o777)
    assert call("check", "--config", daemon.home.settings_file).exit_code == 78


def test_reload_refuses_what_others_could_replace_and_keeps_the_plan(daemon):
    daemon.start()
    daemon.write("config.yaml", LITELLM_CONFIG + "# edited\n")
    (daemon.folder / "config.yaml").chmod(0o666)

    result = call("reload", "--config", daemon.home.settings_file)

    assert result.exit_code == 1
    assert result.output.startswith("refused: config.yaml: every user could put something else there (mode 0666)")
    assert "keeping generation 1" in result.output
    assert daemon.status()["status"] == "healthy"


def test_check_tells_every_fault_of_every_file(daemon):
    daemon.change(health={"interval": "5"})
    daemon.write("config.yaml", "model_list: [{model_name: x}]")
    result = call("check", "--config", daemon.home.settings_file)
    assert result.exit_code == 78
    assert "health.interval" in result.output
    assert "config.yaml:1" in result.output


def test_deep_check_believes_no_exit_code(daemon):
    """The interpreter of these tests has no LiteLLM command: its traceback must not pass for an answer."""
    result = call("check", "--deep", "--config", daemon.home.settings_file)
    assert result.exit_code == 78
    assert "LiteLLM refuses" in result.output


def test_schema_is_json_and_knows_every_section():
    sections = set(json.loads(call("schema").output)["properties"])
    assert {"proxy", "restart", "health", "models", "ollama", "logs", "admin"} <= sections


def test_version_without_a_home_still_answers(tmp_path):
    result = call("version", "--config", tmp_path / "supervisor.yaml")
    assert result.output.splitlines()[0] == f"ccproxy-supervisor {__version__}"
    assert result.output.splitlines()[2] == f"litellm not installed ({tmp_path})"


@pytest.mark.parametrize("name", ["reload", "restart", "stop", "rotate"])
def test_orders_without_a_daemon_say_so_and_exit_3(daemon, name):
    result = call(name, "--config", daemon.home.settings_file)
    assert (result.exit_code, result.output) == (3, f"cannot reach the daemon of {daemon.folder}: it is not running\n")


def test_orders_reach_the_daemon(daemon):
    daemon.start()
    config = ("--config", daemon.home.settings_file)

    assert call("reload", *config).output == "unchanged: nothing changed; keeping generation 1\n"
    daemon.change(proxy={"prot": 1})
    refused = call("reload", *config)
    assert refused.exit_code == 1
    assert refused.output.startswith("refused: supervisor.yaml:")
    daemon.settings["proxy"].pop("prot")
    daemon.change()
    assert call("restart", *config).output == "rolled: every worker replaced; generation 1\n"
    assert call("rotate", *config).output == "rotated\n"
    assert call("stop", *config).output == "stopping\n"
    assert daemon.process.wait(20) == 0


def test_a_light_command_imports_nothing_heavy(daemon):
    program = "import sys; from ccproxy_supervisor.cli import main; main(['reload', '--config', sys.argv[1]], standalone_mode=False)"
    listing = f"import atexit, sys; atexit.register(lambda: print(*sys.modules)); {program}"
    command = [sys.executable, "-c", listing, str(daemon.home.settings_file)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split())
    assert "ccproxy_supervisor.cli.daemon" in loaded
    assert not loaded & {"pydantic", "anyio", "starlette", "uvicorn", "rich", "httpx", "prometheus_client"}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 21\r\n\r\nInternal Server Error",
    ],
)
def test_a_daemon_that_stops_while_it_is_asked_is_said_to_have_stopped(said, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="cc-") as folder, socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(folder)
        Path("run").mkdir()
        listener.bind("run/control.sock")
        listener.listen()

        def answer():
            with listener.accept()[0] as client:
                client.recv(4096)
                client.sendall(said)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(answer)
            result = call("restart", "--config", f"{folder}/supervisor.yaml")

    assert result.exit_code == 1
    assert result.output == f"Error: the daemon of {folder} stopped before it had an answer\n"
