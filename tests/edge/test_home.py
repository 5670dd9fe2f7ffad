from __future__ import annotations

import errno
import os
import pwd
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.settings import Settings, parse
from ccproxy_supervisor.edge.home import Home, locate

LITELLM = "model_list: [{model_name: echo, litellm_params: {model: hosted_vllm/echo, mock_response: hi}}]\n"
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere"}


@pytest.fixture
def home(tmp_path):
    """A complete home with an environment that looks as if LiteLLM 1.2.3 were in it."""
    folder = tmp_path / "h"
    (folder / "venvs/1.2.3/bin").mkdir(parents=True)
    (folder / "venvs/1.2.3/lib/python3.11/site-packages/litellm-1.2.3.dist-info").mkdir(parents=True)
    (folder / "venvs/1.2.3/lib/python3.11/site-packages/litellm_enterprise-9.dist-info").mkdir()
    (folder / "venvs/1.2.3/bin/python").symlink_to(sys.executable)
    (folder / "venv").symlink_to("venvs/1.2.3")
    (folder / "supervisor.yaml").write_text("proxy: {port: 20101}\nadmin: {port: 20102}\n")
    (folder / "config.yaml").write_text(LITELLM)
    folder.chmod(0o700)
    return Home(folder / "supervisor.yaml")


def write(home, name, text, mode=0o600):
    home.path(name).write_text(text)
    home.path(name).chmod(mode)


def faults(home):
    with pytest.raises(ConfigError) as raised:
        home.read_plan(ENVIRON)
    return [str(fault).replace(str(home.folder), "HOME") for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("option", "environ", "file"),
    [
        ("/a/b.yaml", {"CCPROXY_HOME": "/c"}, "/a/b.yaml"),
        ("/a/../b.yaml", {}, "/b.yaml"),
        (None, {"CCPROXY_HOME": "/c", "HOME": "/u"}, "/c/supervisor.yaml"),
        (None, {"CCPROXY_HOME": "", "HOME": "/u"}, "/u/ccproxy/supervisor.yaml"),
        (None, {"HOME": "/u"}, "/u/ccproxy/supervisor.yaml"),
        (None, {}, os.path.expanduser("~/ccproxy/supervisor.yaml")),
        ("x.yaml", {}, os.path.join(os.getcwd(), "x.yaml")),
    ],
)
def test_the_home_is_named_by_option_variable_or_custom(option, environ, file):
    assert locate(option, environ).settings_file == Path(file)


def test_relative_paths_start_at_the_home():
    home = Home(Path("/h/supervisor.yaml"))

    assert home.path("logs") == Path("/h/logs")
    assert home.path("/var/log/x") == Path("/var/log/x")
    assert home.path("~/x") == Path.home() / "x"
    assert home.shown(Path("/h/run/w1.sock")) == "run/w1.sock"
    assert home.shown(Path("/else/where")) == "/else/where"


def test_a_complete_home_makes_a_plan(home):
    plan = home.read_plan(ENVIRON)

    assert plan.settings.proxy.port == 20101
    assert [model.name for model in plan.litellm.models] == ["echo"]
    assert plan.birth.python == os.path.realpath(home.folder) + "/venvs/1.2.3/bin/python"
    assert plan.birth.config == str(home.folder / "config.yaml")
    assert plan.birth.litellm_version == "1.2.3"
    assert plan.birth.key is None
    assert dict(plan.birth.env)["CONFIG_FILE_PATH"] == plan.birth.config


def test_reading_twice_gives_the_same_plan(home):
    assert home.read_plan(ENVIRON) == home.read_plan(ENVIRON)


def touch_settings(home):
    write(home, "supervisor.yaml", "proxy: {port: 20101, workers: 4}\nadmin: {port: 20102}\n")


def switch_environment(home):
    (home.folder / "venvs/1.2.3").rename(home.folder / "venvs/1.2.4")
    home.path("venv").unlink()
    home.path("venv").symlink_to("venvs/1.2.4")


def upgrade_in_place(home):
    packages = home.path("venv/lib/python3.11/site-packages")
    (packages / "litellm-1.2.3.dist-info").rename(packages / "litellm-1.2.4.dist-info")


