import asyncio
import json
import os
import signal
import socket
import stat
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from ccproxy_supervisor.edge import admin
from ccproxy_supervisor.edge.admin import admin_app, control_app, host_allowed
from ccproxy_supervisor.edge.embedded import doors, serve, serve_tcp, serve_unix, server
from ccproxy_supervisor.edge.fetch import fetch

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Daemon:
    """What the apps are handed, and a place to serve them."""

    def __init__(self):
        self.state, self.allowed, self.page, self.ordered, self.notes = "healthy", set(), None, [], []
        self.opened = anyio.Event()

    def health(self):
        return {"status": self.state, "uptime": 3600, "models": ["ollama/llama2"]}

    def status(self):
        return {"status": self.state, "workers": []}

    def journal(self, note):
        self.notes.append(note)
        if note.event == "admin.opened":
            self.port = note.fields["port"]
            self.opened.set()

    async def order(self, name, body):
        if name == "canary":
            raise ValueError("no such version")
        if name == "rotate":
            raise RuntimeError("a bug with sk-secret in it")
        self.ordered.append((name, body))
        return {"result": "done"}

    @property
    def admin(self):
        return admin_app(
            self.health, self.status, lambda accept: (accept.encode(), "text/x-test"), lambda: self.allowed, self.page
        )

    @asynccontextmanager
    async def serving(self, app=None):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_tcp, app or self.admin, "127.0.0.1", 0, self.journal)
            with anyio.fail_after(5):
                await self.opened.wait()
            yield f"http://127.0.0.1:{self.port}"
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def controlled(self, path):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_unix, control_app(self.health, self.status, self.order), path, self.notes.append)
            with anyio.fail_after(5):
                while not os.path.exists(path):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            yield
            tasks.cancel_scope.cancel()


@pytest.fixture
def daemon():
    return Daemon()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "control.sock")


