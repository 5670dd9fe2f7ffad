"""The end of processes that are nobody's children here."""

import contextlib
import os
import signal
import subprocess
import sys

import anyio
import pytest

from ccproxy_supervisor.edge import exits

pytestmark = pytest.mark.anyio
GRANDCHILD = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def stranger():
    pid = int(subprocess.run([sys.executable, "-c", GRANDCHILD], capture_output=True, check=True).stdout)
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def told(pid):
    with anyio.move_on_after(20):
        await exits.ended(pid)
        return True
    return False


@pytest.mark.parametrize("kernel", ["with pidfd", "without"])
async def test_the_end_of_a_stranger_is_noticed(stranger, kernel, monkeypatch):
    if kernel == "without":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with anyio.move_on_after(0.3) as early:
        await exits.ended(stranger)
    assert early.cancelled_caught, "it lives"
    os.kill(stranger, signal.SIGKILL)
    assert await told(stranger)


async def test_a_process_that_is_gone_has_ended(stranger):
    os.kill(stranger, signal.SIGKILL)
    assert await told(stranger)
    assert await told(stranger)


@pytest.mark.parametrize("kernel", ["with pidfd", "without"])
async def test_a_zombie_has_ended(kernel, monkeypatch):
    if kernel == "without":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    child = subprocess.Popen(["true"])
    assert await told(child.pid)
    child.wait()


async def test_no_descriptor_is_left_behind(stranger):
    before = os.listdir("/dev/fd")
    for _ in range(20):
        with anyio.move_on_after(0.01):
            await exits.ended(stranger)
    assert len(os.listdir("/dev/fd")) <= len(before) + 1


SHOWN = "import os, sys; print(os.getsid(0) == os.getpid(), os.getcwd(), os.environ['A'], *(f'{fd}' for fd in os.listdir('/proc/self/fd'))); "
SHOWN += "sys.stderr.write(sys.stdin.read() or 'nothing'); os.write(int(sys.argv[1]), b'heard'); sys.exit(7)"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no list of descriptors")
async def test_who_is_spawned_without_a_fork_stands_as_one_that_was_forked():
    (out, out_end), (more, more_end), other = os.pipe(), os.pipe(), os.pipe()
    command = [sys.executable, "-c", SHOWN, str(more_end)]
    started = exits.Started(exits.Spawned(exits.spawn(command, {"A": "b"}, {1: out_end, 2: out_end}, [more_end])))
    with anyio.fail_after(20):
        assert await started.wait() == 7
        assert await started.wait() == 7
    said = os.read(out, 4096).decode()
    shown, nothing = said.split("\n")
    session, where, variable, *fds = shown.split()
    assert (session, where, variable, nothing) == ("True", os.getcwd(), "b", "nothing")
    assert {"0", "1", "2", str(more_end)} <= set(fds)
    assert set(fds).isdisjoint(map(str, (out, out_end, more, *other)))
    assert os.read(more, 100) == b"heard"
    assert not os.get_inheritable(more_end)
    for fd in (out, out_end, more, more_end, *other):
        os.close(fd)


async def test_on_a_mac_a_program_is_spawned_where_it_can_be_and_forked_where_it_cannot(monkeypatch, tmp_path):
    spawned = []
    monkeypatch.setattr(
        exits, "spawn", lambda *words: spawned.append(words) or os.posix_spawn("/bin/true", ["true"], {})
    )
    how = {"env": {}, "stdout": 1, "stderr": 2, "pass_fds": ()}
    with monkeypatch.context() as mac:
        mac.setattr(sys, "platform", "darwin")
        here = exits.start(["/bin/true"], cwd=os.getcwd(), **how)
        there = exits.start(["/bin/true"], cwd=tmp_path, **how)
        mac.setattr(exits, "spawn", lambda *_: (_ for _ in ()).throw(NotImplementedError))
        old = exits.start(["/bin/true"], cwd=os.getcwd(), **how)
    assert len(spawned) == 1
    with anyio.fail_after(20):
        assert [await each.wait() for each in (here, there, old)] == [0, 0, 0]
