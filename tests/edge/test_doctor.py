"""What `doctor` makes of its checks, and the checks of configuration and LiteLLM's environment."""

import plistlib
from dataclasses import replace

import pytest

from ccproxy_supervisor.core.litellm import LiteLLMConfig
from ccproxy_supervisor.core.plan import Birth, Plan
from ccproxy_supervisor.deploy import doctor
from ccproxy_supervisor.deploy.doctor import configuration, interpreter, mac
from ccproxy_supervisor.deploy.doctor.finding import Finding, Level, exit_code
from ccproxy_supervisor.deploy.launchd import plist, render
from doctor_stage import LLAMA, Stage


@pytest.fixture
def stage(tmp_path, monkeypatch):
    return Stage(tmp_path, monkeypatch)


def test_a_check_that_breaks_does_not_hide_the_others(stage, monkeypatch):
    def breaks(scene):
        raise RuntimeError("boom")

    monkeypatch.setattr(doctor, "TOPICS", {"Mac": (breaks, mac.power)})
    found = list(doctor.examine(stage.scene))

    assert [(topic, finding.level) for topic, finding in found] == [("Mac", Level.WARN), ("Mac", Level.SKIP)]
    assert found[0][1].evidence == "RuntimeError('boom')"


@pytest.mark.parametrize(
    ("levels", "code"), [([], 0), (["ok", "skip"], 0), (["ok", "warn"], 1), (["warn", "fail", "ok"], 2)]
)
def test_the_exit_code_follows_the_worst(levels, code):
    assert exit_code(Finding(Level(level), "") for level in levels) == code


def test_what_install_writes_is_what_doctor_wants(stage):
    assert plistlib.loads(render(stage.job)) == plist(stage.job)


def test_each_fault_of_the_settings_is_a_finding(stage):
    (stage.folder / "supervisor.yaml").write_text("proxy: {prot: 1}\nlogs: {keep: none}\n")
    scene = stage.scene
    del scene.__dict__["plan"]
    found = list(configuration.settings(scene))

    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert "proxy.prot" in found[0].evidence


def test_usable_settings_are_told_with_their_models(stage):
    stage.models = [LLAMA]
    [finding] = configuration.settings(stage.scene)

    assert (finding.level, finding.evidence.rpartition("; ")[2]) == (Level.OK, "models: llama2")


def test_a_home_others_can_read_is_found_with_its_remedy(stage):
    assert stage.found(configuration.permissions) == [(Level.OK, "home, logs and secrets are ours alone")]
    stage.folder.chmod(0o755)
    [finding] = configuration.permissions(stage.scene)

    assert (finding.level, finding.remedy) == (Level.FAIL, f"chmod 700 '{stage.folder}'")


def test_a_program_that_others_could_replace_is_found_with_its_remedy(stage):
    (stage.tmp / "tools/bin").mkdir(parents=True)
    (stage.tmp / "tools/bin/python").touch()
    scene = replace(stage.scene, python=str(stage.tmp / "tools/bin/python"))
    assert [finding.level for finding in configuration.custody(scene)] == [Level.OK]
    (stage.tmp / "tools").chmod(0o777)

    [finding] = configuration.custody(scene)

    assert (finding.level, finding.title) == (Level.FAIL, "the supervisor's own program could be replaced")
    assert finding.remedy.endswith(f"-w '{stage.tmp}/tools'")


@pytest.mark.parametrize(("free", "level"), [(10 << 20, Level.FAIL), (500 << 20, Level.WARN), (1 << 40, Level.OK)])
def test_a_disk_that_fills_is_noticed_before_it_is_full(stage, monkeypatch, free, level):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))

    assert {finding.level for finding in configuration.disk(stage.scene)} == {level}


def test_a_home_in_a_guarded_folder_is_warned_of(stage):
    assert stage.found(configuration.place) == []
    stage.folder = stage.tmp / "Documents/ccproxy"

    assert stage.found(configuration.place) == [
        (Level.WARN, "the home is in ~/Documents, which macOS closes to services")
    ]