def edit_config(home):
    write(home, "config.yaml", LITELLM + "# edited\n")


def edit_env_file(home):
    write(home, "supervisor.yaml", "proxy: {port: 20101, env_file: s.env}\nadmin: {port: 20102}\n")
    write(home, "s.env", "A=1\n")


def repoint_interpreter(home):
    home.path("venv/bin/python").unlink()
    home.path("venv/bin/python").symlink_to(os.path.realpath(sys.executable))


@pytest.mark.parametrize(
    ("edit", "rolls"),
    [
        (touch_settings, False),
        (repoint_interpreter, False),
        (switch_environment, True),
        (upgrade_in_place, True),
        (edit_config, True),
        (edit_env_file, True),
    ],
)
def test_only_what_a_worker_is_born_with_changes_its_birth(home, edit, rolls):
    before = home.read_plan(ENVIRON).birth.digest

    edit(home)

    assert (home.read_plan(ENVIRON).birth.digest != before) is rolls


def test_an_included_file_is_part_of_the_birth(home):
    write(home, "config.yaml", "include: [more.yaml]\n")
    write(home, "more.yaml", LITELLM)
    before = home.read_plan(ENVIRON)
    write(home, "more.yaml", LITELLM + "# edited\n")

    after = home.read_plan(ENVIRON)

    assert before.litellm == after.litellm
    assert before.birth.digest != after.birth.digest


def test_an_include_is_looked_for_beside_the_file_that_names_it_then_beside_the_first(home):
    home.path("sub").mkdir()
    write(home, "config.yaml", "include: [sub/a.yaml]\n")
    write(home, "sub/a.yaml", f"include: [b.yaml, c.yaml]\n{LITELLM}")
    write(home, "b.yaml", "model_list: [{model_name: b, litellm_params: {model: openai/b}}]\n")
    write(home, "c.yaml", "model_list: x\n")
    write(home, "sub/c.yaml", "model_list: [{model_name: c, litellm_params: {model: openai/c}}]\n")

    assert [model.name for model in home.read_plan(ENVIRON).litellm.models][1:] == ["b", "c"]


def test_a_worker_is_born_with_the_variables_that_its_config_sets_and_they_are_hidden(home):
    write(home, "supervisor.yaml", "proxy: {port: 20101, env: {B: mine}}\nadmin: {port: 20102}\n")
    write(home, "config.yaml", LITELLM + "environment_variables: {SOME_API_KEY: s3cret-of-it, B: its, HOME: /x}\n")

    plan = home.read_plan(ENVIRON)

    env = dict(plan.birth.env)
    assert (env["SOME_API_KEY"], env["B"], env["HOME"]) == ("s3cret-of-it", "mine", ENVIRON["HOME"])
    assert b"s3cret-of-it" in plan.secrets


def settings_with(home, proxy):
    write(home, "supervisor.yaml", f"proxy: {{port: 20101, {proxy}}}\nadmin: {{port: 20102}}\n")


def test_what_only_litellms_own_command_would_do_is_refused_where_it_is_written(home):
    settings_with(home, "env_file: s.env, env: {DATABASE_URL: 'postgresql://h/d'}")
    write(home, "s.env", "USE_AWS_KMS=True\n")

    told = faults(home)

    assert [line.partition(": a ")[0] for line in told[:1]] == ["supervisor.yaml: proxy.env.DATABASE_URL"]
    assert told[1].startswith("s.env: USE_AWS_KMS: only LiteLLM's own command decrypts")


def test_variables_that_do_nothing_are_warned_of_where_they_are_written(home):
    settings_with(home, "env_file: s.env, env: {PORT: '4000'}, packages: [extra>=1]")
    write(home, "s.env", "NUM_WORKERS=4\n")

    told = [str(warning) for warning in home.read_plan(ENVIRON).warnings]

    assert "supervisor.yaml: proxy.env.PORT: only LiteLLM's own command reads this; set proxy.port" in told
    assert "s.env: NUM_WORKERS: only LiteLLM's own command reads this; set proxy.workers" in told


