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
