"""The sequence of an upgrade, with stand-ins for pip, the canary and the daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from ccproxy_supervisor.cli import litellm
from ccproxy_supervisor.cli.home import init
from ccproxy_supervisor.core.model import SUPERSEDED
from ccproxy_supervisor.deploy import locks, maintenance
from ccproxy_supervisor.deploy.environments import Environments
from ccproxy_supervisor.deploy.errors import InstallError, RefusedError
from ccproxy_supervisor.deploy.home import prepare
from ccproxy_supervisor.deploy.maintenance import Maintenance
from ccproxy_supervisor.deploy.upgrade import Target
from ccproxy_supervisor.edge import upgrades
from ccproxy_supervisor.edge.home import Home
from world import NEW, OLD, World, fill, lock_of


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    world.upgrade(OLD)
    world.did.clear()
    return world


def test_an_upgrade_installs_proves_switches_and_rolls_in_this_order(world):
    world.upgrade()

    assert world.did == ["fill", f"prove {NEW}", "roll"]
    assert world.versions == (NEW, OLD)


@pytest.mark.parametrize("hand", ["fill", "prove", "roll"])
def test_whatever_fails_the_old_version_stays_and_so_does_the_way_back(world, hand):
    world.upgrade("1.0.0")
    world.upgrader.rollback()
    assert world.versions == (OLD, "1.0.0")
    world.fails = hand

    with pytest.raises(InstallError, match="does not work"):
        world.upgrade()

    assert world.versions == (OLD, "1.0.0")
    assert {each.version for each in world.environments.all()} == {OLD, "1.0.0"}


def test_workers_that_went_over_before_a_roll_failed_are_brought_back_before_anything_is_removed(world):
    world.upgrade("1.0.0")
    world.upgrader.rollback()
    world.fails, hand, seen = "roll", world.hand, []

    def look(what):
        seen.append((what, world.environments.current.version, len(world.environments.all())))
        hand(what)

    world.hand = look
    with pytest.raises(InstallError, match=r"^roll does not work$"):
        world.upgrade()

    assert seen[-2:] == [("roll", NEW, 3), ("follow", OLD, 3)]
    assert {each.version for each in world.environments.all()} == {OLD, "1.0.0"}


def test_workers_that_cannot_be_brought_back_are_told_of_and_keep_their_environment(world):
    world.fails = ("roll", "follow")
    world.named = (str(world.home / "venvs" / NEW / "bin" / "python"), str(world.environments.current.python))

    with pytest.raises(InstallError, match=r"^roll does not work; nor could every worker be brought back: follow does"):
        world.upgrade()

    assert world.versions == (OLD, None)
    assert {each.version for each in world.environments.all()} == {OLD, NEW}


def test_rolling_back_and_forth_proves_each_time_and_downloads_nothing(world):
    world.upgrade()
    world.did.clear()

    world.upgrader.rollback()
    assert world.versions == (OLD, NEW)
    world.upgrader.rollback()

    assert world.versions == (NEW, OLD)
    assert world.did == [f"prove {OLD}", "roll", f"prove {NEW}", "roll"]


def test_without_another_version_there_is_no_way_back(world):
    with pytest.raises(RefusedError, match="cannot roll back: no other environment"):
        world.upgrader.rollback()


def test_an_environment_that_was_tampered_with_is_not_gone_back_to(world):
    world.upgrade()
    site = next(world.environments.previous.path.glob("lib/*/site-packages"))
    (site / "evil.pth").write_text("import os\n")

    with pytest.raises(RefusedError, match=r"evil\.pth would run code"):
        world.upgrader.rollback()

    assert world.versions == (NEW, OLD)


def test_a_denied_version_is_refused_before_anything_is_resolved(world):
    for version in ("1.82.7", "6.6.6"):
        with pytest.raises(RefusedError, match=f"refused LiteLLM {version}"):
            world.upgrader.find(version)

    assert world.did == []


def test_the_newest_release_is_looked_for_without_the_denied_ones(world):
    target = world.upgrader.find(None)

    assert target.version == NEW
    assert world.did == ["resolve litellm[proxy]!=1.107,!=1.82.7,!=1.82.8,!=6.6.6"]


def test_a_release_must_have_been_out_for_a_while_and_those_passed_over_are_told(tmp_path):
    world = World(tmp_path, wait=7 * 86400.0)
    now, day = datetime.now(UTC), timedelta(days=1)
    world.released = {
        "6.6.6": now - 9 * day,
        "2.3.1": now - day,
        "2.3.0": now - 6 * day,
        "2.2.0": now - 8 * day,
        NEW: now - 30 * day,
    }

    assert world.upgrader.find(None).version == NEW

    since = f"{world.before:%Y-%m-%d %H:%M} UTC"
    assert abs(now - 7 * day - world.before) < timedelta(minutes=1)
    assert world.said[-3:] == [
        "passed over LiteLLM 6.6.6: upgrade.denied names it",
        f"passed over LiteLLM 2.3.1, 2.3.0: uploaded after {since} (upgrade.wait)",
        "passed over LiteLLM 2.2.0: not all of its packages can be installed here, or one was uploaded after then",
    ]


def test_a_version_that_is_named_does_not_wait(tmp_path):
    world = World(tmp_path, wait=7 * 86400.0)
    world.upgrader.find("2.3.1")
    assert world.before is None


def test_without_waiting_everything_that_is_out_is_looked_at(world):
    world.released = {"2.2.0": datetime.now(UTC), NEW: datetime.now(UTC)}
    world.upgrader.find(None)

    assert world.before is None
    assert world.said[-1] == "passed over LiteLLM 2.2.0: not all of its packages can be installed here"


def test_a_lock_with_a_malicious_package_besides_litellm_is_refused(world):
    with pytest.raises(RefusedError, match=r"refused mistralai 2\.4\.6: downloads and runs a program"):
        world.upgrader.upgrade(Target(NEW, lock_of(NEW) + "mistralai==2.4.6 --hash=sha256:00\n"))
    assert world.did == []


def test_a_vulnerable_package_besides_litellm_needs_a_yes_too(world):
    world.agrees = False
    with pytest.raises(RefusedError, match=r"filelock 4\.1\.0: .*CVE-2026-112934"):
        world.upgrader.upgrade(Target(NEW, lock_of(NEW) + "filelock==4.1.0 --hash=sha256:00\n"))
    assert world.did == []


def test_the_newest_that_can_be_installed_here_is_no_downgrade(world):
    world.upgrade("2.2.0")

    with pytest.raises(RefusedError, match=f"refused LiteLLM {NEW}: it is the newest .* here, and 2.2.0 is in use"):
        world.upgrader.find(None)


def test_the_pinned_version_needs_no_resolving(world):
    target = world.upgrader.find(upgrades.pinned())

    assert target.lock == locks.shipped(upgrades.pinned())
    assert world.did == []


def test_a_lock_that_smuggles_a_denied_version_in_is_refused(world):
    with pytest.raises(RefusedError, match=r"refused LiteLLM 1\.82\.8: steals credentials from litellm_init"):
        world.upgrader.upgrade(Target(NEW, lock_of("1.82.8")))

    assert world.did == []


def test_a_vulnerable_version_needs_a_yes(world):
    world.agrees = False
    with pytest.raises(RefusedError, match=r"CVE-2026-49468.*not confirmed; see --yes"):
        world.upgrade("1.83.99")
    assert world.did == []

    world.agrees = True
    world.upgrade("1.83.99")

    assert world.versions == ("1.83.99", OLD)


def test_what_changes_is_shown_with_its_warnings(world):
    world.said.clear()

    world.upgrader.show(Target("1.83.14", lock_of("1.83.14") + "new==1 --hash=sha256:00\n"))

    assert world.said == [
        f"LiteLLM {OLD} → 1.83.14, 2 packages change",
        f"  litellm  {OLD} → 1.83.14",
        "  new        new → 1",
        "  warning: a crafted Host header passes authentication, GHSA-4xpc-pv4p-pm3w (CVE-2026-49468)",
    ]


def test_a_broken_interpreter_is_repaired_from_the_same_lock(world):
    world.upgrade()
    broken = world.environments.current
    broken.python.unlink()
    broken.python.symlink_to("/nowhere/python3.12")

    why = world.upgrader.repair()

    assert why == f"cannot run {broken.python}: it links to /nowhere/python3.12, which is gone"
    assert world.versions == (f"{NEW}-2", OLD)
    assert world.environments.current.stamp.read_text() == lock_of(NEW)
    assert not broken.path.exists()
    assert world.did[-3:] == ["fill", f"prove {NEW}-2", "roll"]


def test_a_lock_of_another_python_is_made_anew_when_repairing(world):
    current = world.environments.current
    current.stamp.write_text(f"# for cpython-27 on amiga\n{lock_of(OLD)}")
    current.python.unlink()

    with pytest.raises(InstallError, match="the environment has"):  # the stand-in resolves to NEW whatever is asked
        world.upgrader.repair()

    assert world.did == [f"resolve litellm[proxy]=={OLD}", "fill"]
    assert world.versions == (OLD, None)


def test_what_is_whole_needs_no_repair(world):
    assert world.upgrader.repair() is None
    assert world.did == []


def test_an_interpreter_that_is_gone_cannot_be_rolled_back_to(world):
    world.upgrade()
    world.environments.previous.python.unlink()

    with pytest.raises(InstallError, match=r"cannot roll back to LiteLLM 2\.0\.0: cannot run"):
        world.upgrader.rollback()


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from world import World
world, left = World(Path({home!r})), {steps}
def step(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
hand = world.hand
def counted(what):
    step()
    sys.setprofile(lambda frame, event, arg: step() if event == "c_call" and arg in (os.rename, os.symlink, os.replace) else None)
    hand(what)
world.hand = counted
world.upgrade()
"""


