"""The owner's command, run."""

import os
import signal
import sys

import pytest

from ccproxy_supervisor.edge.command import run
from daemon import wait_until_gone

pytestmark = pytest.mark.anyio


def python(code):
    return [sys.executable, "-c", code]


async def test_a_command_that_does_well_has_nothing_to_say():
    assert await run(python("print('x')"), 30) == ""


async def test_one_that_fails_is_told_with_its_last_line():
    told = await run(python("import sys; print('one'); print('no such\\x1b service'); sys.exit(3)"), 30)
    assert told == f"{sys.executable} ended with status 3: no such service"


async def test_one_that_is_not_there_is_told():
    assert (await run(["/nonexistent/brew"], 30)).startswith("cannot run /nonexistent/brew: ")


async def test_one_that_does_not_end_is_ended_with_all_it_started(tmp_path):
    child = tmp_path / "pid"
    code = f"import os, time\npid = os.fork()\nif pid: open({str(child)!r}, 'w').write(str(pid))\ntime.sleep(600)"
    told = await run(python(code), 1.0)
    assert told == f"{sys.executable} was not done after 1 s and was ended"
    wait_until_gone(int(child.read_text()))


async def test_what_a_command_leaves_running_is_left_running(tmp_path):
    """It is what the command is for; and it must not be waited for, though it holds the output open."""
    child = tmp_path / "pid"
    code = f"import os, time\npid = os.fork()\nif pid: open({str(child)!r}, 'w').write(str(pid))\nelse: time.sleep(600)"
    assert await run(python(code), 30) == ""
    pid = int(child.read_text())
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