async def converse(port, *parts):
    """Send *parts* as they are and return everything that comes back until the other side closes."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        received = b""
        try:
            for part in parts:
                await stream.send(part)
            while True:
                received += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return received


async def send_for_ever(stream, data):
    while True:
        await stream.send(data)


def ask(port, path="/status", method="GET", host="localhost", more=""):
    return converse(port, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode())


@pytest.mark.parametrize(
    ("state", "code"), [("healthy", 200), ("degraded", 200), ("starting", 503), ("unhealthy", 503), ("stopping", 503)]
)
async def test_health_tells_by_status_code_too(daemon, state, code):
    daemon.state = state
    async with daemon.serving() as url:
        answer = await fetch(url + "/health", timeout=5)
    assert answer.status == code
    assert json.loads(answer.body) == daemon.health()


async def test_the_pages_and_their_headers(daemon):
    async with daemon.serving():
        status = (await ask(daemon.port)).lower()
        metrics = await ask(daemon.port, "/metrics", more="Accept: application/openmetrics-text\r\n")
    head, _, body = status.partition(b"\r\n\r\n")
    assert json.loads(body) == daemon.status()
    assert b"content-type: application/json" in head
    assert b"cache-control: no-store" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"access-control" not in head
    assert b"server:" not in head
    assert b"content-type: text/x-test\r\n" in metrics.lower()
    assert metrics.endswith(b"application/openmetrics-text")


async def test_without_a_page_the_root_leads_to_the_status(daemon):
    async with daemon.serving():
        answer = await ask(daemon.port, "/")
    assert answer.startswith(b"HTTP/1.1 302")
    assert b"location: /status\r\n" in answer


async def test_a_page_is_shown_at_the_root(daemon):
    daemon.page = b"<!doctype html>", {"Content-Type": "text/html; charset=utf-8"}
    async with daemon.serving():
        answer = await ask(daemon.port, "/")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"content-type: text/html; charset=utf-8" in answer
    assert answer.endswith(b"<!doctype html>")


@pytest.mark.parametrize(
    ("query", "more", "status", "told"),
    [
        ("status=401&url=http%3A%2F%2Fmac%2Fv1%2Fmessages%3Fbeta%3Dtrue", "", 401, "authentication_error"),
        (
            "status=404&url=http%3A%2F%2Fmac%2Fv1%2Fmodels%2Fx%2Fy",
            "anthropic-version: 2023-06-01\r\n",
            404,
            "not_found_error",
        ),
        ("status=404&url=%2Fv1%2Ffiles", "", 404, "/v1/files is not offered here"),
        ("status=401&url=%2Fv1%2Fresponses", "", 401, "invalid_api_key"),
        ("status=200&url=%5B%3A%3A", "", 401, "invalid_api_key"),
        ("", "", 401, "invalid_api_key"),
        ("status=404&url=" + "%22%3C%0a" * 3000, "", 404, "is not offered here"),
    ],
)
async def test_traefik_is_told_what_to_tell_who_is_refused(daemon, query, more, status, told):
    async with daemon.serving():
        answer = await ask(daemon.port, f"/refusal?{query}", more=more)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}".encode())
    assert told in json.dumps(json.loads(body))
    assert len(body) < 1000


@pytest.mark.parametrize("where", ["/nothing", "/status/", "/reload", "/..", "//status", "/%2e%2e/etc/passwd"])
async def test_another_path_is_404_in_json(daemon, where):
    async with daemon.serving() as url:
        answer = await fetch(url + where, timeout=5)
    assert (answer.status, json.loads(answer.body)) == (404, {"error": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_another_method_is_405_and_names_those_allowed(daemon, method):
    async with daemon.serving():
        answer = (await ask(daemon.port, method=method)).lower()
    assert answer.startswith(b"http/1.1 405")
    assert b"allow: get, head" in answer or b"allow: head, get" in answer


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8082",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.8.9.1",
        "[::1]",
        "[::1]:8082",
        "mac.lan",
        "MAC.lan:1",
    ],
)
def test_a_loopback_or_allowed_host_is_answered(host):
    assert host_allowed(host, {"Mac.lan"})


@pytest.mark.parametrize(
    "host",
    ["", ":80", "evil.example", "localhost.evil.example", "evil@localhost", "localhost:80@evil", "127.0.0.1.evil", "10.0.0.1",
     "0.0.0.0", "[::]", "[fe80::1]", "::1", "localhost:8o82", "127.1", "2130706433", "0x7f.0.0.1", "[::1", "localhost:80:80"],
)  # fmt: skip
def test_any_other_host_is_not(host):
    assert not host_allowed(host, {"mac.lan"})


async def test_a_rebound_name_is_421_on_every_path(daemon):
    daemon.allowed = {"mac.lan"}
    async with daemon.serving():
        answers = [
            await ask(daemon.port, path, host="evil.example") for path in ("/health", "/status", "/metrics", "/", "/x")
        ]
        assert [answer.split()[1] for answer in answers] == [b"421"] * 5
        assert b"admin.allowed_hosts" in answers[0]
        assert (await ask(daemon.port, host="mac.lan")).startswith(b"HTTP/1.1 200")
        assert (await converse(daemon.port, b"GET /status HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 421")
        two = await converse(daemon.port, b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n")
        assert two.startswith(b"HTTP/1.1 400")


async def test_a_failing_page_is_500_without_its_secrets_and_noted(daemon, capfd):
    app = admin_app(daemon.health, lambda: json.loads("sk-secret"), lambda _: (b"", ""), set)
    async with daemon.serving(app) as url:
        answer = await fetch(url + "/status", timeout=5)
    assert answer.status == 500
    assert json.loads(answer.body) == {"error": "cannot answer: JSONDecodeError, a bug; see supervisor.log"}
    note = daemon.notes[-1]
    assert (note.event, note.level, note.fields["path"]) == ("admin.failed", "error", "/status")
    assert "Traceback" in note.fields["traceback"]
    assert capfd.readouterr() == ("", "")


async def test_a_connection_serves_several_requests(daemon):
    async with daemon.serving():
        request = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await converse(daemon.port, request + request, last)
    assert answer.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"GET /status HT"],
        [b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /sta"],
        [b"POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"],
    ],
)
async def test_a_client_that_stalls_is_dropped(daemon, monkeypatch, parts):
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    async with daemon.serving():
        with anyio.fail_after(2):
            await converse(daemon.port, *parts)


async def test_a_body_that_comes_after_the_answer_takes_nothing_back(daemon):
    async with daemon.serving(), await anyio.connect_tcp("127.0.0.1", daemon.port) as stream:
        await stream.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
        answer = b""
        while b'"workers"' not in answer:
            answer += await stream.receive()
        for part in (b"{", b"}"):  # to who has closed, the second is a reset
            await anyio.sleep(0.05)
            await stream.send(part)
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


async def test_a_client_that_never_ends_its_body_is_dropped(daemon, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    async with daemon.serving():
        head = b"GET /status HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        with anyio.fail_after(2):
            async with await anyio.connect_tcp("127.0.0.1", daemon.port) as stream:
                await stream.send(head)
                with pytest.raises(anyio.BrokenResourceError):
                    await send_for_ever(stream, b"1000\r\n" + bytes(0x1000) + b"\r\n")


async def test_a_huge_head_is_refused(daemon):
    async with daemon.serving():
        answer = await converse(daemon.port, b"GET /status HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000)
    assert answer.startswith(b"HTTP/1.1 400") or answer == b""


async def test_idle_connections_however_many_blind_nobody(daemon):
    async with daemon.serving() as url:
        idle = [await anyio.connect_tcp("127.0.0.1", daemon.port) for _ in range(3 * server.CONNECTIONS)]
        answers = [await fetch(url + "/metrics", timeout=5) for _ in range(10)]
        for stream in idle:
            await stream.aclose()
    assert {answer.status for answer in answers} == {200}


async def test_for_one_connection_too_many_the_oldest_idle_one_goes(daemon, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 3)
    async with daemon.serving() as url, AsyncExitStack() as idle:
        oldest, *others = [
            await idle.enter_async_context(await anyio.connect_tcp("127.0.0.1", daemon.port)) for _ in range(3)
        ]
        assert (await fetch(url + "/status", timeout=5)).status == 200
        with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
            await oldest.receive()
        for stream in others:
            await stream.send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


async def test_an_answer_that_is_being_made_is_never_dropped_for_another_connection(daemon, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    asked, go = anyio.Event(), anyio.Event()

    async def slow(scope, receive, send):
        if scope["path"] == "/slow":
            asked.set()
            await go.wait()
        await daemon.admin(scope, receive, send)

    async with daemon.serving(slow) as url, await anyio.connect_tcp("127.0.0.1", daemon.port) as first:
        await first.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asked.wait()
        for _ in range(4):
            assert (await fetch(url + "/status", timeout=5)).status == 200
        go.set()
        assert (await first.receive()).startswith(b"HTTP/1.1 404")


async def test_a_removed_control_socket_is_made_anew_and_cuts_no_answer(daemon, monkeypatch, tmp_path):
    monkeypatch.setattr(serve, "LOOK", 0.02)
    path, asked, go = str(tmp_path / "c.sock"), anyio.Event(), anyio.Event()

    async def reload(name, body):
        asked.set()
        await go.wait()
        return {"result": "rolled"}

    control = control_app(daemon.health, daemon.status, reload)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_unix, control, path, daemon.journal)
        await until(lambda: os.path.exists(path))
        async with await anyio.connect_unix(path) as ordering:
            await ordering.send(b"POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
            await asked.wait()
            os.unlink(path)
            await until(lambda: [note.event for note in daemon.notes] == ["control.restored"])
            assert (await fetch("http://control/status", unix=path, timeout=5)).status == 200
            assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
            go.set()
            assert b"rolled" in await ordering.receive()
        tasks.cancel_scope.cancel()
    assert not os.path.exists(path)


async def until(fact):
    with anyio.fail_after(10):
        while not fact():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_noise_is_answered_or_dropped_and_nothing_breaks(daemon):
    async with daemon.serving() as url:
        for noise in (
            b"\x16\x03\x01\x02\x00\x01\x00",
            b"\r\n\r\n\r\n",
            b"GET\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00" * 999 + b"\r\n\r\n",
        ):
            async with await anyio.connect_tcp("127.0.0.1", daemon.port) as stream:
                await stream.send(noise)
        assert (await fetch(url + "/status", timeout=5)).status == 200


async def test_a_taken_port_is_named(daemon):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_tcp, daemon.admin, "127.0.0.1", port, daemon.journal, lambda *at: f"pid 41 on {at}")
            await anyio.wait_all_tasks_blocked()
            (note,) = daemon.notes
            assert (note.event, note.level) == ("admin.port_taken", "error")
            assert note.fields["error"] == f"cannot listen on 127.0.0.1:{port}: Address already in use; trying again"
            assert (note.fields["setting"], note.fields["held_by"]) == (
                "admin.port",
                f"pid 41 on {('127.0.0.1', port)}",
            )
            tasks.cancel_scope.cancel()


async def test_an_impossible_address_is_named(daemon):
    with anyio.move_on_after(0.1):
        await serve_tcp(daemon.admin, "192.0.2.1", 0, daemon.journal)
    assert [note.event for note in daemon.notes] == ["admin.refused"]


async def test_the_port_is_tried_again_until_free(daemon, monkeypatch):
    monkeypatch.setattr(doors, "FIRST_RETRY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_tcp, daemon.admin, "127.0.0.1", port, daemon.journal)
            await anyio.sleep(0.1)
            stranger.close()
            with anyio.fail_after(5):
                await daemon.opened.wait()
            tasks.cancel_scope.cancel()
    assert [note.event for note in daemon.notes] == ["admin.port_taken", "admin.opened"]


async def test_signals_are_left_to_the_daemon(daemon):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with daemon.serving():
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_it_does_not_tick(daemon):
    """The embedded server's own loop would turn five times here."""
    async with daemon.serving():
        loop, turns = asyncio.get_running_loop(), []
        select = loop._selector.select
        loop._selector.select = lambda timeout: turns.append(1) or select(timeout)
        await anyio.sleep(0.5)
        loop._selector.select = select
    assert len(turns) <= 3


