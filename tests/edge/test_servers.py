"""uvicorn's server as a worker runs it, by itself."""

import socket

import anyio
import pytest
import uvicorn

from ccproxy_supervisor.launcher.servers import server_class

pytestmark = pytest.mark.anyio
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


async def test_who_waits_in_the_queue_when_the_last_worker_leaves_is_served():
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    address = listener.getsockname()
    server = server_class()(uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=10))
    server.settle = 0.05
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            while not server.started:
                await anyio.lowlevel.checkpoint()
            clients = []
            for _ in range(20):  # in one turn of the loop: nobody can have accepted them
                clients.append(socket.create_connection(address, timeout=10))
                clients[-1].sendall(REQUEST)
            server.should_exit = True
            await server.shutdown([listener])
    for client in clients:
        with client:
            assert b"served" in b"".join(iter(lambda client=client: client.recv(1 << 16), b""))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=10)
