from __future__ import annotations

import errno
import importlib.util
import marshal
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import sample_status
from ccproxy_supervisor.deploy import litellm, locks
from ccproxy_supervisor.deploy.advisories import advisories
from ccproxy_supervisor.deploy.environments import Environment, Environments, broken_interpreter, in_use
from ccproxy_supervisor.deploy.errors import InstallError, RefusedError
from ccproxy_supervisor.deploy.pip import _reason
from ccproxy_supervisor.edge import upgrades
from ccproxy_supervisor.edge.home import shipped
from ccproxy_supervisor.view.sheet import sheet
from scraped import samples
from wheels import unpack

ROOT = Path(__file__).parents[2]
LOCK = "litellm==1.2.3 \\\n    --hash=sha256:00\n"


@pytest.fixture
def environments(tmp_path):
    environments = Environments(tmp_path)
    environments.folder.mkdir()
    return environments


def installed(environments, version="1.2.3", more=None, said=None):
    def fill(python, lock):
        assert lock.read_text() == LOCK
        unpack(python.parent.parent, version, more)

    return litellm.install(environments, "1.2.3", LOCK, fill, [].append if said is None else said.append)


def made(environments, name, complete=True):
    """A folder that counts as an environment, without the cost of one."""
    environment = Environment(environments.folder / name)
    (environment.path / "bin").mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    if complete:
        environment.stamp.write_text(LOCK)
    return environment


def test_an_installation_is_complete_inspected_and_keeps_its_lock(environments):
    said = []

    new = installed(environments, said=said)

    assert new.path == environments.folder / "1.2.3"
    assert new.complete
    assert new.stamp.read_text() == LOCK
    assert new.broken is None
    assert not (new.path / "bin" / "pip").exists()
    assert said == [
        f"LiteLLM 1.2.3: installing 1 packages into {new.path}",
        "LiteLLM 1.2.3: inspecting what was installed",
    ]


def test_what_runs_is_compiled_by_us_from_what_was_looked_at(environments):
    brought = {"litellm/__pycache__/__init__.cpython-39.pyc": b"", "litellm/broken.py": b"for some = other Python\n"}

    new = installed(environments, more=brought)

    (package,) = new.path.glob("lib/*/site-packages/litellm")
    cache = importlib.util.cache_from_source(str(package / "__init__.py"))
    assert os.listdir(package / "__pycache__") == [os.path.basename(cache)]


def test_bytecode_is_made_anew_before_an_environment_is_used_again(environments):
    new = installed(environments)
    (cache,) = new.path.glob("lib/*/site-packages/litellm/__pycache__/__init__.*")
    header = cache.read_bytes()[:16]  # as Python wrote it: nothing tells it from what the source says
    cache.write_bytes(header + marshal.dumps(compile("import antigravity", "", "exec")))

    litellm.examine(new, "1.2.3")

    assert not cache.exists()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), InstallError("no network")])
def test_a_failed_installation_leaves_nothing(environments, error):
    def fill(python, lock):
        unpack(python.parent.parent, "1.2.3")
        raise error

    with pytest.raises(InstallError, match=r"No space left on device; nothing was kept|no network"):
        litellm.install(environments, "1.2.3", LOCK, fill, print)

    assert os.listdir(environments.folder) == []


def test_an_interrupted_installation_is_no_environment_and_is_removed_by_the_next(environments):
    unpack(made(environments, "1.2.3", complete=False).path, "1.2.3")
    assert environments.find("1.2.3") is None

    new = installed(environments)

    assert environments.all() == [new]


def test_code_that_would_run_at_start_is_refused_and_removed(environments):
    with pytest.raises(
        RefusedError, match=r"refused LiteLLM 1\.2\.3: litellm_init\.pth would run code .* none of it was run"
    ):
        installed(environments, more={"litellm_init.pth": b"import os\n"})

    assert environments.all() == []


def test_another_version_than_the_lock_promised_is_refused(environments):
    with pytest.raises(InstallError, match=r"cannot install LiteLLM 1\.2\.3: the environment has 6\.6\.6"):
        installed(environments, version="6.6.6")


def test_too_little_space_is_told_before_anything_is_downloaded(environments, monkeypatch):
    monkeypatch.setattr(litellm.shutil, "disk_usage", lambda _: SimpleNamespace(free=700_000_000))

    with pytest.raises(InstallError, match=r"0\.7 GB free at .*, 1\.5 GB needed"):
        litellm.install(environments, "1.2.3", LOCK, lambda *_: pytest.fail("downloaded"), print)