async def test_an_answer_being_made_is_finished_when_the_server_is_cancelled(daemon, path):
    begun, answers = anyio.Event(), []

    async def slow(name, body):
        begun.set()
        await anyio.sleep(0.2)
        return {"result": "done"}

    async def client():
        answers.append(await post(path, "restart"))

    daemon.order = slow
    async with anyio.create_task_group() as clients:
        async with daemon.controlled(path):
            clients.start_soon(client)
            await begun.wait()
        assert not os.path.exists(path)
    assert [answer.status for answer in answers] == [200]


async def post(path, order, body=b"", method="POST"):
    return await fetch(f"http://control/{order}", unix=path, method=method, body=body, timeout=5)


@pytest.mark.parametrize("name", ["reload", "restart", "stop"])
async def test_an_order_is_passed_on_with_its_body(daemon, path, name):
    async with daemon.controlled(path):
        answer = await post(path, name, b'{"by": "cli"}')
    assert (answer.status, json.loads(answer.body)) == (200, {"result": "done"})
    assert daemon.ordered == [(name, {"by": "cli"})]


async def test_an_order_needs_no_body(daemon, path):
    async with daemon.controlled(path):
        assert (await post(path, "reload")).status == 200
    assert daemon.ordered == [("reload", {})]


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [(b"{", 400, "body is not JSON"), (b"[" * 50_000, 400, "body is not JSON"), (b"[1]", 400, "body is not a JSON object"),
     (b'"' + b"x" * 65_536, 413, "body larger than 65536 bytes"), (b"\xff", 400, "body is not JSON")],
)  # fmt: skip
async def test_a_bad_body_orders_nothing(daemon, path, body, code, error):
    async with daemon.controlled(path):
        answer = await post(path, "stop", body)
    assert (answer.status, json.loads(answer.body)) == (code, {"error": error})
    assert daemon.ordered == []