def test_a_program_in_a_guarded_folder_is_warned_of_as_well(stage):
    words = [str(stage.tmp / "Desktop/checkout/.venv/bin/python"), *plist(stage.job)["ProgramArguments"][1:]]
    stage.installed(ProgramArguments=words)
    [finding] = configuration.place(stage.scene)

    assert finding.title == "the supervisor's program is in ~/Desktop, which macOS closes to services"
    assert finding.evidence == str(stage.tmp / "Desktop/checkout/.venv/bin")


def test_a_home_behind_a_link_is_judged_by_where_it_is(stage):
    (stage.tmp / "Documents").mkdir()
    stage.folder.rename(stage.tmp / "Documents/home")
    stage.folder.symlink_to(stage.tmp / "Documents/home")

    assert [title for _, title in stage.found(configuration.place)] == [
        "the home is in ~/Documents, which macOS closes to services"
    ]


@pytest.fixture
def venv(stage):
    """A home's `venv` that looks like one with LiteLLM in it; its interpreter leaves a mark when it is started."""
    bin_, site = stage.folder / "venv/bin", stage.folder / "venv/lib/python3.11/site-packages"
    bin_.mkdir(parents=True)
    site.mkdir(parents=True)
    (bin_ / "python").write_text('#!/bin/sh\n: >>"$MARK"\nexit $STATUS\n')
    (bin_ / "python").chmod(0o755)
    stage.mark, stage.status = stage.tmp / "started", "0"
    stage.site = site
    release(stage, "1.106.2")


def release(stage, version):
    package = stage.site / f"litellm-{version}.dist-info"
    package.mkdir()
    (package / "RECORD").write_text(f"litellm-{version}.dist-info/RECORD,,\n")


def diagnosed(stage):
    scene = stage.scene
    env = (("MARK", str(stage.mark)), ("STATUS", stage.status))
    birth = Birth(str(stage.folder / "venv/bin/python"), "", env, "")
    scene.__dict__["plan"] = Plan(stage.settings, LiteLLMConfig(()), birth)
    return list(interpreter.litellm(scene))


def test_a_sound_environment_is_started_and_imports_litellm(stage, venv):
    assert [finding.title for finding in diagnosed(stage)] == [
        "LiteLLM 1.106.2: every file is its package's own",
        "the interpreter starts and imports LiteLLM",
    ]
    assert stage.mark.exists()


def test_a_litellm_that_cannot_be_imported_is_found(stage, venv):
    stage.status = "1"

    assert diagnosed(stage)[-1].title == "LiteLLM cannot be imported"


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8"])
def test_a_malicious_release_is_found_and_never_started(stage, venv, version):
    (stage.site / "litellm-1.106.2.dist-info/RECORD").unlink()
    (stage.site / "litellm-1.106.2.dist-info").rmdir()
    release(stage, version)
    found = diagnosed(stage)

    assert (found[0].level, found[0].title) == (Level.FAIL, "a package is malicious or denied")
    assert (found[-1].level, found[-1].title) == (Level.SKIP, "whether LiteLLM starts")
    assert not stage.mark.exists()


def test_a_file_that_runs_at_every_start_is_found_and_never_run(stage, venv):
    (stage.site / "litellm_init.pth").write_text("import os; os.environ\n")
    found = diagnosed(stage)

    assert found[0].level is Level.FAIL
    assert found[0].evidence.startswith("litellm_init.pth would run code at every start")
    assert not stage.mark.exists()


def test_a_broken_interpreter_and_a_missing_litellm_have_their_remedies(stage, venv):
    python = stage.folder / "venv/bin/python"
    python.unlink()
    python.symlink_to("/gone/python3.11")
    assert diagnosed(stage)[0].remedy == "ccproxy-supervisor upgrade --repair"

    python.unlink()
    python.write_text("#!/bin/sh\n")
    (stage.site / "litellm-1.106.2.dist-info").rename(stage.site / "other-1.0.dist-info")
    assert diagnosed(stage)[0].remedy == "ccproxy-supervisor init"
