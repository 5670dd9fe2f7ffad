"""Processes: sessions, groups, forks, ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import anyio
import psutil

from ccproxy_supervisor.edge.exits import ended, spawn
from ccproxy_supervisor.edge.usage import memory
from ccproxy_supervisor.selftest.step import Result, fails, holds, judged, noted, unknown

FORKS = 5
BALLAST = 64 << 20  # bytes
WAITS = [sys.executable, "-S", "-c", "import sys; print('up', flush=True); sys.stdin.read()"]

SPAWNED = """import os, sys
try: closed = not os.fstat(int(sys.argv[2]))
except OSError: closed = True
os.write(int(sys.argv[1]), f"{os.getsid(0) == os.getpid()} {closed}".encode())"""


def line(child: subprocess.Popen[bytes]) -> bytes:
    """The next line that *child* says, which has a pipe for it."""
    return child.stdout.readline() if child.stdout else b""


def session() -> Result:
    child = subprocess.Popen(WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        line(child)
        return judged(child.pid == os.getpgid(child.pid) == os.getsid(child.pid), "a child leads its session and group")
    finally:
        child.kill()
        child.wait()


def posix_spawn() -> Result:
    """As workers are started on macOS: a session, what is passed and nothing else."""
    reads, writes = os.pipe()
    other = os.dup(reads)
    try:
        command = [sys.executable, "-S", "-c", SPAWNED, str(writes), str(other)]
        pid = spawn(command, os.environ, {1: writes, 2: 2}, [writes])
    except NotImplementedError:
        return noted("posix_spawn makes no session here: workers are forked")
    os.close(writes)
    said = os.read(reads, 100).decode()
    os.waitpid(pid, 0)
    return judged(
        said == "True True", f"a session of its own, and what is passed alone is open: {said or 'it said nothing'}"
    )


def group() -> Result:
    """A worker's group is killed whole, also when its leader is dead already."""
    nested = f"import subprocess, sys; c = subprocess.Popen({WAITS!r}); print(c.pid, flush=True); sys.stdin.read()"
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    member = int(next(said for said in iter(partial(line, leader), b"") if said.strip().isdigit()))
    leader.kill()
    said = "killed by its group"
    try:
        os.killpg(leader.pid, signal.SIGKILL)  # the leader is a zombie by now, or soon
    except PermissionError:
        said = "EPERM for the group of a zombie"
    leader.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader.pid, signal.SIGKILL)
    return judged(_until(lambda: _dead(member)), f"the child of a dead leader: {said}")


def exit_watch() -> Result:
    """The end of a process that is not our child is told (kqueue's NOTE_EXIT, or a pidfd)."""
    nested = f"import subprocess; c = subprocess.Popen({WAITS!r}, stdout=-3); print(c.pid, flush=True); c.stdin = None"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as middle:
        pid = int(line(middle))

        async def watch() -> float | None:
            begun = 0.0

            async def kill() -> None:
                nonlocal begun
                await anyio.sleep(0.2)
                begun = time.monotonic()
                os.kill(pid, signal.SIGKILL)

            with anyio.move_on_after(5):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(kill)
                    await ended(pid)
                return time.monotonic() - begun
            return None

        seconds = anyio.run(watch)
    return fails("its end was not told within 5 s") if seconds is None else holds(f"told after {seconds * 1000:.0f} ms")


def fork() -> Result:
    """A process that has used the network forks; each fork uses it again, as a preloaded worker does."""
    _use_the_network()
    statuses = []
    for _ in range(FORKS):
        pid = os.fork()
        if pid == 0:
            signal.alarm(3)
            try:
                _use_the_network()
                asyncio.run(_serve_oneself())
            except BaseException:
                os._exit(1)
            os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    bad = [signal.Signals(-each).name if each < 0 else f"exit {each}" for each in statuses if each]
    return fails(f"{len(bad)} of {FORKS} forks died: {', '.join(bad)}") if bad else holds(f"{FORKS} forks lived")


def _use_the_network() -> None:
    """What macOS's frameworks may be initialised by: names, proxies, certificates, a connection."""
    urllib.request.getproxies()
    socket.getaddrinfo("localhost", 80)
    ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        with server.accept()[0] as other:
            other.sendall(b"x")
        client.recv(1)


async def _serve_oneself() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.to_thread(socket.getaddrinfo, "localhost", 80)
        await reader.read()
        writer.close()


def footprint() -> Result:
    me = psutil.Process()
    before, resident = memory(me), me.memory_info().rss
    ballast = bytearray(os.urandom(1 << 20) * (BALLAST >> 20))
    grown, swollen = memory(me) - before, me.memory_info().rss - resident
    said = f"{len(ballast) >> 20} MiB more: the footprint grew by {grown >> 20}, the resident size by {swollen >> 20}"
    return judged(grown > BALLAST * 0.8, said) if before else unknown("the system does not say it")


def _dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _until(fact: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
