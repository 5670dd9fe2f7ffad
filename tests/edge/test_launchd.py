"""The property list and launchctl's answers."""

import json
import os
import plistlib
import shutil
from pathlib import Path

import pytest

from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy.launchctl import Loaded
from ccproxy_supervisor.deploy.launchctl import parse as parse_print
from ccproxy_supervisor.deploy.launchd import (
    Job,
    Place,
    command,
    config_of,
    exit_timeout_fault,
    installed,
    out_of_reach,
    place,
    plist,
    render,
    services_of,
    short_exit_timeouts,
)
from ccproxy_supervisor.deploy.program import LATE, MISSING, Ran, run
from ccproxy_supervisor.edge.person import Owner

ROOT = Path(__file__).parents[2]
SETTINGS = parse("proxy: {drain_timeout: 1s, kill_timeout: 500ms, start_timeout: 2s}")
LABEL = "test.ccproxy"


# The property list


def job(home, **changed):
    known = {"label": LABEL, "python": "/opt/ccproxy/bin/python", "config": home / "supervisor.yaml"}
    return Job(**known | {"settings": SETTINGS} | changed)


def test_the_template_is_what_the_writer_renders():
    example = Job("com.visiquate.ccproxy", "/Users/you/ccproxy-supervisor/.venv/bin/python",
                  Path("/Users/you/ccproxy/supervisor.yaml"), parse(""))  # fmt: skip

    assert (ROOT / "launchd/com.visiquate.ccproxy.plist").read_bytes() == render(example)


def test_ollama_s_daemon_runs_as_the_person_whose_models_it_serves():
    text = (ROOT / "config/ollama/com.visiquate.ollama.plist").read_text()
    filled = text.replace("/Users/you", "/Users/ann").replace(">you<", ">ann<")  # as docs/MACOS.md does with sed
    keys = plistlib.loads(filled.encode())

    assert (keys["UserName"], keys["EnvironmentVariables"]["HOME"]) == ("ann", "/Users/ann")
    assert "you" not in json.dumps(keys)
    assert (keys["RunAtLoad"], keys["KeepAlive"], keys["ProcessType"]) == (True, True, "Interactive")


def test_every_key_that_matters_is_set(tmp_path):
    keys = plist(job(tmp_path))

    assert keys["ProgramArguments"][-4:] == ["ccproxy_supervisor", "run", "--config", str(tmp_path / "supervisor.yaml")]
    assert (keys["RunAtLoad"], keys["KeepAlive"], keys["ProcessType"]) == (True, True, "Interactive")
    assert keys["ThrottleInterval"] > 0
    assert keys["SoftResourceLimits"]["NumberOfFiles"] > 256
    assert keys["Umask"] == 0o077
    assert keys["EnvironmentVariables"]["PATH"].startswith("/opt/homebrew/bin:")
    assert keys["EnvironmentVariables"]["LANG"].endswith("UTF-8")
    assert keys["StandardOutPath"] == keys["StandardErrorPath"] == str(tmp_path / "logs/launchd.log")
    assert not keys.keys() & {"UserName", "Sockets", "EnableTransactions"}


def test_every_path_in_it_is_absolute(tmp_path):
    keys = plist(job(tmp_path))

    assert all(
        Path(path).is_absolute()
        for path in (
            keys["ProgramArguments"][0],
            keys["ProgramArguments"][-1],
            keys["WorkingDirectory"],
            keys["StandardOutPath"],
        )
    )