def test_a_version_that_is_built_again_gets_a_folder_of_its_own(environments):
    made(environments, "1.2.3")
    made(environments, "1.2.3-2")

    again = environments.fresh("1.2.3")

    assert again.path.name == "1.2.3-3"
    assert again.version == "1.2.3"


def test_switching_remembers_the_way_back(environments):
    old, new = made(environments, "1.0.0"), made(environments, "1.2.3")
    environments.switch(old)
    assert (environments.current, environments.previous) == (old, None)

    environments.switch(new)

    assert (environments.current, environments.previous) == (new, old)
    assert os.readlink(environments.link) == "venvs/1.2.3"


def test_the_same_version_built_again_is_no_way_back(environments):
    old, new, again = (made(environments, name) for name in ("1.0.0", "1.2.3", "1.2.3-2"))
    for environment in (old, new, again):
        environments.switch(environment)

    assert (environments.current, environments.previous) == (again, old)


def test_restoring_undoes_a_switch(environments):
    old, new = made(environments, "1.0.0"), made(environments, "1.2.3")
    environments.switch(old)
    environments.switch(new)

    environments.use(old)

    assert (environments.current, environments.previous) == (old, None)


def test_pruning_keeps_the_one_in_use_the_one_before_and_what_still_runs(environments):
    older, old, new, running = (made(environments, name) for name in ("1.0.0", "1.1.0", "1.2.3", "0.9.0"))
    for environment in (older, old, new):
        environments.switch(environment)
    command = [str(running.python.resolve()), "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen([str(running.python), *command[1:]], stdin=subprocess.PIPE) as process:
        assert in_use(running)
        assert environments.prune(2) == [older]
        process.stdin.close()

    assert environments.prune(2) == [running]
    assert {each.path.name for each in environments.all()} == {"1.1.0", "1.2.3"}
    assert environments.prune(1) == [old]
    assert environments.all() == [new]


def test_what_a_daemon_names_is_kept(environments):
    named, new = made(environments, "1.0.0"), made(environments, "1.2.3")
    environments.switch(new)

    assert environments.prune(1, [str(named.python)]) == []
    assert environments.prune(1, [str(new.python)]) == [named]


def test_what_runs_under_a_framework_python_is_kept(environments, monkeypatch):
    """As macOS shows such a process, and those of others."""
    running, new = made(environments, "1.0.0"), made(environments, "1.2.3")
    environments.switch(new)
    words = [
        "/Library/Frameworks/Python.framework/Versions/3.12/Resources/Python.app/Contents/MacOS/Python",
        "launcher.py",
    ]

    def theirs():
        raise psutil.AccessDenied

    ours = {"cmdline": lambda: words, "environ": lambda: {"__PYVENV_LAUNCHER__": str(running.python)}}
    shown = [SimpleNamespace(cmdline=theirs, environ=theirs), SimpleNamespace(**ours)]
    monkeypatch.setattr(psutil, "process_iter", lambda: shown)

    assert environments.prune(1) == []
    shown.pop()
    assert environments.prune(1) == [running]


def test_pruning_removes_what_cannot_be_started_any_more(environments):
    broken, new = made(environments, "1.2.3"), made(environments, "1.2.3-2")
    environments.switch(broken)
    broken.python.unlink()
    environments.switch(new)

    assert environments.prune(2) == [broken]


def test_a_second_change_waits_for_the_first_and_for_its_orphans(environments):
    waited = []
    code = "import sys; print(flush=True); sys.stdin.read()"
    with environments.lock(lambda: None) as inherited:
        orphan = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[inherited]
        )
        orphan.stdout.readline()

    def wait():
        waited.append(True)
        orphan.send_signal(signal.SIGKILL)
        orphan.communicate()

    with environments.lock(wait):
        assert waited == [True]


def test_an_interpreter_that_is_gone_is_named(tmp_path):
    (tmp_path / "bin").mkdir()
    assert broken_interpreter(tmp_path) == f"cannot run {tmp_path}/bin/python: it is gone"

    (tmp_path / "bin" / "python").symlink_to("python3")
    (tmp_path / "bin" / "python3").symlink_to("/opt/homebrew/Cellar/python@3.12/3.12.1/bin/python3.12")

    gone = "/opt/homebrew/Cellar/python@3.12/3.12.1/bin/python3.12"
    assert broken_interpreter(tmp_path) == f"cannot run {tmp_path}/bin/python: it links to {gone}, which is gone"


