from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.edge.births import Births
from ccproxy_supervisor.edge.home import Home

CONFIG = """\
include: [more.yaml]
litellm_settings: {custom_provider_map: [{provider: echo, custom_handler: handlers.echo.handler}]}
model_list: [{model_name: echo, litellm_params: {model: echo/words}}]
"""
FILES = {
    "supervisor.yaml": "proxy: {port: 20101}\nadmin: {port: 20102}\n",
    "config.yaml": CONFIG,
    "more.yaml": "model_list: [{model_name: more, litellm_params: {model: echo/more}}] # Grüße\n",
    "handlers/echo.py": "import helper\nhandler = 1\n",
    "handlers/words.txt": "some",
    "helper.py": "WORDS = 1\n",
    "prompts/one.txt": "one",
    "unused.py": "(",
}


@pytest.fixture
def home(tmp_path):
    place = Home(tmp_path / "h" / "supervisor.yaml")
    for name, text in FILES.items():
        write(place, name, text)
    place.path("venv/bin").mkdir(parents=True)
    place.path("venv/bin/python").symlink_to(sys.executable)
    return place


def write(home, name, text):
    path = home.path(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def birth(home):
    return home.read_plan({"PATH": "/usr/bin:/bin"}).birth


@pytest.fixture
def notes():
    return []


@pytest.fixture
def births(home, notes):
    return Births(home.run / "births", notes.append)


def kept(births, home):
    return Path(births.keep(birth(home))).parent


def test_a_worker_reads_what_was_checked_whatever_becomes_of_it(births, home, notes):
    before = birth(home)
    for name in ("config.yaml", "more.yaml", "handlers/echo.py", "helper.py"):
        write(home, name, "half an edit (")

    folder = Path(births.keep(before)).parent

    assert (folder / "handlers/echo.py").read_text() == FILES["handlers/echo.py"]
    assert (folder / "helper.py").read_text() == FILES["helper.py"]
    config = (folder / "config.yaml").read_text()
    assert "include" not in config
    assert "echo/words" in config
    assert "echo/more" in config
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "helper.py")] == [0o700, 0o600]
    assert notes == []


def test_a_config_without_includes_is_kept_to_the_letter(births, home):
    write(home, "config.yaml", "# Grüße\nmodel_list: [{model_name: a, litellm_params: {model: x/a}}]\n")

    assert Path(births.keep(birth(home))).read_bytes() == home.path("config.yaml").read_bytes()


def test_what_lies_beside_config_and_handlers_is_seen_from_there_too(births, home):
    folder = kept(births, home)

    assert (folder / "handlers/words.txt").read_text() == "some"
    assert (folder / "prompts/one.txt").read_text() == "one"
    assert os.path.samefile(folder / "unused.py", home.path("unused.py"))
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", ["config.yaml", "more.yaml", "handlers/echo.py", "helper.py"])
def test_an_edit_of_anything_a_worker_is_born_from_is_another_birth_and_named(home, name):
    before = birth(home)
    write(home, name, FILES[name] + "# edited\n")

    after = birth(home)

    assert before.digest != after.digest
    assert before.differs(after) == (f"{home.path(name)} changed",)


def test_an_edit_of_anything_else_is_none(home):
    before = birth(home)
    write(home, "unused.py", "")
    write(home, "handlers/words.txt", "others")

    assert before == birth(home)


def test_a_module_that_comes_or_goes_is_named(home):
    before = birth(home)
    write(home, "handlers/echo.py", "handler = 1\n")

    assert set(before.differs(birth(home))) == {
        f"{home.path(name)} changed" for name in ("handlers/echo.py", "helper.py")
    }


def test_a_handler_that_cannot_be_compiled_is_refused_by_file_and_line(home):
    write(home, "helper.py", "WORDS = (\n")

    with pytest.raises(ConfigError) as raised:
        birth(home)

    assert [str(fault) for fault in raised.value.faults] == ["helper.py:1:9: cannot compile it: '(' was never closed"]


@pytest.mark.parametrize("left", [b"", b"model_list: [", b"link"])
def test_what_a_power_loss_or_a_hand_has_spoiled_is_made_anew(births, home, left):
    folder = kept(births, home)
    for name in ("config.yaml", "handlers/echo.py"):
        was = (folder / name).read_bytes()
        (folder / name).unlink()
        if left == b"link":
            write(home, "copy", was.decode())
            (folder / name).symlink_to(home.path("copy"))
        else:
            (folder / name).write_bytes(left)

        assert kept(births, home) == folder
        assert (folder / name).read_bytes() == was
        assert not (folder / name).is_symlink()
    assert not list(folder.rglob("*.new"))


def test_only_the_births_of_living_workers_are_left(births, home):
    old = birth(home)
    gone = kept(births, home)
    write(home, "helper.py", "WORDS = 2\n")
    serving = kept(births, home)
    births.forget([old, birth(home)])

    assert gone.is_dir()

    births.forget([birth(home)])

    assert [entry.name for entry in (home.run / "births").iterdir()] == [serving.name]
    assert home.path("prompts/one.txt").exists()


def test_the_same_texts_of_another_folder_are_another_birth(births, home):
    one = kept(births, home)
    for name, text in FILES.items():
        if name != "supervisor.yaml":
            write(home, f"other/{name}", text)
    write(home, "other/handlers/words.txt", "others")
    write(home, "supervisor.yaml", "proxy: {port: 20101, config: other/config.yaml}\nadmin: {port: 20102}\n")

    assert (kept(births, home) / "handlers/words.txt").read_text() == "others"
    assert (one / "handlers/words.txt").read_text() == "some"


def test_without_room_workers_read_the_files_as_they_are_and_it_is_said(home, notes):
    write(home, "run", "no folder")

    assert Births(home.run / "births", notes.append).keep(birth(home)) == str(home.path("config.yaml"))
    assert [(note.event, note.level) for note in notes] == [("birth.unkept", "warning")]


def test_what_cannot_be_removed_costs_nothing_but_room(births, home):
    births.forget([])
    folder = kept(births, home)
    write(home, "run/births/stray", "no folder")

    births.forget([birth(home)])

    assert folder.is_dir()


def test_the_folder_that_workers_count_in_is_there_before_they_are(births, home):
    made = home.run / "prometheus"
    write(home, "supervisor.yaml", f"proxy: {{port: 20101, env: {{PROMETHEUS_MULTIPROC_DIR: '{made}'}}}}\n")
    births.keep(birth(home))

    assert made.is_dir()

    births.forget_counters()
    births.forget_counters()

    assert not made.exists()