def test_with_a_path_of_its_own_litellm_keeps_its_pages_in_the_home(home):
    settings_with(home, "env: {SERVER_ROOT_PATH: /gateway}")
    (one,) = {value for name, value in home.read_plan(ENVIRON).birth.env if name == "LITELLM_UI_PATH"}

    assert one.startswith(str(home.run / "ui"))

    settings_with(home, "env: {SERVER_ROOT_PATH: /other}")
    assert dict(home.read_plan(ENVIRON).birth.env)["LITELLM_UI_PATH"] != one
    settings_with(home, "env: {SERVER_ROOT_PATH: /, OTHER: x}")
    assert "LITELLM_UI_PATH" not in dict(home.read_plan(ENVIRON).birth.env)
    settings_with(home, "env: {SERVER_ROOT_PATH: /other, LITELLM_UI_PATH: /mine}")
    assert dict(home.read_plan(ENVIRON).birth.env)["LITELLM_UI_PATH"] == "/mine"


@pytest.mark.parametrize(("proxy", "together"), [("workers: 1", False), ("workers: 2", True), ("standby: 1", True)])
def test_workers_behind_one_port_count_together(home, proxy, together):
    write(home, "config.yaml", LITELLM + "litellm_settings: {callbacks: [prometheus]}\n")
    settings_with(home, proxy)

    env = dict(home.read_plan(ENVIRON).birth.env)

    assert env.get("PROMETHEUS_MULTIPROC_DIR") == (str(home.run / "prometheus") if together else None)


def test_faults_of_all_files_are_told_together(home):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env, python: gone/python}\nlogs: {keep: 0}\n")
    write(home, "s.env", "lonely\n")
    write(home, "config.yaml", "model_list: [x]\n")

    assert faults(home) == [
        "supervisor.yaml:2: logs.keep: must be at least 1",
        "s.env:1: must be KEY=VALUE",
        "supervisor.yaml: proxy.python: cannot run 'HOME/gone/python': no such file; run: ccproxy-supervisor init",
        "config.yaml:1: model_list[0]: must be a mapping with model_name and litellm_params",
    ]


def test_other_files_are_not_judged_by_proxy_settings_that_are_wrong(home):
    write(home, "supervisor.yaml", "proxy: {confg: other.yaml, python: gone}\n")

    assert faults(home) == ["supervisor.yaml:1: proxy.confg: unknown key; did you mean proxy.config?"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "supervisor.yaml",
            "supervisor.yaml: cannot read 'HOME/supervisor.yaml': No such file or directory; run: ccproxy-supervisor init",
        ),
        (
            "config.yaml",
            "config.yaml: cannot read 'HOME/config.yaml': No such file or directory; run: ccproxy-supervisor init",
        ),
    ],
)
def test_a_missing_file_is_told_with_the_remedy(home, name, told):
    home.path(name).unlink()

    assert faults(home) == [told]


def make_folder(path):
    path.mkdir()


def make_fifo(path):
    os.mkfifo(path)


def make_large(path):
    path.write_bytes(b"#" * ((1 << 20) + 1))


def make_latin(path):
    path.write_bytes(b"# ok\n# caf\xe9\n")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_folder, "config.yaml: cannot read 'HOME/config.yaml': Is a directory"),
        (make_fifo, "config.yaml: cannot read it: not a file"),
        (make_large, "config.yaml: cannot read it: larger than 1 MiB"),
        (make_latin, "config.yaml:2: cannot read it: not UTF-8"),
    ],
)
def test_what_is_no_text_file_is_refused(home, make, told):
    home.path("config.yaml").unlink()
    make(home.path("config.yaml"))

    assert faults(home) == [told]


def break_link(path):
    path.unlink()
    path.symlink_to("/opt/homebrew/python3.11")


def move(path):
    """As a package manager does that puts another version where the link leads."""
    path.unlink()
    path.symlink_to("python3.99")
    path.with_name("python3.99").touch(0o700)
    (path.parent.parent / "pyvenv.cfg").touch()


