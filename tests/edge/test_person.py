"""What root does for a person, in folders that are that person's to arrange."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import fake_launchctl
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.deploy import service
from ccproxy_supervisor.deploy.launchd import Job, Place
from ccproxy_supervisor.deploy.program import Ran
from ccproxy_supervisor.edge.person import Owner, acting_as, owner_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as others")
EVE = Owner("eve", 54321, 54321, "/nowhere")


@pytest.fixture
def ground():
    """A folder of Eve's and one of root's, both in reach of Eve: not among pytest's, which shut each other's."""
    folder = Path(tempfile.mkdtemp(prefix="cc-")).resolve()
    folder.chmod(0o755)
    for name in ("eve", "root"):
        (folder / name).mkdir()
    os.chown(folder / "eve", EVE.uid, EVE.gid)
    yield folder
    shutil.rmtree(folder)


def test_what_is_done_for_a_person_is_done_with_that_person_s_rights_and_no_longer(ground):
    with acting_as(EVE):
        (ground / "eve/made").mkdir(mode=0o700)
        with pytest.raises(PermissionError):
            (ground / "root/made").mkdir()
        with pytest.raises(PermissionError):
            os.listdir("/root")
    found = (ground / "eve/made").stat()

    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (EVE.uid, EVE.gid, 0o700)
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert owner_of(ground / "eve/made/not/there") == Owner("54321", 54321, 54321, "/")


def test_a_failure_gives_the_rights_back():
    with pytest.raises(RuntimeError), acting_as(EVE):
        raise RuntimeError
    assert os.geteuid() == 0


def test_install_makes_no_folder_where_a_link_of_the_person_leads(ground):
    (ground / "eve/supervisor.yaml").touch()
    (ground / "eve/logs").symlink_to(ground / "root")
    settings = parse("logs: {directory: logs/deep/deeper}")
    job = Job("test", sys.executable, ground / "eve/supervisor.yaml", settings, EVE)
    hands = service.Hands(lambda *_, **__: Ran(0), lambda _: None, lambda _: None)

    with pytest.raises(service.ServiceError, match=r"cannot make .*/logs/deep: Permission denied; nothing was changed"):
        service.install(job, Place("system", ground / "plists"), hands)
    assert list((ground / "root").iterdir()) == []
    assert not (ground / "plists").exists()


def typed(ground, *words, **more):
    environ = {**os.environ, "SUDO_USER": "daemon", "CCPROXY_HOME": str(ground / "eve")} | more
    command = [sys.executable, "-m", "ccproxy_supervisor", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_a_command_under_sudo_leaves_nothing_of_root_s_in_a_home_and_follows_no_link_out_of_it(ground):
    (ground / "eve/supervisor.yaml").touch()
    (ground / "eve/traefik").symlink_to(ground / "root")
    refused = typed(ground, "token", "add", "alice")
    assert refused.returncode == 1
    assert "Permission denied" in refused.stderr
    assert list((ground / "root").iterdir()) == []

    (ground / "eve/traefik").unlink()
    assert typed(ground, "token", "add", "alice").returncode == 0
    made = [path for path in (ground / "eve").rglob("*") if path.name != "supervisor.yaml"]
    assert {path.name for path in made} == {"tokens.json", "tokens.lock", "traefik", "dynamic.yaml"}
    assert {path.stat().st_uid for path in made} == {EVE.uid}


def test_purge_of_a_daemon_reaches_only_what_its_person_could_delete(ground, monkeypatch):
    """The service's home is below a folder that has become a link to another's."""
    (ground / "root/ccproxy").mkdir()
    (ground / "root/ccproxy/supervisor.yaml").touch()
    (ground / "eve/way").symlink_to(ground / "root")
    home = ground / "eve/way/ccproxy"
    monkeypatch.setenv("SUDO_USER", "daemon")
    for name, value in fake_launchctl.put_on_path(ground / "launchd").items():
        monkeypatch.setenv(name, value)

    refused = typed(ground, "uninstall", "--daemon", "--purge", "--yes", "--label", "x.y", CCPROXY_HOME=str(home))

    assert refused.returncode == 1
    assert (home / "supervisor.yaml").exists()