def test_an_interpreter_whose_home_is_gone_is_named(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("")
    (tmp_path / "pyvenv.cfg").write_text("home = /opt/gone/bin\nversion = 3.12.1\n")

    assert (
        broken_interpreter(tmp_path)
        == f"cannot run {tmp_path}/bin/python: it was made from /opt/gone/bin, which is gone"
    )


def test_an_interpreter_that_became_another_version_is_named(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib" / "python3.10" / "site-packages").mkdir(parents=True)
    (tmp_path / "python3.12").touch()
    (tmp_path / "bin" / "python").symlink_to("../python3.12")
    (tmp_path / "pyvenv.cfg").touch()

    told = f"cannot run {tmp_path}/bin/python: it is python3.12 now, and its packages are for python3.10"
    assert broken_interpreter(tmp_path) == told


def test_the_shipped_lock_is_of_the_pinned_version_and_hashed_throughout():
    lock = locks.shipped(upgrades.pinned())
    packages = [line for line in lock.splitlines() if "==" in line and not line.startswith(" ")]

    assert locks.pins(lock)["litellm"] == upgrades.pinned()
    assert lock.count("--hash=sha256:") >= len(packages) > 100
    assert locks.fits(lock)
    assert "://" not in lock
    assert locks.shipped("0.0.1") is None


def test_the_shipped_version_is_neither_malicious_nor_known_to_be_vulnerable():
    pins = locks.pins(locks.shipped(upgrades.pinned()))
    assert advisories().denied(pins) == []
    assert advisories().known(pins) == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_our_own_locks_hold_nothing_malicious_nor_known_to_be_vulnerable(lock):
    pins = locks.pins((ROOT / lock).read_text())
    assert len(pins) > 15
    assert advisories().denied(pins) == []
    assert advisories().known(pins) == []


def test_every_entry_has_a_package_and_a_source():
    for kind, keys in {
        "denied": {"package", "version", "about", "source"},
        "vulnerable": {"package", "versions", "about", "id"},
    }.items():
        assert [each for each in shipped()[kind] if set(each) != keys] == []
    assert {each["version"] for each in shipped()["denied"]} >= {"1.82.7", "1.82.8", "1.107.0"}


def test_a_lock_is_made_from_what_pip_resolved():
    item = {
        "metadata": {"name": "LiteLLM_Extra", "version": "2"},
        "download_info": {"archive_info": {"hashes": {"sha256": "ab"}}},
    }

    lock = locks.from_report({"install": [item]})

    assert lock.endswith("\nlitellm-extra==2 --hash=sha256:ab\n")
    assert locks.pins(lock) == {"litellm-extra": "2"}
    assert locks.fits(lock)
    assert not locks.fits("# for cpython-27 on amiga\nlitellm==1 --hash=sha256:ab\n")


@pytest.mark.parametrize("found", [{"archive_info": {"hashes": {"md5": "ab"}}}, {"archive_info": {}}, {"vcs_info": {}}])
def test_a_package_that_cannot_be_hashed_is_not_locked(found):
    item = {"metadata": {"name": "litellm", "version": "2"}, "download_info": found}

    with pytest.raises(InstallError, match="cannot lock litellm==2: the package index names no sha256 of it"):
        locks.from_report({"install": [item]})


def test_markers_decide_what_a_lock_installs_here():
    lock = (
        "a==1 ; python_version < '3' \\\n    --hash=sha256:00\nb==2 ; python_version >= '3' \\\n    --hash=sha256:00\n"
    )

    assert locks.pins(lock) == {"b": "2"}


def test_changes_name_litellm_first():
    before, after = (
        {"a": "1", "gone": "1", "litellm": "1", "same": "1"},
        {"a": "2", "litellm": "2", "new": "1", "same": "1"},
    )

    assert list(locks.changes(before, after)) == [
        ("litellm", "1", "2"),
        ("a", "1", "2"),
        ("gone", "1", ""),
        ("new", "", "1"),
    ]


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.82.7.0", "1.82.7+local.1", "9.9.0", "1.107.0", "1.107"])
def test_a_denied_version_is_denied_however_it_is_spelled(version):
    assert advisories(["9.9"]).denied({"litellm": version})


@pytest.mark.parametrize("version", ["1.82.6", "1.83.0", "1.82.70", "1.106.2", "1.107.1", "1.107.0.dev1"])
def test_other_versions_are_not_denied(version):
    assert advisories().denied({"litellm": version}) == []


def test_vulnerable_ranges_end_where_they_were_mended():
    known = lambda version: advisories().known({"litellm": version})  # noqa: E731

    assert any("CVE-2026-49468" in about for about in known("1.83.99"))
    assert known("1.84.0") == []
    assert any("CVE-2026-42208" in about for about in known("1.81.16"))
    assert not any("CVE-2026-42208" in about for about in known("1.81.15"))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            [
                "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError(': /simple/litellm/",
                "ERROR: Could not find a version that satisfies the requirement litellm==1.2.3 (from versions: none)",
                "ERROR: No matching distribution found for litellm==1.2.3",
            ],
            "the package index does not answer; is there a network?",
        ),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
        ),
        (
            ["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated…"],
            "a package is not the one that the lock names (its hash differs); it was not installed",
        ),
        (
            [
                "ERROR: Ignored the following yanked versions: 1",
                "ERROR: No matching distribution found for litellm==9.9",
            ],
            "No matching distribution found for litellm==9.9",
        ),
        ([], "pip ended without a reason ()"),
    ],
)
def test_the_reason_is_one_a_person_can_act_on(said, reason):
    assert _reason(said) == reason