def forbid(path):
    path.unlink()
    path.write_text("")
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (break_link, "it links to /opt/homebrew/python3.11, which is gone; run: ccproxy-supervisor upgrade --repair"),
        (move, "it is python3.99 now, and its packages are for python3.11; run: ccproxy-supervisor upgrade --repair"),
        (forbid, "not executable; run: chmod +x 'HOME/venv/bin/python'"),
        (Path.unlink, "no such file; run: ccproxy-supervisor init"),
    ],
)
def test_an_interpreter_that_cannot_run_is_told_with_the_remedy(home, spoil, told):
    spoil(home.path("venv/bin/python"))

    assert faults(home) == [f"supervisor.yaml: proxy.python: cannot run 'HOME/venv/bin/python': {told}"]


def test_a_python_that_is_no_virtual_environment_may_have_packages_of_others_beside_it(home):
    move(home.path("venv/bin/python"))
    home.path("venv/pyvenv.cfg").unlink()

    assert home.read_plan(ENVIRON).birth.python.endswith("/venvs/1.2.3/bin/python")


def test_an_environment_without_litellm_has_no_version(home):
    home.path("venv/lib/python3.11/site-packages/litellm-1.2.3.dist-info").rmdir()

    assert home.read_plan(ENVIRON).birth.litellm_version is None


def test_secrets_that_are_too_short_to_hide_are_warned_of_by_name(home):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env}\n")
    write(home, "s.env", "PIN=4711x\nLONG=enough-of-it\nNONE=\n")
    [warning] = home.read_plan(ENVIRON).warnings

    assert str(warning).startswith("s.env: PIN has fewer than 6 characters and is not hidden in logs")


def test_env_file_and_env_reach_the_worker_and_the_secrets(home):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env, env: {A: plain, B: b}}\n")
    write(home, "s.env", "A=from-file\nSECRET=hunter2hunter2\n")
    write(home, "config.yaml", LITELLM + "litellm_settings: {x: os.environ/SECRET}\n")

    plan = home.read_plan(ENVIRON)

    env = dict(plan.birth.env)
    assert (env["A"], env["B"], env["SECRET"]) == ("plain", "b", "hunter2hunter2")
    assert set(plan.secrets) == {b"from-file", b"hunter2hunter2"}
    assert "hunter2" not in repr(plan)


def test_secrets_that_others_can_read_are_refused_and_variables_not_judged(home):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env}\n")
    write(home, "s.env", "SECRET=hunter2\n", 0o640)
    write(home, "config.yaml", LITELLM + "litellm_settings: {x: os.environ/SECRET}\n")

    assert faults(home) == ["s.env: is open to other users (mode 0640); run: chmod 600 'HOME/s.env'"]


def test_secrets_that_are_not_ours_are_refused(home, monkeypatch):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env}\n")
    write(home, "s.env", "SECRET=hunter2\n")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    assert faults(home)[-1:] == [f"s.env: belongs to user {owner}, not to us; run: chown {owner + 1} 'HOME/s.env'"]


def test_root_is_not_advised_to_take_a_person_s_home_and_leaves_nothing_in_it(home, monkeypatch):
    write(home, "supervisor.yaml", "proxy: {auth: master-key, env_file: s.env}\n")
    write(home, "s.env", "SECRET=hunter2\n")
    owner = os.getuid() or 4242
    for path in (home.folder, *home.folder.iterdir()):
        os.chown(path, owner, -1, follow_symlinks=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    wrong = f"belongs to user {owner}, not to us; run: the same command as that user, without sudo"

    assert faults(home) == [f".: {wrong}", f"s.env: {wrong}"]
    assert not home.path("master.key").exists()


def loosen(home, name, mode=0o777):
    home.path(name).parent.mkdir(parents=True, exist_ok=True)
    if not home.path(name).exists():
        home.path(name).touch()
    home.path(name).chmod(mode)


@pytest.mark.parametrize(
    "name",
    [
        ".", "supervisor.yaml", "config.yaml", "more.yaml", "mine.py", "helper.py", "calls/deep.py", "calls", "s.env",
        "logs", "run", "venvs", "venvs/1.2.3/bin", "venvs/1.2.3/lib/python3.11/site-packages/litellm.pth",
    ],
)  # fmt: skip
def test_what_others_could_replace_is_refused_whatever_it_is(home, name):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env}\n")
    write(home, "s.env", "SECRET=hunter2\n")
    write(
        home, "config.yaml", LITELLM + "include: [more.yaml]\nlitellm_settings: {callbacks: [mine.it, calls.deep.it]}\n"
    )
    write(home, "more.yaml", "model_list: []\n")
    home.prepare(Settings())
    home.path("calls").mkdir()
    home.read_plan(ENVIRON)

    loosen(home, name)

    wanted = f"{name}: every user could put something else there (mode 0777); run: chmod "
    assert any(fault.startswith(wanted) for fault in faults(home))
    home.path(name).chmod(0o700)
    home.read_plan(ENVIRON)


