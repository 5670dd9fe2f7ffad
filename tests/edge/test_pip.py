"""How pip is run; it has a stand-in."""

from __future__ import annotations

import fcntl
import json
import sys

import pytest

from ccproxy_supervisor.deploy import pip

TWO = """#!{python}
import subprocess, sys
inner = "import fcntl, signal; file = open('at-work', 'w'); fcntl.flock(file, fcntl.LOCK_EX); {ignore}; print('Collecting', flush=True); signal.pause()"
subprocess.run([sys.executable, "-c", inner])
"""
TELL = """#!{python}
import json, os, sys
json.dump([sys.argv, dict(os.environ)], open("told", "w"))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(code, **words):
        path = tmp_path / "pip"
        path.write_text(code.format(python=sys.executable, **words))
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


@pytest.mark.parametrize("ignore", ["0", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_once_an_interruption_is_told_nobody_works_in_the_environment_any_more(stand_in, tmp_path, monkeypatch, ignore):
    stand_in(TWO, ignore=ignore)
    monkeypatch.setattr(pip, "_PATIENCE", 0.1)

    def interrupted(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pip.install(tmp_path / "bin" / "python", tmp_path / "lock", interrupted)

    with (tmp_path / "at-work").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_to_install_and_where_is_not_for_the_user_to_say_but_from_where_is(stand_in, tmp_path, monkeypatch):
    stand_in(TELL)
    ours = {
        f"PIP_{name}" for name in ("TARGET", "PREFIX", "ROOT", "USER", "PYTHON", "REQUIREMENT", "DRY_RUN", "NO_DEPS")
    }
    for name in ours:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_INDEX_URL", "https://example.org/simple")

    pip.install(tmp_path / "bin" / "python", tmp_path / "lock", print)

    told, environ = json.loads((tmp_path / "told").read_text())
    assert told[told.index("--prefix") + 1] == str(tmp_path)
    assert {environ.get(name, "0") for name in ours} == {"0"}
    assert environ["PIP_INDEX_URL"] == "https://example.org/simple"