def test_the_note_of_the_last_change_comes_back_and_rubbish_is_no_note(tmp_path):
    note = upgrades.Upgrade("upgrade", "failed", 1.0, 2.0, "1.2.3", "1.0.0", "why")
    upgrades.write(tmp_path, note)

    assert upgrades.read(tmp_path) == note
    assert oct((tmp_path / "upgrade.json").stat().st_mode)[-3:] == "600"

    (tmp_path / "upgrade.json").write_text("[")
    assert upgrades.read(tmp_path) is None


def test_the_daemon_shows_the_last_change_and_what_is_pinned(tmp_path):
    shown = upgrades.Upgrades(tmp_path)
    assert shown.document() == {"pinned": upgrades.pinned(), "last": None}
    pinned = f"ccproxy_litellm_upgrade_pinned_info{{version={upgrades.pinned()}}}"
    assert samples(shown) == {pinned: 1}

    upgrades.write(tmp_path, upgrades.Upgrade("upgrade", "failed", 1795459200.0, 2.0, "1.2.3", "1.0.0", "why"))

    assert shown.document()["last"] == {
        "action": "upgrade",
        "result": "failed",
        "at": "2026-11-23T18:40:00Z",
        "seconds": 2.0,
        "version": "1.2.3",
        "before": "1.0.0",
        "detail": "why",
    }
    assert samples(shown) == {
        pinned: 1,
        "ccproxy_litellm_upgrade_last_success": 0,
        "ccproxy_litellm_upgrade_timestamp_seconds": 1795459200.0,
    }


@pytest.mark.parametrize(
    ("upgrade", "told"),
    [
        ({"pinned": "1.2.3", "last": None}, "1.2.3"),
        ({"pinned": "1.3.0", "last": None}, "1.2.3 (this supervisor was tested with 1.3.0)"),
        (
            {
                "pinned": "1.2.3",
                "last": {"action": "rollback", "result": "failed", "at": "2026-11-23T19:00:00Z", "detail": "why"},
            },
            "1.2.3; rollback failed 1 h ago: why",
        ),
    ],
)
def test_status_shows_which_litellm_runs_and_what_became_of_the_last_change(upgrade, told):
    head = dict(sheet(sample_status.document(litellm="1.2.3", upgrade=upgrade), sample_status.NOW)[0])

    assert head["litellm"].text == told


def test_pip_is_condensed_to_how_far_it_is():
    shown = []
    told = litellm.Condensed(2, lambda *state: shown.append(state))

    for line in (
        "Looking in links: /x",
        "Collecting a==1 (from -r lock (line 1))",
        "  Downloading a-1-py3-none-any.whl (3 kB)",
        "Processing /opt/b-2-py3-none-any.whl (from -r lock (line 3))",
        "Installing collected packages: a, b",
    ):
        told(line)

    assert shown == [(1, 2, "a==1"), (2, 2, "b-2-py3-none-any.whl"), (2, 2, "unpacking")]
