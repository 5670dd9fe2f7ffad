"""`make .venv/made`, which the documented update of the supervisor is: with a stand-in for Python and pip."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ccproxy_supervisor.cli import daemon

ROOT = Path(__file__).parents[2]
PYTHON = """\
#!/bin/sh
here=$(dirname "$0")
case "$*" in
    *"version_info[:2]"*) echo 3.13;;
    "-m venv "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo 'test ! -e FAILS && test "$1" != renew -o ! -e REFUSES' > "$4/bin/ccproxy-supervisor"
        echo "$VERSION" > "$4/version"; chmod +x "$4/bin/ccproxy-supervisor";;
    *os.replace*) exec REAL "$@";;
    *"-m pip"*requirements.lock) test "$FAILS" != packages;;
    *"-m pip"*) test "$FAILS" != ourselves;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """As much of the repository as the build looks at."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "ccproxy_supervisor/data/litellm").mkdir(parents=True)
    (tmp_path / "ccproxy_supervisor/data/litellm/pinned").write_text("1\n")
    (tmp_path / "ccproxy_supervisor/app.py").touch()
    (tmp_path / "python3").write_text(textwrap.dedent(PYTHON).replace("REAL", sys.executable))
    (tmp_path / "python3").chmod(0o755)
    return tmp_path


def make(checkout, version, *words, fails="", goal=".venv/made"):
    """Build *version*; each build is a second later than the last."""
    environ = os.environ | {"VERSION": version, "FAILS": fails}
    command = ["make", goal, f"PYTHON={checkout}/python3", f"STAMP=2026112510{version:>04}", *words]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)
    return done.returncode == 0


def pull(checkout):
    """As git does: what changed has a new time."""
    os.utime(checkout / "ccproxy_supervisor/app.py")


def used(checkout):
    return (checkout / ".venv/version").read_text().strip()


def test_each_build_is_beside_the_last_and_the_link_moves(checkout):
    assert make(checkout, "1")
    assert used(checkout) == "1"
    first = (checkout / ".venv").resolve()
    pull(checkout)

    assert make(checkout, "2")

    assert (checkout / ".venv").is_symlink()
    assert used(checkout) == "2"
    assert (first / "version").read_text() == "1\n"  # a daemon may still run from it
    assert sorted(path.name for path in (checkout / ".venvs").iterdir()) == ["20261125100001", "20261125100002"]


@pytest.mark.parametrize("step", ["packages", "ourselves"])
def test_a_build_that_fails_leaves_the_one_in_use(checkout, step):
    assert make(checkout, "1")
    pull(checkout)

    assert not make(checkout, "2", fails=step)
    assert used(checkout) == "1"

    assert make(checkout, "3")
    assert used(checkout) == "3"
    assert not (checkout / ".venvs/20261125100002").exists()


def test_a_build_that_cannot_start_is_not_switched_to(checkout):
    assert make(checkout, "1")
    pull(checkout)
    (checkout / "FAILS").touch()

    assert not make(checkout, "2")
    assert used(checkout) == "1"


def test_a_supervisor_that_is_not_renewed_keeps_its_build(checkout):
    assert make(checkout, "1")
    pull(checkout)
    (checkout / "REFUSES").touch()

    assert not make(checkout, "2", goal="renew")
    assert used(checkout) == "1"
    (checkout / "REFUSES").unlink()
    assert make(checkout, "3", goal="renew")
    assert used(checkout) == "3"


def test_nothing_new_is_nothing_to_do_and_old_builds_go(checkout):
    for version in range(1, 6):
        pull(checkout)
        assert make(checkout, str(version))
    assert make(checkout, "6")

    assert used(checkout) == "5"
    assert len(list((checkout / ".venvs").iterdir())) == 3


def test_an_environment_from_before_there_were_links_is_set_aside(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/version").write_text("0\n")

    assert make(checkout, "1")

    assert used(checkout) == "1"
    assert (checkout / ".venvs/before/version").read_text() == "0\n"


def test_cleaning_leaves_what_a_service_may_run_from(checkout):
    assert make(checkout, "1")
    subprocess.run(["make", "clean", f"PYTHON={checkout}/python3"], cwd=checkout, check=True, capture_output=True)
    assert used(checkout) == "1"


def test_a_daemon_stays_in_the_folder_that_the_link_leads_to_when_it_starts(tmp_path, monkeypatch):
    (tmp_path / "1/bin").mkdir(parents=True)
    (tmp_path / "1/bin/python").symlink_to(sys.executable)
    (tmp_path / "link").symlink_to("1")
    told = []
    monkeypatch.setenv("STARTED_AS_IN_A_TEST", "")
    monkeypatch.setattr(os, "execv", lambda *words: told.append(words))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "-m", "ccproxy_supervisor", "run", "--quiet"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "link/bin/python"))
    daemon._stay("STARTED_AS_IN_A_TEST")

    real = str(tmp_path / "1/bin/python")
    assert told == [(real, [real, "-P", "-m", "ccproxy_supervisor", "run", "--quiet"])]
    monkeypatch.setattr(sys, "executable", real)
    daemon._stay("STARTED_AS_IN_A_TEST")
    assert len(told) == 1


@pytest.mark.parametrize(("version", "taken"), [("3, 10", False), ("3, 11", True), ("3, 14", True), ("3, 15", False)])
def test_a_python_that_is_too_old_or_too_new_is_passed_over_with_the_reason(checkout, version, taken):
    only = checkout / "bin"
    only.mkdir()
    script = f"""#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = ({version}, 0); $2"\n"""
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (only / name).write_text(script)
        (only / name).chmod(0o755)
    environ = {"PATH": f"{only}:/usr/bin:/bin", "HOME": str(checkout)}
    command = ["make", "-n", "clean"]
    done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True, check=False)

    assert (done.returncode == 0) == taken, done.stderr
    assert taken or "Python 3.11 to 3.14 is needed (for 3.15 neither" in done.stderr
