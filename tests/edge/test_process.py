"""The spawner and the launcher together: a real process that runs the stub."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import psutil
import pytest
from anyio import to_thread

from ccproxy_supervisor.core.model import SpawnError
from ccproxy_supervisor.core.plan import Birth
from ccproxy_supervisor.edge import exits
from ccproxy_supervisor.edge.launcher import Launcher
from ccproxy_supervisor.edge.listener import open_listener
from ccproxy_supervisor.edge.process import Spawner
from ccproxy_supervisor.edge.usage import usage
from ccproxy_supervisor.launcher.guests import ANSWERS
from ccproxy_supervisor.launcher.serve import SETTLE
from ccproxy_supervisor.launcher.servers import private_socket
from daemon import STUB
from outputs import Pipes
from stage import plan_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def workshop(tmp_path):
    """Call with environment settings: a context with a child of number 1; `.client` talks to its private socket."""
    os.makedirs(tmp_path / "run")
    listener = open_listener("127.0.0.1", 0)
    heard = []

    @asynccontextmanager
    async def hire(python=sys.executable, **env):
        complete = {"PATH": os.environ["PATH"], "PYTHONPATH": str(STUB), **env}
        birth = Birth(python=python, config="config.yaml", env=tuple(complete.items()), digest="a")
        spawn = Spawner(
            listener, tmp_path, Launcher(tmp_path / "run"), lambda birth: birth.config, lambda _: Pipes(tmp_path),
            lambda number, stats, uds: heard.append((number, stats.pid, uds)), heard.append, exits.start,
        )  # fmt: skip
        async with spawn(1, replace(plan_of(), birth=birth)) as child:
            yield child

    hire.folder, hire.heard, hire.port = tmp_path, heard, listener.getsockname()[1]
    yield hire
    listener.close()


def private(workshop):
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(workshop.folder / "run" / "w1.sock")), base_url="http://w"
    )


def public(workshop):
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{workshop.port}")


async def test_a_worker_answers_privately_before_it_accepts_publicly(workshop):
    async with workshop() as child, private(workshop) as inside, public(workshop) as outside:
        await child.ready()
        assert (await inside.get("/health/liveliness")).status_code == 200
        assert oct((workshop.folder / "run" / "w1.sock").stat().st_mode)[-3:] == "600"
        with pytest.raises(httpx.ReadTimeout):
            await outside.get("/", timeout=httpx.Timeout(20, read=0.2))  # connected, waits in the backlog

        await child.activate(0)
        answer = await outside.get("/")
        assert (answer.text, "connection" in answer.headers) == (str(child.pid), False)


async def test_a_drained_worker_finishes_its_streams_and_leaves(workshop):
    async with workshop() as child, public(workshop) as outside:
        await child.activate(0)
        async with outside.stream("GET", "/stream?chunks=20&every=0.05") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            child.drain(10)
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert await child.wait() == 0
    assert not (workshop.folder / "run" / "w1.sock").exists()


async def exchange(stream, path="/"):
    """Ask on a connection that is open; returns the head of the answer."""
    await stream.send(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower())[1])
    while len(body) < length:
        body += await stream.receive()
    return head.lower()


async def test_a_connection_is_kept_for_its_share_of_answers(workshop):
    async with workshop() as child, await anyio.connect_tcp("127.0.0.1", workshop.port) as stream:
        await child.activate(0)
        for _ in range(ANSWERS - 1):
            assert b"connection: close" not in await exchange(stream)
        assert b"connection: close" in await exchange(stream)
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_who_is_silent_is_seen_off_and_who_asks_once_more_is_answered(workshop):
    async with workshop() as child:
        await child.activate(0)
        silent, asking, new = [await anyio.connect_tcp("127.0.0.1", workshop.port) for _ in range(3)]
        for stream in (silent, asking):
            assert b"200 ok" in await exchange(stream)
        child.drain(10)
        await child.draining()
        for stream in (asking, new):  # what is sent on a kept connection, or on one that was never used, is not lost
            head = await exchange(stream)
            assert b"200 ok" in head
            assert b"connection: close" in head
        with pytest.raises(anyio.EndOfStream):  # and no reset
            await silent.receive()
        assert await child.wait() == 0
        for stream in (silent, asking, new):
            await stream.aclose()


async def test_half_a_request_does_not_hold_up_a_drain(workshop):
    async with workshop() as child, await anyio.connect_tcp("127.0.0.1", workshop.port) as slow:
        await child.activate(0)
        await slow.send(b"GET / HTTP/1.1\r\n")
        child.drain(60)
        with anyio.fail_after(30):
            assert await child.wait() == 0


async def sent_while_it_drains(workshop):
    """Whether the rest of a request came as soon after the drain as is promised to be in time."""
    async with workshop() as child:
        await child.activate(0)
        async with await anyio.connect_tcp("127.0.0.1", workshop.port) as slow:
            await slow.send(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
            child.drain(10)
            await anyio.sleep(0.2)
            await slow.send(b"Host: x\r\n\r\n")
            if time.monotonic() - began > SETTLE - 0.1:
                return False
            assert (await slow.receive()).startswith(b"HTTP/1.1 200")
        assert await child.wait() == 0
    return True


async def test_a_request_that_is_just_being_sent_survives_the_drain(workshop):
    for _ in range(20):  # until the machine did not stall
        if await sent_while_it_drains(workshop):
            return
    pytest.fail("this machine is too slow to tell")


async def test_streams_beyond_the_deadline_are_cut_and_the_status_says_so(workshop):
    async with workshop() as child, public(workshop) as outside:
        await child.activate(0)
        async with outside.stream("GET", "/stream?chunks=1000&every=0.05") as stream:
            await anext(lines := stream.aiter_lines())
            child.drain(0.8)
            with pytest.raises(httpx.RemoteProtocolError):
                [line async for line in lines]
        assert await child.wait() == 75


async def test_sigterm_drains_too(workshop):
    async with workshop() as child:
        await child.ready()
        child.signal(signal.SIGTERM)
        assert await child.wait() == 0


def wait_for(file, word):
    while not file.exists() or word not in file.read_text():
        time.sleep(0.01)


async def test_sigterm_before_it_is_up_ends_it_at_once(workshop):
    async with workshop(STUB_START_DELAY="60") as child:
        await to_thread.run_sync(wait_for, workshop.folder / "stdout", "slow")
        child.signal(signal.SIGTERM)
        assert await child.wait() == 0


async def test_a_start_that_fails_says_why(workshop):
    async with workshop(STUB_FAIL="3") as child:
        assert await child.wait() == 3
        assert await child.output() == ("stub: told to fail",)


async def test_leaving_the_context_kills_and_reaps(workshop):
    async with workshop() as child:
        await child.ready()
        pid = child.pid
        assert usage(child).memory > 1 << 20
    assert not psutil.pid_exists(pid)
    assert usage(child) is None
    assert workshop.heard == [(1, pid, str(workshop.folder / "run" / "w1.sock")), 1]


async def test_a_program_that_does_not_exist_is_a_spawn_error(workshop):
    told = "cannot start /no/python: No such file or directory; run: ccproxy-supervisor upgrade --repair"
    with pytest.raises(SpawnError, match=told):
        async with workshop(python="/no/python"):
            pass


async def test_secrets_are_in_the_environment_and_never_in_the_arguments(workshop):
    async with workshop(LITELLM_MASTER_KEY="sk-very-secret") as child:
        await child.ready()
        process = psutil.Process(child.pid)
        assert process.environ()["LITELLM_MASTER_KEY"] == "sk-very-secret"
        assert "sk-very-secret" not in " ".join(process.cmdline())


async def test_a_request_without_the_key_is_refused_in_the_shape_of_its_api(workshop):
    async with workshop(LITELLM_MASTER_KEY="sk-very-secret") as child, public(workshop) as outside:
        await child.activate(0)
        await outside.post("/v1/messages", content=b"x" * (4 << 20))  # read to its end: the answer must not be lost
        anthropic = await outside.post("/v1/messages", json={"model": "echo"}, headers={"x-api-key": "sk-other"})
        openai = await outside.post("/v1/chat/completions", json={"model": "echo"})
        good = await outside.post("/v1/messages", json={"model": "echo"}, headers={"x-api-key": "sk-very-secret"})
        alive = await outside.get("/health/liveliness")
    said = "Send the proxy's key as Authorization: Bearer, or as x-api-key."
    wrong = {"type": "authentication_error", "message": f"The API key is not valid. {said}"}
    none = {"message": f"No API key was sent. {said}", "type": "invalid_request_error"}
    assert anthropic.json() == {"type": "error", "error": wrong}
    assert openai.json() == {"error": none | {"param": None, "code": "invalid_api_key"}}
    for answer in (anthropic, openai):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (401, "false")
    assert (good.status_code, alive.status_code) == (200, 200)


async def test_health_is_answered_from_what_was_last_told(workshop):
    async with workshop() as child, public(workshop) as outside, private(workshop) as inside:
        await child.activate(0)
        assert (await outside.get("/health")).status_code == 503
        child.inform(
            {"status": "healthy", "uptime": 3600.0, "models": ["ollama/llama2"] * 20_000}
        )  # as much as it takes
        child.inform({"status": "degraded", "uptime": 3700.0, "models": ["ollama/llama2", "ö"]})
        while (answer := await outside.get("/health")).json()["status"] != "degraded":
            pass
        assert answer.json()["models"] == ["ollama/llama2", "ö"]
        assert 3700 <= answer.json()["uptime"] < 3760
        head = await outside.head("/health")
        assert (head.status_code, head.content) == (200, b"")
        assert (await outside.get("/health?model=echo")).json()["healthy_endpoints"] == [{"model": "echo"}]
        assert (await inside.get("/health")).json()["healthy_endpoints"] == [{"model": None}]


async def test_of_one_that_does_not_listen_only_the_latest_news_is_kept(workshop):
    async with workshop(STUB_START_DELAY="0.5") as child:
        child.signal(signal.SIGSTOP)
        for number in range(200):
            child.inform({"status": "healthy", "uptime": 0.0, "models": [f"{number}" * 10_000]})
        assert len(child._orders) + len(child._news) < 200_000
        child.signal(signal.SIGCONT)
        async with public(workshop) as outside:
            await child.activate(0)
            assert (await outside.get("/health")).json()["models"] == ["199" * 10_000]


async def test_records_reach_the_log_as_json_lines(workshop):
    async with workshop() as child, public(workshop) as outside:
        await child.activate(0)
        await outside.get("/hello")
        lines = [json.loads(line) for line in (workshop.folder / "litellm").read_text().splitlines()]
    access = next(line for line in lines if line["logger"] == "uvicorn.access")
    assert access["worker"] == 1
    assert access["level"] == "info"
    assert '"GET /hello HTTP/1.1" 200' in access["message"]
    assert access["time"].endswith("Z")


async def left_behind(workshop, outside):
    """A grandchild that no signal to the worker reaches."""
    file = workshop.folder / "grandchild"
    await outside.get("/leave", params={"file": str(file)})
    await to_thread.run_sync(wait_for, file, "\n")
    return psutil.Process(int(file.read_text()))


async def test_what_a_worker_starts_holds_neither_the_port_nor_our_descriptors(workshop):
    async with workshop() as child, public(workshop) as outside:
        await child.activate(0)
        grandchild = await left_behind(workshop, outside)
        try:
            child.signal(signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
            assert grandchild.is_running()
            assert grandchild.num_fds() == 3  # its standard ones
        finally:
            grandchild.kill()


async def test_a_worker_whose_supervisor_died_lets_go_of_the_port(workshop):
    async with workshop() as child:
        await child.activate(0)
        child._control.shutdown(socket.SHUT_RDWR)  # what the kernel does to the other end of a dead process
        assert await child.wait() == 0


def test_a_socket_that_was_given_our_old_one_s_number_is_left_alone(tmp_path):
    path = str(tmp_path / "w1.sock")
    with private_socket(path) as (sock,), sock:
        born = os.stat(path).st_ctime_ns
        while os.stat(path).st_ctime_ns == born:  # of the same number, and younger: what another worker may have made
            os.chmod(path, 0o600)

    assert os.path.exists(path)


async def test_no_descriptors_left_is_a_spawn_error(tmp_path):
    def full(label):
        raise OSError(24, "Too many open files")

    with open_listener("127.0.0.1", 0) as listener:
        spawn = Spawner(
            listener, tmp_path, str, lambda birth: birth.config, full, lambda *_: None, lambda _: None, exits.start
        )
        with pytest.raises(SpawnError, match="cannot make pipes for worker 1: Too many open files"):
            async with spawn(1, plan_of()):
                pass


FAULTS = [
    OSError(errno.EAGAIN, "Resource temporarily unavailable"),
    RuntimeError("can't start new thread"),
    ValueError("embedded null byte"),
    MemoryError(),
    subprocess.SubprocessError("Exception occurred in preexec_fn."),
    SystemError("returned a result with an exception set"),
]


def raising(error):
    def raises(*_, **__):
        raise error

    return raises


@pytest.mark.parametrize("error", FAULTS, ids=repr)
@pytest.mark.parametrize("at", ["pipes", "sockets", "launcher", "config", "fork", "start"])
async def test_whatever_a_start_raises_is_a_spawn_error_and_leaves_nothing(tmp_path, monkeypatch, at, error):
    made, before = [], psutil.Process().num_fds()

    def capture(_):
        made.append(Pipes(tmp_path))
        return made[0]

    async def fork(*_):
        raise error

    parts = {"launcher": str, "config": lambda birth: birth.config, "capture": capture}
    faulty = {name: raising(error) for name in parts if name == {"pipes": "capture"}.get(at, at)}
    if at == "sockets":
        monkeypatch.setattr(socket, "socketpair", raising(error))
    if at == "start":
        monkeypatch.setattr(subprocess, "Popen", raising(error))
    with open_listener("127.0.0.1", 0) as listener:
        spawn = Spawner(
            listener, tmp_path, **parts | faulty, enrol=lambda *_: None, leave=lambda _: None, start=exits.start,
            **({"fork": fork} if at == "fork" else {}),
        )  # fmt: skip
        with pytest.raises(SpawnError, match=r"cannot (start|make pipes for worker 1)"):
            async with spawn(1, plan_of()):
                pass
    assert [pipes.closed for pipes in made] == [True] * len(made)
    assert psutil.Process().num_fds() == before


async def test_a_worker_needs_no_thread_of_ours(workshop, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread")))
    async with workshop() as child:
        await child.ready()
        pid = child.pid
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("error", FAULTS, ids=repr)
async def test_what_is_only_remembered_of_a_worker_does_not_cost_it_its_life(tmp_path, monkeypatch, error):
    told = []
    os.makedirs(tmp_path / "run")
    env = (("PATH", os.environ["PATH"]), ("PYTHONPATH", str(STUB)))
    birth = Birth(python=sys.executable, config="config.yaml", env=env, digest="a")
    monkeypatch.setattr(psutil.Process, "__init__", raising(error))
    monkeypatch.setattr(exits, "ended", raising(error))
    monkeypatch.setattr(Path, "unlink", raising(error if isinstance(error, OSError) else OSError()))
    with open_listener("127.0.0.1", 0) as listener:
        spawn = Spawner(
            listener, tmp_path, Launcher(tmp_path / "run"), lambda birth: birth.config, lambda _: Pipes(tmp_path),
            raising(error), raising(error), exits.start, journal=told.append,
        )  # fmt: skip
        async with spawn(1, replace(plan_of(), birth=birth)) as child:
            await child.ready()
            assert usage(child) is None
            child.signal(signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
    assert [note.event for note in told] == ["worker.unrecorded"] * 2
    assert type(error).__name__ in told[0].fields["reason"]
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)  # reaped