def test_a_tilde_in_the_settings_is_the_home_of_who_runs_the_service(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/Users/admin")
    settings = parse("logs: {directory: ~/Library/Logs/ccproxy}")
    mine = plist(job(tmp_path, settings=settings))
    daemons = plist(job(tmp_path, settings=settings, owner=Owner("you", 501, 20, "/Users/you")))

    assert mine["StandardErrorPath"] == "/Users/admin/Library/Logs/ccproxy/launchd.log"
    assert daemons["StandardErrorPath"] == "/Users/you/Library/Logs/ccproxy/launchd.log"


def test_the_home_is_read_back_from_a_property_list(tmp_path):
    assert config_of(plist(job(tmp_path))) == tmp_path / "supervisor.yaml"
    for strange in ({}, {"ProgramArguments": []}, {"ProgramArguments": ["x", "--config"]}, {"ProgramArguments": [1]}):
        assert config_of(strange) is None


def test_what_to_type_names_what_is_not_the_usual():
    assert command("install", "com.visiquate.ccproxy", False) == "ccproxy-supervisor install"
    assert command("install", "my.label", True, "--config", "/Users/you/my home/supervisor.yaml") == (
        "sudo ccproxy-supervisor install --daemon --label my.label --config '/Users/you/my home/supervisor.yaml'"
    )


def test_folders_that_services_cannot_look_into_are_known_also_behind_a_link(tmp_path):
    (tmp_path / "Documents/ccproxy").mkdir(parents=True)
    (tmp_path / "ccproxy").symlink_to(tmp_path / "Documents/ccproxy")

    for path in (tmp_path / "Documents/ccproxy", tmp_path / "ccproxy"):
        assert out_of_reach(path, tmp_path) == "in ~/Documents, which macOS closes to services"
    assert out_of_reach(Path("/Volumes/disk/ccproxy"), tmp_path).startswith("on another volume")
    assert out_of_reach(tmp_path / "elsewhere", tmp_path) is None


def test_no_value_of_the_settings_that_could_be_secret_is_in_it(tmp_path):
    settings = parse("proxy: {env: {OPENAI_API_KEY: sk-sesame}, env_file: secrets.env}")

    assert b"sesame" not in render(job(tmp_path, settings=settings))


def test_launchd_waits_longer_than_a_stop_may_take(tmp_path):
    settings = parse("proxy: {drain_timeout: 90s, kill_timeout: 1500ms}")

    assert plist(job(tmp_path, settings=settings))["ExitTimeOut"] == 102


def test_a_daemon_names_its_user_and_his_home(tmp_path):
    keys = plist(job(tmp_path, owner=Owner("you", 501, 20, "/Users/you")))

    assert (keys["UserName"], keys["EnvironmentVariables"]["HOME"]) == ("you", "/Users/you")


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", "IPv4"), ("::1", "IPv6")])
def test_sockets_say_which_family_so_that_there_is_one(tmp_path, host, family):
    keys = plist(job(tmp_path, settings=parse(f"proxy: {{host: '{host}', port: 20401}}"), sockets=True))

    assert keys["Sockets"] == {
        "Listeners": {"SockNodeName": host, "SockServiceName": "20401", "SockFamily": family, "SockType": "stream"}
    }


@pytest.mark.skipif(shutil.which("plistutil") is None, reason="libplist-utils is not installed")
@pytest.mark.parametrize("owner", [None, Owner("you", 501, 20, "/Users/you")])
def test_another_reader_of_property_lists_understands_it(tmp_path, owner):
    (tmp_path / "a.plist").write_bytes(render(job(tmp_path, owner=owner, sockets=True)))
    binary = run("plistutil", "-i", str(tmp_path / "a.plist"), "-f", "bin", "-o", str(tmp_path / "b.plist"))

    assert binary.status == 0, binary.said
    assert plistlib.loads((tmp_path / "b.plist").read_bytes()) == plist(job(tmp_path, owner=owner, sockets=True))


@pytest.mark.parametrize(
    ("granted", "said"),
    [({"ExitTimeOut": 46}, None), ({"ExitTimeOut": 0}, None), ({"ExitTimeOut": 35}, "is 35 s"), ({}, "is not set"),
     ({"ExitTimeOut": "60"}, "is not set")],
)  # fmt: skip
def test_an_exit_timeout_that_would_cut_a_stop_short_is_noticed(granted, said):
    fault = exit_timeout_fault(granted, parse(""))

    assert fault is None if said is None else said in fault


def test_an_installed_service_whose_exit_timeout_the_settings_have_outgrown_is_found(tmp_path):
    wanted, here = job(tmp_path), Place("gui/501", tmp_path)
    (tmp_path / "mine.plist").write_bytes(render(wanted))
    (tmp_path / "other.plist").write_bytes(render(job(tmp_path / "elsewhere")))
    (tmp_path / "broken.plist").write_text("<plist>")
    longer = parse("proxy: {drain_timeout: 60s}")

    assert list(short_exit_timeouts(wanted.config, wanted.settings, [here])) == []
    [warning] = short_exit_timeouts(wanted.config, longer, [here, Place("system", tmp_path / "none")])
    assert warning.startswith(f"{tmp_path}/mine.plist: ExitTimeOut is 12 s, but ")


def test_a_property_list_that_is_none_is_said_to_be(tmp_path):
    assert installed(tmp_path / "none.plist") is None
    for garbage in (b"", b"<plist><dict>", b"bplist00", b"<plist version='1.0'><integer>x</integer></plist>"):
        (tmp_path / "a.plist").write_bytes(garbage)
        with pytest.raises(ValueError, match="cannot read "):
            installed(tmp_path / "a.plist")


def test_agents_and_daemons_have_their_places(monkeypatch):
    monkeypatch.setenv("HOME", "/Users/you")

    assert place(daemon=True) == Place("system", Path("/Library/LaunchDaemons"))
    assert place(daemon=False) == Place(f"gui/{os.getuid()}", Path("/Users/you/Library/LaunchAgents"))
    other = Owner("other", 502, 20, "/Users/other")
    assert place(daemon=False, owner=other) == Place("gui/502", Path("/Users/other/Library/LaunchAgents"))


# Other programs


def test_a_program_that_is_missing_or_late_is_an_answer():
    assert run("no-such-program-at-all").status == MISSING
    assert run("sleep", "5", timeout=0.05).status == LATE


def test_what_a_program_says_is_heard(tmp_path):
    assert run("sh", "-c", "echo out; echo err >&2; exit 4") == Ran(4, "out\n", "err\n")


PRINTED = """gui/501/com.visiquate.ccproxy = {
\tactive count = 1
\tpath = /Users/you/Library/LaunchAgents/com.visiquate.ccproxy.plist
\tstate = spawn scheduled

\tenvironment = {
\t\tXPC_SERVICE_NAME => com.visiquate.ccproxy
\t}

\tminimum runtime = 5
\texit timeout = 45
\truns = 7
\tlast exit code = 78: EX_CONFIG

\tendpoints = {
\t\t"x" = {
\t\t\tstate = active
\t\t\tpid = 99
\t\t}
\t}
}
"""


def test_only_the_outer_lines_of_print_are_believed():
    assert parse_print(PRINTED) == Loaded("spawn scheduled", None, 7, 78, None, 45)


def test_a_service_that_never_ended_has_not_fallen():
    loaded = parse_print("\tstate = running\n\tpid = 4\n\truns = 1\n\tlast exit code = (never exited)\n")

    assert (loaded.pid, loaded.last_exit, loaded.fell) == (4, None, False)


def test_a_format_nobody_knows_says_nothing_and_breaks_nothing():
    assert parse_print("{}") == Loaded()


def test_a_service_of_the_home_is_found_however_its_path_is_spelt(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/supervisor.yaml").touch()
    (tmp_path / "HOME").symlink_to("home")  # what a file system that ignores case does by itself
    (tmp_path / "one.plist").write_bytes(render(job(tmp_path / "HOME")))
    (tmp_path / "other.plist").write_bytes(render(job(tmp_path / "elsewhere")))

    [(_, file, _)] = services_of(tmp_path / "home/supervisor.yaml", [Place("gui/501", tmp_path)])
    assert file.name == "one.plist"
