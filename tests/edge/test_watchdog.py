"""A stuck event loop ends the process, whatever the dump meets; a living one is left alone."""

import faulthandler
import os
import signal
import subprocess
import sys
import textwrap

import anyio

from ccproxy_supervisor.edge.watchdog import EX_SOFTWARE, Watchdog, pulse

START = """
import os, re, signal, sys, threading, time
from pathlib import Path
from ccproxy_supervisor.edge import watchdog
dog = watchdog.Watchdog(Path(sys.argv[1]), tick=0.02, limit=0.1)
dog.start()
"""


def ended(tmp_path, code):
    """The exit status of a watched process, born with its signals ignored: the worst parent it could have."""
    program = START + textwrap.dedent(code)
    deaf = ["sh", "-c", 'trap "" ALRM PROF; exec "$@"', "sh"]
    command = [*deaf, sys.executable, "-c", program, tmp_path / "stuck-stack.txt"]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).returncode


def test_a_stuck_loop_ends_the_process_and_leaves_every_stack(tmp_path):
    status = ended(tmp_path, "def waits_for_a_dead_disk(): threading.Event().wait()\nwaits_for_a_dead_disk()")

    file = tmp_path / "stuck-stack.txt"
    assert status == EX_SOFTWARE
    assert "waits_for_a_dead_disk" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_dump_that_blocks_does_not_save_the_process(tmp_path):
    status = ended(
        tmp_path,
        """
        watchdog.DUMP_TIME = 0.1
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        try:
            while os.write(writes, bytes(65536)): pass
        except BlockingIOError: pass
        os.set_blocking(writes, True)
        os.dup2(writes, dog._fd)
        threading.Event().wait()
        """,
    )

    assert status == -signal.SIGALRM


def test_native_code_that_keeps_the_interpreter_ends_the_process_and_leaves_every_stack(tmp_path):
    status = ended(tmp_path, 'def computes_for_ever(): re.match("(a+)+$", "a" * 99 + "b")\ncomputes_for_ever()')

    assert status == -signal.SIGPROF
    assert "computes_for_ever" in (tmp_path / "stuck-stack.txt").read_text()


def test_a_process_that_was_stopped_for_long_is_left_alone(tmp_path):
    program = """
        def beats():
            while True: dog.beat(); time.sleep(0.01)
        threading.Thread(target=beats, daemon=True).start()
        me, keeper = os.getpid(), os.fork()
        if keeper == 0:
            os.kill(me, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(me, signal.SIGCONT)
            os._exit(0)
        os.waitpid(keeper, 0)
        os._exit(0)
        """

    assert ended(tmp_path, program) == 0


def test_a_loop_that_beats_is_left_alone(tmp_path):
    assert ended(tmp_path, "for _ in range(50): dog.beat(); time.sleep(0.01)\nos._exit(0)") == 0


def test_a_closed_watchdog_ends_nobody(tmp_path):
    assert ended(tmp_path, "dog.close(); time.sleep(0.3); os._exit(0)") == 0


def test_the_next_one_is_told_what_the_stuck_one_left(tmp_path):
    file = tmp_path / "stuck-stack.txt"
    file.write_text("Thread 0x1 (most recent call first):\n")
    dog = Watchdog(file)

    assert dog.start() == "Thread 0x1 (most recent call first):\n"
    assert os.path.getsize(file) == 0
    dog.close()


def test_the_pulse_beats_and_tells_how_late_it_was():
    heard, beats = [], []

    async def main():
        async with anyio.create_task_group() as tasks:

            def beat():
                beats.append(len(heard))
                if len(beats) == 3:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(pulse, 0.01, beat, heard.append)

    anyio.run(main)
    assert beats == [1, 2, 3]
    assert all(lag >= 0 for lag in heard)


def test_a_removed_stack_file_is_made_anew_and_costs_no_descriptor(tmp_path):
    file = tmp_path / "stack.txt"
    dog = Watchdog(file)
    try:
        assert dog.restore()
        assert not dog.restore()
        before = len(os.listdir("/dev/fd"))
        for _ in range(3):
            file.unlink()
            assert dog.restore()
            assert (file.stat().st_mode & 0o777, os.fstat(dog._fd).st_ino) == (0o600, file.stat().st_ino)
        assert len(os.listdir("/dev/fd")) == before
        assert not os.get_inheritable(dog._fd)
    finally:
        faulthandler.unregister(signal.SIGPROF)
        os.close(dog._fd)


def test_on_macos_no_count_of_processor_time_can_end_a_daemon_that_is_well(tmp_path):
    code = """
        watchdog.COUNTS = False
        assert signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0)
        dog._arm(0); signal.setitimer(signal.ITIMER_PROF, 0); dog.close()
        other = watchdog.Watchdog(Path(sys.argv[1]), tick=0.02, limit=0.1)
        other.start()
        time.sleep(0.05)
        assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
        os._exit(0)
        """
    assert ended(tmp_path, code) == 0