def test_a_folder_above_the_home_that_others_may_write_is_refused(home):
    home.folder.parent.chmod(0o777)

    [told] = faults(home)
    assert told.startswith(f"{home.folder.parent}: every user could put something else there (mode 0777); run: chmod ")
    home.folder.parent.chmod(0o1777)
    home.read_plan(ENVIRON)


def test_a_link_through_a_folder_of_others_is_refused(home, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/config.yaml").symlink_to(home.path("config.yaml"))
    write(home, "supervisor.yaml", f"proxy: {{config: {tmp_path}/open/config.yaml}}\n")

    assert any("open: every user could put something else there (mode 0777)" in fault for fault in faults(home))


def test_a_group_with_others_in_it_is_as_good_as_everybody(home, monkeypatch):
    home.path("venvs").chmod(0o770)
    home.read_plan(ENVIRON)  # nobody but us is in our group

    others = SimpleNamespace(pw_name="bob", pw_uid=4242, pw_gid=home.path("venvs").stat().st_gid)
    monkeypatch.setattr(pwd, "getpwall", lambda: [others])

    [told] = faults(home)
    assert told.startswith("venvs: bob (group ")
    assert told.endswith("could put something else there (mode 0770); run: chmod g-w 'HOME/venvs'")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "litellm-1.107.0.dist-info",
            "must not run: LiteLLM 1.107.0: reported compromised by its makers on 2026-10-21",
        ),
        ("litellm-1.82.8.dist-info", "must not run: LiteLLM 1.82.8: steals credentials from litellm_init.pth"),
        ("Mistralai-2.4.6.dist-info", "must not run: mistralai 2.4.6: downloads and runs a program"),
        ("litellm_init.pth", "must not run: litellm_init.pth came with malicious releases of LiteLLM"),
        (
            "litellm-6.6.6.dist-info",
            "must not run: LiteLLM 6.6.6: upgrade.denied names it; run: ccproxy-supervisor upgrade",
        ),
    ],
)
def test_an_environment_with_a_malicious_or_denied_release_is_not_run(home, name, told):
    write(home, "supervisor.yaml", "upgrade: {denied: [6.6.6]}\n")
    home.read_plan(ENVIRON)
    packages = home.path("venv/lib/python3.11/site-packages")
    (packages / "litellm-1.2.3.dist-info").rmdir()
    (packages / name).mkdir() if name.endswith("info") else (packages / name).touch()

    [fault] = faults(home)
    assert fault.startswith(f"venvs/1.2.3: {told}")
    assert ("change every key this Mac has known" in fault) is ("6.6.6" not in fault)


def test_a_secrets_file_that_is_missing_is_told(home):
    write(home, "supervisor.yaml", "proxy: {env_file: s.env}\n")

    assert faults(home) == ["s.env: cannot read 'HOME/s.env': No such file or directory; remove proxy.env_file"]


def test_a_master_key_is_generated_once_and_kept_private(home):
    write(home, "supervisor.yaml", "proxy: {auth: master-key}\n")

    plan, again = home.read_plan(ENVIRON), home.read_plan(ENVIRON)

    assert plan.birth.key == again.birth.key
    assert plan.birth.key.startswith("sk-")
    assert len(plan.birth.key) == 3 + 43
    assert plan.secrets == (plan.birth.key.encode(),)
    assert stat.S_IMODE(home.path("master.key").stat().st_mode) == 0o600
    assert [path.name for path in home.folder.iterdir() if path.name.startswith(".")] == []


def test_a_master_key_that_cannot_be_kept_is_told_and_leaves_nothing(home, monkeypatch):
    write(home, "supervisor.yaml", "proxy: {auth: master-key}\n")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", full)

    assert faults(home) == ["master.key: cannot keep a master key: No space left on device"]
    assert [path.name for path in home.folder.iterdir() if "master" in path.name] == []


