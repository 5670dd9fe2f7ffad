import os
import socket
import subprocess
import sys

import anyio
import pytest

from ccproxy_supervisor import recovery
from ccproxy_supervisor.core.settings import parse
from ccproxy_supervisor.edge import listener
from ccproxy_supervisor.edge.listener import ListenError, holder, open_listener
from ccproxy_supervisor.recovery import Recovery

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def port_of(sock):
    return sock.getsockname()[1]


def test_accepted_connections_do_not_delay_small_packets():
    with open_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_listener_is_not_inherited_unasked():
    with open_listener("127.0.0.1", 0) as listener:
        assert not os.get_inheritable(listener.fileno())


def test_clients_wait_in_the_backlog_before_anybody_accepts():
    with open_listener("127.0.0.1", 0) as listener:
        clients = [socket.create_connection(listener.getsockname(), timeout=1) for _ in range(50)]
        for client in clients:
            client.close()


def test_a_taken_port_names_its_holder():
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stranger:
        port = int(stranger.stdout.readline())
        with pytest.raises(ListenError) as refusal:
            open_listener("127.0.0.1", port)
        told = str(refusal.value)
        stranger.stdin.close()

    assert f"cannot listen on 127.0.0.1:{port}: Address already in use (held by pid {stranger.pid} (" in told
    assert "import socket" in told


def test_an_address_that_is_not_ours_is_refused_without_a_holder():
    with pytest.raises(ListenError) as refusal:
        open_listener("192.0.2.1", 8081)

    assert str(refusal.value) == "cannot listen on 192.0.2.1:8081: Cannot assign requested address"


def test_nobody_holds_a_free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = port_of(sock)
    assert holder("127.0.0.1", port) is None


def test_a_listener_on_every_address_holds_the_loopback_port():
    with socket.create_server(("", 0)) as sock:
        assert f"pid {os.getpid()} " in holder("127.0.0.1", port_of(sock))


def test_ipv6_loopback_works():
    with open_listener("::1", 0) as listener:
        assert listener.family == socket.AF_INET6


async def test_who_holds_a_taken_port_is_looked_for_seldom(monkeypatch):
    """It costs as much as a thousand tries: 8 % of a core while a stranger had the port."""
    looks, tries, notes, virtual = [], [], [], [0.0]

    async def sleep(seconds):
        virtual[0] += seconds
        tries.append(seconds)
        if virtual[0] > 120:
            held.close()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(listener, "holder", lambda *at: looks.append(at) or "pid 41 (stranger)")
    monkeypatch.setattr(recovery, "sleep", sleep)
    monkeypatch.setattr(recovery, "current_time", lambda: virtual[0])
    held = socket.create_server(("127.0.0.1", 0))
    settings = parse(f"proxy: {{port: {port_of(held)}}}")
    waiting = Recovery(
        lambda: settings, None, lambda words: False, lambda numbers: None, lambda host, port: None, notes.append
    )
    with await waiting._open():
        assert len(looks) == 5
        assert len(tries) < 250
        assert [note.event for note in notes] == ["listener.refused"]
        assert waiting.why.endswith("Address already in use (held by pid 41 (stranger))")


async def test_several_hear_who_knocks_and_nobody_does_before():
    heard = []

    async def hear(sock):
        await listener.knocked(sock)
        heard.append(listener.queued(sock))

    with open_listener("127.0.0.1", 0) as sock:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear, sock)
            tasks.start_soon(hear, sock)
            with anyio.move_on_after(0.1):
                await listener.knocked(sock)
                heard.append("somebody")
            assert heard == []
            with socket.create_connection(sock.getsockname()):
                while len(heard) < 2:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
    assert heard == [True, True]
