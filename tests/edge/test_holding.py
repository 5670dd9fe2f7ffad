import json
import socket
from contextlib import asynccontextmanager

import anyio
import pytest

from ccproxy_supervisor.edge import holding
from ccproxy_supervisor.edge.holding import Holding, reply

pytestmark = pytest.mark.anyio
HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch):
    monkeypatch.setattr(holding, "LINGER", 5.0)


@pytest.fixture
def hurry(monkeypatch):
    """For clients that take the answer and do not hang up."""
    monkeypatch.setattr(holding, "LINGER", 0.1)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        yield sock


@asynccontextmanager
async def holding_on(listener):
    held = Holding()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held.run, listener)
        yield held
        tasks.cancel_scope.cancel()


async def connect(listener):
    return await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])


async def everything(stream):
    """Read to the end; a reset is an error here."""
    data = b""
    try:
        while True:
            data += await stream.receive()
    except anyio.EndOfStream:
        return data


async def ask(listener, *parts):
    async with await connect(listener) as stream:
        for part in parts:
            await stream.send(part)
        return await everything(stream)


def split(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), json.loads(body)


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens", "http://x/v1/messages"]
)
def test_anthropics_paths_are_answered_in_its_shape(path):
    _, body = split(reply("POST", path))
    assert (body["type"], body["error"]["type"]) == ("error", "overloaded_error")
    assert "Retry in 5 seconds" in body["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health", "*"])
def test_other_paths_are_answered_in_openais_shape(path):
    _, body = split(reply("POST", path))
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_head_has_no_body():
    assert reply("HEAD", "/").endswith(b"Content-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\n\r\n")


async def test_a_request_is_answered_503_and_counted(listener):
    async with holding_on(listener) as held:
        head, body = split(await ask(listener, HEAD + b"Content-Length: 2\r\n\r\n", b"{}"))
        assert held.answered == 1
    assert head[0] == "HTTP/1.1 503 Service Unavailable"
    assert {"Retry-After: 5", "Connection: close", "Content-Type: application/json"} <= set(head)
    assert body["error"]["type"] == "overloaded_error"


@pytest.mark.usefixtures("hurry")
async def test_clients_that_waited_in_the_backlog_are_answered(listener):
    async with await connect(listener) as waiting:
        await waiting.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        async with holding_on(listener):
            assert (await everything(waiting)).startswith(b"HTTP/1.1 503")


async def test_a_long_body_is_read_so_that_the_answer_arrives(listener):
    async with holding_on(listener):
        answer = await ask(listener, HEAD + b"Content-Length: 8388608\r\n\r\n", bytes(8 << 20))
    assert answer.startswith(b"HTTP/1.1 503")


async def test_a_body_beyond_the_bound_is_answered_before_its_end(listener, monkeypatch):
    monkeypatch.setattr(holding, "BODY", 1 << 20)
    async with holding_on(listener):
        answer = await ask(listener, HEAD + b"Content-Length: 1000000000\r\n\r\n", bytes(2 << 20))
    assert answer.startswith(b"HTTP/1.1 503")