async def test_a_body_that_stalls_is_given_up(daemon, path, monkeypatch):
    monkeypatch.setattr(admin, "PATIENCE", 0.05)
    async with daemon.controlled(path), await anyio.connect_unix(path) as stream:
        await stream.send(b"POST /stop HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert (await stream.receive()).startswith(b"HTTP/1.1 408")
    assert daemon.ordered == []


async def test_an_order_that_cannot_be_carried_out_says_why(daemon, path):
    async with daemon.controlled(path):
        answer = await post(path, "canary")
    assert (answer.status, json.loads(answer.body)) == (400, {"error": "cannot canary: no such version"})


async def test_a_bug_in_an_order_is_500(daemon, path):
    async with daemon.controlled(path):
        answer = await post(path, "rotate")
    assert answer.status == 500
    assert b"sk-secret" not in answer.body


async def test_the_control_socket_answers_status_and_health_too(daemon, path):
    async with daemon.controlled(path):
        assert json.loads((await post(path, "status", method="GET")).body) == daemon.status()
        assert json.loads((await post(path, "health", method="GET")).body) == daemon.health()
        assert (await post(path, "reload", method="GET")).status == 405
        assert (await post(path, "metrics", method="GET")).status == 404


async def test_the_control_socket_is_its_owners_and_goes_with_the_server(daemon, path):
    async with daemon.controlled(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not os.path.exists(path)


async def test_a_stale_socket_is_replaced(daemon, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_unix, control_app(daemon.health, daemon.status, daemon.order), path, daemon.notes.append)
        await anyio.wait_all_tasks_blocked()
        assert (await post(path, "health", method="GET")).status == 200
        tasks.cancel_scope.cancel()


async def test_a_live_socket_or_another_file_is_left_alone(daemon, path, tmp_path):
    app = control_app(daemon.health, daemon.status, daemon.order)
    other = tmp_path / "file"
    other.write_text("mine")
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(path)
        alive.listen()
        with anyio.move_on_after(0.05):
            await serve_unix(app, path, daemon.notes.append)
        with anyio.move_on_after(0.05):
            await serve_unix(app, str(other), daemon.notes.append)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert other.read_text() == "mine"
    assert [note.fields["error"].partition(": ")[2] for note in daemon.notes] == [
        "Address already in use; trying again", "something else is there; trying again",
    ]  # fmt: skip


async def test_a_socket_that_somebody_else_put_there_is_not_removed(daemon, path):
    async with daemon.controlled(path):
        os.unlink(path)
        Path(path).write_text("another's")
    assert Path(path).read_text() == "another's"
