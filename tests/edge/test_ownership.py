"""Who owns a home, and where it listens."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import threading

import pytest

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.edge import ownership
from ccproxy_supervisor.edge.ownership import HomeTaken, control_of, owned, owner, owning


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_second_supervisor_is_told_who_owns_the_home(run):
    with owning(run):
        with pytest.raises(HomeTaken, match=f"process {os.getpid()} owns it") as taken, owning(run):
            pass
        assert taken.value.pid == os.getpid()
    with owning(run):
        pass


def test_a_killed_owner_leaves_the_home_free(run):
    script = "import sys; from pathlib import Path; from ccproxy_supervisor.edge.ownership import owning\n"
    script += "run = Path(sys.argv[1])\nwith owning(run): print('locked', flush=True); sys.stdin.read()"
    owner = subprocess.Popen(
        [sys.executable, "-c", script, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout.readline() == "locked\n"
        with pytest.raises(HomeTaken) as taken, owning(run):
            pass
        owner.kill()
    assert taken.value.pid == owner.pid

    with owning(run):
        assert (run / "supervisor.lock").read_text().splitlines()[0] == str(os.getpid())


def test_the_owner_leaves_word_where_it_listens(run):
    assert control_of(run) is None
    with owning(run, "run/c.sock"):
        assert control_of(run) == "run/c.sock"
    with owning(run):
        assert control_of(run) is None


def test_a_home_that_cannot_be_locked_is_a_fault(run):
    run.rmdir()
    told = r"run/supervisor\.lock: cannot lock the home: No such file"
    with pytest.raises(ConfigError, match=told), owning(run):
        pass


def test_a_removed_run_folder_does_not_free_the_home(run):
    with owning(run):
        shutil.rmtree(run)
        run.mkdir()
        assert owned(run)
        with pytest.raises(HomeTaken) as taken, owning(run):
            pass
        assert taken.value.pid is None  # who it was went with the folder
    assert not owned(run)


def test_a_removed_lock_is_made_anew_and_names_its_owner(run):
    with owning(run, "run/c.sock") as mine:
        assert not mine.restore()
        (run / "supervisor.lock").unlink()
        assert owner(run) is None
        assert mine.restore()
        assert (owner(run), control_of(run)) == (os.getpid(), "run/c.sock")
        assert not mine.restore()


def test_where_a_folder_cannot_be_locked_the_file_is(run, monkeypatch):
    whole = ownership.fcntl.flock

    def on_nfs(descriptor, kind):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and kind & fcntl.LOCK_EX:
            raise OSError(errno.EBADF, "Bad file descriptor")
        whole(descriptor, kind)

    monkeypatch.setattr(ownership.fcntl, "flock", on_nfs)
    with owning(run):
        assert owned(run)
        with pytest.raises(HomeTaken, match=f"process {os.getpid()} owns it"), owning(run):
            pass


def test_who_looks_keeps_nobody_from_starting(run):
    """A command that looks holds the lock for an instant."""
    folder = os.open(run.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, (folder,)).start()
    with owning(run):
        assert owned(run)