async def test_chunks_are_read_through(listener):
    async with holding_on(listener):
        answer = await ask(listener, HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503")


async def test_a_client_that_waits_for_continue_is_answered_at_once(listener):
    async with holding_on(listener):
        answer = await ask(listener, HEAD + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503")


async def test_a_body_that_stalls_is_answered_when_patience_ends(listener, monkeypatch):
    monkeypatch.setattr(holding, "PATIENCE", 0.1)
    async with holding_on(listener):
        answer = await ask(listener, HEAD + b"Content-Length: 9\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 503")


async def test_a_silent_client_is_closed_and_not_counted(listener, monkeypatch):
    monkeypatch.setattr(holding, "PATIENCE", 0.1)
    async with holding_on(listener) as held:
        assert await ask(listener) == b""
        assert held.answered == 0


@pytest.mark.parametrize(
    "noise",
    [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, b"\x00\r\n\r\n"],
    ids=["tls", "long", "nul"],
)
async def test_noise_is_answered_like_anything_else(listener, noise):
    async with holding_on(listener):
        answer = await ask(listener, noise)
    assert answer.startswith(b"HTTP/1.1 503")


async def test_clients_that_vanish_are_survived(listener):
    async with holding_on(listener) as held:
        for parts in ([], [b"GET"], [HEAD + b"Content-Length: 100\r\n\r\n"]):
            async with await connect(listener) as stream:
                for part in parts:
                    await stream.send(part)
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        assert (await ask(listener, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert held.answered >= 1


async def test_it_stops_accepting_at_once_and_finishes_what_it_accepted(listener):
    async with await connect(listener) as early, await connect(listener) as late, anyio.create_task_group() as tasks:
        held, ending = Holding(), anyio.CancelScope()

        async def hold():
            with ending:
                await held.run(listener)

        await early.send(HEAD + b"Content-Length: 2\r\n\r\n")
        async with await connect(listener) as third:
            tasks.start_soon(hold)
            await third.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await everything(third)  # accepted in turn: so early and late have been, too
        ending.cancel()
        await anyio.wait_all_tasks_blocked()
        async with await connect(listener) as after:
            for stream in (early, late, after):
                await stream.send(b"{}" if stream is early else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for stream in (early, late):
                assert (await everything(stream)).startswith(b"HTTP/1.1 503")
                await stream.aclose()
            with anyio.move_on_after(0.1) as unanswered:
                await after.receive()
            assert unanswered.cancelled_caught
    assert held.answered == 3


@pytest.mark.usefixtures("hurry")
async def test_a_connection_accepted_in_the_moment_of_the_end_is_answered(listener):
    async with await connect(listener) as stream:
        await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        held = Holding()
        async with anyio.create_task_group() as tasks:
            accept = holding._accept

            async def accept_and_end(mine):
                client = await accept(mine)
                tasks.cancel_scope.cancel()
                return client

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(holding, "_accept", accept_and_end)
                tasks.start_soon(held.run, listener)
                await anyio.sleep_forever()
        assert (await everything(stream)).startswith(b"HTTP/1.1 503")


async def test_the_listener_stays_open_and_serves_on(listener):
    async with holding_on(listener):
        await ask(listener, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with await connect(listener):
        listener.setblocking(True)
        client, _ = listener.accept()
        client.close()


async def test_more_than_its_share_waits_in_the_backlog(listener, monkeypatch):
    monkeypatch.setattr(holding, "AT_ONCE", 2)
    monkeypatch.setattr(holding, "PATIENCE", 0.2)
    async with holding_on(listener) as held:
        silent = [await connect(listener) for _ in range(2)]
        async with await connect(listener) as third:
            await third.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await everything(third)).startswith(b"HTTP/1.1 503")
        for stream in silent:
            await stream.aclose()
        assert held.answered == 1


async def test_many_at_once_are_all_answered(listener):
    answers = []

    async def one():
        answers.append(await ask(listener, HEAD + b"Content-Length: 2\r\n\r\n", b"{}"))

    async with holding_on(listener) as held:
        async with anyio.create_task_group() as clients:
            for _ in range(150):
                clients.start_soon(one)
        assert held.answered == 150
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 503"}


async def test_being_out_of_descriptors_is_survived(listener):
    fails = [OSError(24, "Too many open files")] * 2

    class Full:
        def fileno(self):
            return listener.fileno()

        def accept(self):
            if fails:
                raise fails.pop()
            return listener.accept()

    async with await connect(listener):
        (await holding._accept(Full())).close()
    assert fails == []


async def test_idle_connections_however_many_delay_no_answer(listener, monkeypatch, hurry):
    monkeypatch.setattr(holding, "PATIENCE", 1000.0)
    async with holding_on(listener) as held:
        idle = [await connect(listener) for _ in range(140)]
        with anyio.fail_after(30):
            for _ in range(10):
                assert (await ask(listener, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert held.answered == 10
        for stream in idle:
            await stream.aclose()


async def test_who_asked_and_dawdles_with_the_rest_is_answered_before_others_wait(listener, monkeypatch, hurry):
    monkeypatch.setattr(holding, "PATIENCE", 1000.0)
    monkeypatch.setattr(holding, "AT_ONCE", 3)
    async with holding_on(listener) as held, anyio.create_task_group() as tasks:
        answers = []

        async def dawdle():
            answers.append(await ask(listener, HEAD + b"Content-Length: 9\r\n\r\n{"))

        for _ in range(6):
            tasks.start_soon(dawdle)
        with anyio.fail_after(30):
            while len(answers) < 3:  # noqa: ASYNC110 - the others are waited for
                await anyio.sleep(0.01)
        assert all(answer.startswith(b"HTTP/1.1 503") for answer in answers)
        assert held.answered >= 3
        tasks.cancel_scope.cancel()