@pytest.mark.parametrize("steps", range(1, 9))  # fill, rename, prove, two links (each a symlink and its rename), roll
def test_a_killed_upgrade_leaves_a_home_that_works_can_be_upgraded_and_knows_its_way_back(world, steps):
    world.upgrade("1.0.0")
    world.upgrader.rollback()
    code = KILLED.format(home=str(world.home), steps=steps, tests=str(Path(__file__).parents[1]))

    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert world.environments.current.complete
    assert world.versions in ((OLD, "1.0.0"), (NEW, OLD))
    world.upgrade()
    assert world.versions[0] == NEW
    assert all(each.complete for each in world.environments.all())


# With a home and its daemon.


ECHO = "model_list: [{model_name: echo, litellm_params: {model: hosted_vllm/echo, mock_response: hi}}]\n"


@dataclass
class Told:
    """A daemon that answers as it is told; None: none runs."""

    answers: dict[str, dict[str, object] | None]
    asked: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __call__(self, method, path, body, timeout):
        self.asked.append((path, body))
        return self.answers.get(path)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A home as `init` makes it, on OLD; pip is a stand-in."""
    folder = tmp_path / "home"
    prepare(folder, [].append)
    monkeypatch.setattr(maintenance.pip, "install", lambda python, lock, progress, inherit: fill(python, lock))
    monkeypatch.setattr(maintenance.pip, "resolve", lambda requirement, *_: resolved(requirement))
    (folder / "config.yaml").write_text(ECHO)
    maintenance.install(Environments(folder), OLD + ".1", lock_of(OLD + ".1"), fill, [].append)
    Environments(folder).switch(Environments(folder).find(OLD + ".1"))
    return Home(folder / "supervisor.yaml")


def resolved(requirement):
    item = {"name": "litellm", "version": requirement.rpartition("==")[2]}
    return {"install": [{"metadata": item, "download_info": {"archive_info": {"hashes": {"sha256": "00"}}}}]}


def opened(place, daemon, said=None, agrees=False):
    say = (said if said is not None else []).append
    return Maintenance(place, daemon, say, lambda *_: None, lambda _: agrees)


WELL = {"/canary": {"ok": True, "detail": "", "seconds": 1.0}, "/restart": {"result": "rolled", "detail": ""}}


def test_a_running_daemon_is_asked_to_try_and_then_to_roll(place):
    daemon, said = Told(WELL), []

    opened(place, daemon, said).upgrade(NEW, dry_run=False)

    python = str(place.folder / "venvs" / NEW / "bin" / "python")
    asked = [("/canary", {"python": python, "model": "echo"}), ("/restart", {"cause": "upgrade"}), ("/status", {})]
    assert daemon.asked == asked
    assert os.readlink(place.folder / "venv") == f"venvs/{NEW}"
    assert said[-1] == f"LiteLLM {NEW} is in use"
    note = upgrades.read(place.run)
    assert (note.action, note.result, note.before, note.version) == ("upgrade", "done", OLD + ".1", NEW)
    assert not (place.run / "incidents").exists()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            {"/canary": {"ok": False, "detail": "model echo: answered 500", "seconds": 1.0}},
            "does not serve: model echo",
        ),
        (WELL | {"/restart": {"result": "failed", "detail": "never ready"}}, "were not replaced: never ready"),
    ],
)
def test_what_the_daemon_does_not_like_is_undone_and_written_down(place, answers, reason):
    with pytest.raises(InstallError, match=reason):
        opened(place, Told(answers)).upgrade(NEW, dry_run=False)

    assert os.readlink(place.folder / "venv") == f"venvs/{OLD}.1"
    note = upgrades.read(place.run)
    assert (note.result, note.version) == ("failed", NEW)
    assert reason in note.detail
    (incident,) = (place.run / "incidents").glob("*-upgrade.json")
    assert reason in json.loads(incident.read_text())["detail"]


def test_a_refusal_is_written_down_too(place):
    with pytest.raises(RefusedError):
        opened(place, Told(WELL)).upgrade("1.82.8", dry_run=False)

    assert upgrades.read(place.run).result == "refused"
    assert list((place.run / "incidents").glob("*-upgrade.json"))


def test_a_dry_run_changes_and_writes_nothing(place):
    said = []
    opened(place, Told(WELL), said).upgrade(NEW, dry_run=True)
    with pytest.raises(RefusedError):
        opened(place, Told(WELL)).upgrade("1.82.8", dry_run=True)

    assert said == [
        f"choosing versions for litellm[proxy]=={NEW}",
        f"LiteLLM {OLD}.1 → {NEW}, 1 packages change",
        f"  litellm  {OLD}.1 → {NEW}",
        "nothing was changed (--dry-run)",
    ]
    assert upgrades.read(place.run) is None
    assert not (place.folder / "venvs" / NEW).exists()


def workers(place, *versions, state="serving"):
    return {
        "workers": [{"state": state, "python": f"{place.folder}/venvs/{version}/bin/python"} for version in versions]
    }


@pytest.mark.parametrize(
    ("running", "dry_run", "told", "asked"),
    [
        ([], False, "nothing to do", ["/status"]),
        ([OLD + ".1", OLD + ".1"], False, "nothing to do", ["/status"]),
        ([OLD + ".1", NEW], False, "the workers followed", ["/status", "/restart"]),
        ([OLD + ".1", NEW], True, "the workers would follow", ["/status"]),
    ],
)
def test_a_version_in_use_is_nothing_to_do_but_for_workers_that_missed_it(place, running, dry_run, told, asked):
    daemon, said = Told(WELL | {"/status": workers(place, *running)}), []

    opened(place, daemon, said).upgrade(OLD + ".1", dry_run=dry_run)

    assert said[-1] == f"LiteLLM {OLD}.1 is in use; {told}"
    assert [path for path, _ in daemon.asked] == asked
    assert upgrades.read(place.run) is None


def test_a_worker_that_finishes_its_last_streams_has_missed_nothing(place):
    daemon, said = Told({"/status": workers(place, NEW, state="draining")}), []

    opened(place, daemon, said).upgrade(OLD + ".1", dry_run=False)

    assert said[-1] == f"LiteLLM {OLD}.1 is in use; nothing to do"


def test_an_order_that_takes_over_a_roll_is_waited_for(place):
    superseded = {"result": "failed", "detail": f"{SUPERSEDED}; keeping generation 1"}
    daemon = Told(WELL | {"/restart": superseded, "/reload": {"result": "unchanged", "detail": "nothing changed"}})

    opened(place, daemon).upgrade(NEW, dry_run=False)

    assert [path for path, _ in daemon.asked] == ["/canary", "/restart", "/reload", "/status"]
    assert os.readlink(place.folder / "venv") == f"venvs/{NEW}"


def test_after_a_failed_roll_the_workers_are_brought_back_and_what_they_run_from_is_kept(place):
    failed = {"result": "failed", "detail": "never ready"}
    maintenance.install(Environments(place.folder), "1.0.0", lock_of("1.0.0"), fill, [].append)
    place.settings_file.write_text("upgrade: {keep: 1}\n")
    daemon = Told(WELL | {"/restart": failed, "/reload": failed, "/status": workers(place, NEW, OLD + ".1")})

    with pytest.raises(InstallError, match=r"never ready; nor could every worker be brought back: .* never ready"):
        opened(place, daemon).upgrade(NEW, dry_run=False)

    assert [path for path, _ in daemon.asked] == ["/canary", "/restart", "/reload", "/status"]
    assert {each.version for each in Environments(place.folder).all()} == {OLD + ".1", NEW}


def test_a_daemon_that_does_not_say_what_it_runs_from_keeps_everything(place):
    maintenance.install(Environments(place.folder), "1.0.0", lock_of("1.0.0"), fill, [].append)

    def daemon(method, path, body, timeout):
        if path == "/status":
            raise InstallError("no answer")
        return WELL[path]

    opened(place, daemon).upgrade(NEW, dry_run=False)

    assert {each.version for each in Environments(place.folder).all()} == {"1.0.0", OLD + ".1", NEW}


def test_what_was_in_use_is_looked_at_when_nobody_else_is_at_work(place):
    """A second upgrade waits for the first; what it finds then is where it started from."""
    environments, said = Environments(place.folder), []
    maintenance.install(environments, NEW, lock_of(NEW), fill, [].append)

    def say(text):
        said.append(text)
        if text.startswith("waiting"):
            environments.switch(environments.find(NEW))
            first.__exit__(None, None, None)

    first = environments.lock(lambda: None)
    first.__enter__()
    Maintenance(place, Told(WELL), say, lambda *_: None, lambda _: False).rollback()

    assert said[0] == "waiting for another installation to end"
    assert said[-1] == f"LiteLLM {OLD}.1 is in use again"
    note = upgrades.read(place.run)
    assert (note.action, note.before, note.version) == ("rollback", NEW, OLD + ".1")


def test_a_dry_run_that_waited_writes_nothing(place):
    environments = Environments(place.folder)
    maintenance.install(environments, NEW, lock_of(NEW), fill, [].append)

    def say(text):
        if text.startswith("waiting"):
            environments.switch(environments.find(NEW))
            first.__exit__(None, None, None)

    first = environments.lock(lambda: None)
    first.__enter__()
    Maintenance(place, Told({}), say, lambda *_: None, lambda _: False).upgrade(NEW, dry_run=True)

    assert upgrades.read(place.run) is None


def test_init_does_not_replace_a_version_that_can_be_repaired(place):
    python = place.folder / "venv" / "bin" / "python"
    python.unlink()

    with pytest.raises(RefusedError, match=r"it is gone; run: ccproxy-supervisor upgrade --repair"):
        opened(place, Told({})).first("venv/bin/python")


@pytest.fixture
def empty(place, monkeypatch):
    """The home without its link, and its supervisor pins OLD."""
    (place.folder / "venv").unlink()
    monkeypatch.setattr(upgrades, "pinned", lambda: OLD)
    monkeypatch.setattr(locks, "shipped", lock_of)
    return place


def test_init_installs_no_denied_version(empty):
    with pytest.raises(RefusedError, match=r"refused LiteLLM 2\.0\.0: upgrade\.denied names it"):
        opened(empty, Told({})).first("venv/bin/python", ["2.0"])

    assert not (empty.folder / "venvs" / OLD).exists()


def test_init_heeds_the_denied_versions_of_the_settings(empty, monkeypatch):
    monkeypatch.setattr(maintenance.pip, "install", lambda *_: pytest.fail("downloaded"))
    empty.settings_file.write_text(f"upgrade: {{denied: ['{OLD}']}}\n")

    result = CliRunner().invoke(init, [str(empty.folder)])

    assert (result.exit_code, result.stderr) == (1, f"refused LiteLLM {OLD}: upgrade.denied names it\n")


def test_init_looks_at_an_environment_before_it_takes_it(empty):
    new = maintenance.install(Environments(empty.folder), OLD, lock_of(OLD), fill, [].append)
    next(new.path.glob("lib/*/site-packages")).joinpath("evil.pth").write_text("import os\n")

    with pytest.raises(RefusedError, match=r"evil\.pth would run code"):
        opened(empty, Told({})).first("venv/bin/python")

    assert not (empty.folder / "venv").exists()


def test_a_faulty_configuration_is_told_before_anything_is_downloaded(place, monkeypatch):
    place.settings_file.write_text("proxy: {prot: 1}\n")
    monkeypatch.setattr(maintenance.pip, "install", lambda *_: pytest.fail("downloaded"))

    with pytest.raises(maintenance.ConfigError, match=r"proxy\.prot"):
        opened(place, Told(WELL)).upgrade(NEW, dry_run=False)


def test_an_interpreter_of_the_operators_own_is_left_alone(place):
    place.settings_file.write_text("proxy: {python: /usr/bin/python3}\n")
    said = []

    opened(place, Told({}), said).first("/usr/bin/python3")
    with pytest.raises(RefusedError, match=r"proxy\.python is /usr/bin/python3, which is not ours"):
        opened(place, Told(WELL)).upgrade(NEW, dry_run=False)

    assert said == ["LiteLLM is not installed: /usr/bin/python3 is yours to look after"]


def test_with_only_remote_models_the_one_to_try_must_be_named(place):
    remote = "model_list: [{model_name: gpt, litellm_params: {model: openai/gpt, api_base: 'https://example.org'}}]\n"
    (place.folder / "config.yaml").write_text(remote)
    with pytest.raises(RefusedError, match=r"of gpt would cost money; set upgrade\.canary_model"):
        opened(place, Told(WELL)).upgrade(NEW, dry_run=False)

    place.settings_file.write_text("upgrade: {canary_model: gpt}\n")
    daemon = Told(WELL)
    opened(place, daemon).upgrade(NEW, dry_run=False)

    assert daemon.asked[0][1]["model"] == "gpt"


# The commands.


def command(place, *words):
    return CliRunner().invoke(litellm.upgrade, [*words, "--config", str(place.settings_file)])


@pytest.mark.parametrize(
    "words",
    [("--to", "latest"), ("--to", "1.2.3", "--latest"), ("--repair", "--to", "1.2.3"), ("--repair", "--dry-run")],
)
def test_what_makes_no_sense_is_misuse(place, words):
    assert command(place, *words).exit_code == 2


def test_a_refusal_is_said_on_standard_error_and_ends_with_1(place):
    result = command(place, "--to", "1.82.8")

    assert result.exit_code == 1
    assert result.stderr.startswith("refused LiteLLM 1.82.8: steals credentials from litellm_init.pth")


def test_without_a_terminal_nobody_says_yes_to_a_vulnerable_version(place):
    result = command(place, "--to", "v1.83.0")

    assert result.exit_code == 1
    assert "(not confirmed; see --yes)" in result.stderr
    assert "warning: SQL injection through the API key, without logging in, GHSA-r75f-5x8p-qvmc" in result.stdout


def test_without_a_way_back_rollback_says_so(place):
    result = CliRunner().invoke(litellm.rollback, ["--config", str(place.settings_file)])

    assert result.exit_code == 1
    assert result.stderr == "cannot roll back: no other environment was in use before this one\n"