def test_a_key_somebody_else_made_meanwhile_is_kept(home):
    write(home, "master.key", "sk-made-by-somebody-else\n")

    home._make_key(home.path("master.key"))

    assert home.master_key() == "sk-made-by-somebody-else"


@pytest.mark.parametrize(
    ("content", "mode", "told"), [("", 0o600, "is not a key"), ("sk-" + "x" * 40, 0o644, "chmod 600")]
)
def test_a_master_key_that_is_broken_or_readable_is_refused(home, content, mode, told):
    write(home, "supervisor.yaml", "proxy: {auth: master-key}\n")
    write(home, "master.key", content, mode)

    (only,) = faults(home)

    assert only.startswith("master.key: ")
    assert told in only


def test_ones_own_master_key_comes_from_the_secrets_file(home):
    write(home, "supervisor.yaml", "proxy: {auth: master-key, env_file: s.env}\n")
    write(home, "s.env", "LITELLM_MASTER_KEY=sk-mine-and-long\n")

    assert home.read_plan(ENVIRON).birth.key == "sk-mine-and-long"
    assert not home.path("master.key").exists()


@pytest.mark.parametrize(
    ("auth", "key", "told"),
    [
        ("open", "sk-x", "LITELLM_MASTER_KEY makes LiteLLM demand a key; remove it, or set proxy.auth: master-key"),
        ("master-key", "x", "LITELLM_MASTER_KEY must start with sk-"),
    ],
)
def test_a_master_key_that_cannot_work_is_refused(home, auth, key, told):
    write(home, "supervisor.yaml", f"proxy: {{auth: {auth}, env_file: s.env}}\n")
    write(home, "s.env", f"LITELLM_MASTER_KEY={key}\n")

    assert faults(home) == [f"s.env: {told}"]


def test_a_home_whose_sockets_would_have_too_long_names_is_refused(home, tmp_path):
    deep = tmp_path / ("d" * 60)
    home.folder.rename(deep)
    told = faults(Home(deep / "supervisor.yaml"))

    assert len(told) == 2
    assert told[0].startswith("supervisor.yaml: cannot make the socket 'HOME/run/w9999999.sock': ")
    assert told[1].startswith("supervisor.yaml: cannot make the socket 'HOME/run/control.sock': ")
    assert told[0].endswith("bytes, and macOS allows 103; choose a home with a shorter path")


def test_missing_folders_are_made_private(home):
    settings = parse("logs: {directory: a/logs}\nadmin: {socket: sockets/c.sock}\n")

    assert home.prepare(settings) == ()
    assert home.prepare(settings) == ()

    modes = {name: stat.S_IMODE(home.path(name).stat().st_mode) for name in ("run", "a/logs", "sockets")}
    assert modes == {"run": 0o700, "a/logs": 0o700, "sockets": 0o700}


def test_a_folder_that_cannot_be_made_is_told_and_the_others_made(home):
    write(home, "logs", "in the way")

    assert [str(fault) for fault in home.prepare(Settings())] == ["logs: cannot make the folder: File exists"]
    assert home.run.is_dir()


def test_what_others_may_look_into_is_found_with_the_remedy(home):
    settings = parse("proxy: {env_file: s.env}\n")
    home.prepare(settings)
    write(home, "s.env", "", 0o604)
    write(home, "master.key", "", 0o660)
    home.folder.chmod(0o755)
    home.path("logs").chmod(0o770)

    told = [str(fault).replace(str(home.folder), "HOME") for fault in home.check_permissions(settings)]

    assert told == [
        ".: is open to other users (mode 0755); run: chmod 700 'HOME'",
        "logs: is open to other users (mode 0770); run: chmod 700 'HOME/logs'",
        "master.key: is open to other users (mode 0660); run: chmod 600 'HOME/master.key'",
        "s.env: is open to other users (mode 0604); run: chmod 600 'HOME/s.env'",
    ]


def test_a_private_home_has_no_permission_faults(home):
    home.prepare(Settings())

    assert home.check_permissions(Settings()) == []
