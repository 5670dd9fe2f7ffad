import contextlib
import errno
import socket

import anyio
import h11
import pytest

from ccproxy_supervisor.core.answer import Answer, Failure, verdict
from ccproxy_supervisor.core.model import PROBE_REASONS
from ccproxy_supervisor.edge import fetch as fetching
from ccproxy_supervisor.edge.fetch import fetch
from servers import answer, head, says, serving, unix_listener

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


async def ask(handler, **options):
    async with serving(handler) as url:
        return await fetch(url + "/path?x=1", **{"timeout": 5.0, **options})


async def test_an_answer_has_its_status_and_its_body():
    outcome = await ask(says(answer(b"I'm alive!", 503)))
    assert isinstance(outcome, Answer)
    assert (outcome.status, outcome.body) == (503, b"I'm alive!")
    assert outcome.seconds > 0


async def test_the_request_is_sent_as_asked():
    seen = []

    async def handler(stream):
        data = await head(stream)
        while not data.endswith(b"{1}"):
            data += await stream.receive()
        seen.append(data)
        await stream.send(answer(b""))

    async with serving(handler) as url:
        asked = await fetch(url + "/v1?q=a%20b", method="POST", headers=[("X-Key", "k")], body=b"{1}", timeout=5)
    assert asked.status == 200
    lines = seen[0].split(b"\r\n")
    assert lines[0] == b"POST /v1?q=a%20b HTTP/1.1"
    assert set(lines[1:5]) == {
        b"Host: " + url.removeprefix("http://").encode(), b"Connection: close", b"X-Key: k", b"Content-Length: 3",
    }  # fmt: skip


async def test_a_unix_socket_is_asked_by_path(tmp_path):
    path = str(tmp_path / "s")
    async with serving(says(answer(b"here")), await unix_listener(path)):
        outcome = await fetch("http://worker/health", unix=path, timeout=5)
    assert outcome.body == b"here"


async def test_a_name_is_looked_up():
    async with serving(says(answer(b"x"))) as url:
        outcome = await fetch(url.replace("127.0.0.1", "localhost"), timeout=5)
    assert outcome.body == b"x"


async def test_a_body_without_length_ends_with_the_connection():
    assert (await ask(says(b"HTTP/1.0 200 OK\r\n\r\n", b"all of it"))).body == b"all of it"


async def test_chunks_and_informational_answers_are_read_through():
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert (await ask(says(b"HTTP/1.1 100 Continue\r\n\r\n", chunks))).body == b"abc"


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (says(hang=True), "timeout"),
        (says(answer(b"x" * 9)[:-1], hang=True), "timeout"),
        (says(*[b"H"] * 3, pause=0.05, hang=True), "timeout"),
        (says(), "garbage"),
        (says(answer(b"x" * 9)[:-1]), "garbage"),
        (says(b"220 mail.example ESMTP\r\n\r\n"), "garbage"),
        (says(b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n"), "garbage"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "garbage"),
        (says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"...."), "garbage"),
        (says(answer(b"x" * 2001)), "too_large"),
        (says(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 40_000), "too_large"),
        (says(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 20), "too_large"),
    ],
)
async def test_a_bad_answer_is_a_failure_with_its_reason(handler, reason):
    outcome = await ask(handler, timeout=0.2 if reason == "timeout" else 5.0, limit=2000)
    assert isinstance(outcome, Failure)
    assert (outcome.reason, outcome.reason in PROBE_REASONS) == (reason, True)
    assert outcome.detail


async def test_an_endless_answer_is_cut_at_the_limit():
    async def endless(stream):
        await head(stream)
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send(bytes(1 << 16))

    assert (await ask(endless)).reason == "too_large"


async def test_an_endless_row_of_asides_ends_soon(monkeypatch):
    """An Ollama that says `100 Continue` for ever kept half a core busy for as long as it had to answer."""
    taken, take = [], fetching._next
    monkeypatch.setattr(fetching, "_next", lambda connection: taken.append(take(connection)) or taken[-1])

    async def endless(stream):
        await head(stream)
        with contextlib.suppress(anyio.BrokenResourceError):
            while True:
                await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    assert (await ask(endless, timeout=60.0)).reason == "too_large"
    assert sum(isinstance(event, h11.InformationalResponse) for event in taken) < 200


async def test_an_answer_in_a_million_pieces_is_cut():
    async def crumbs(stream):
        await head(stream)
        with contextlib.suppress(anyio.BrokenResourceError):
            await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                await stream.send(b"1\r\nx\r\n" * 1000)

    outcome = await ask(crumbs, timeout=60.0, limit=1 << 30)
    assert (outcome.reason, "pieces" in outcome.detail) == ("too_large", True)


@pytest.mark.parametrize(
    "lack",
    [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EROFS, "Read-only"), RuntimeError("can't start new thread"),
     MemoryError(), SystemError("psutil"), ValueError("anything")],
)  # fmt: skip
async def test_a_lack_of_ours_is_no_answer_of_theirs(lack):
    def over():
        raise lack

    outcome = await fetch("http://worker", over=over, timeout=5)
    judged = verdict(outcome)
    assert (judged.reason, judged.ok, judged.blames) == ("unasked", False, False)


async def test_a_worker_that_hangs_up_is_to_blame():
    ours, theirs = socket.socketpair()
    theirs.close()
    outcome = await fetch("http://worker", over=lambda: ours, timeout=5)
    assert verdict(outcome).blames


async def test_nobody_there_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tcp = await fetch(f"http://127.0.0.1:{port}", timeout=5)
    name = await fetch(f"http://localhost:{port}", timeout=5)
    unix = await fetch("http://worker", unix=str(tmp_path / "none"), timeout=5)
    assert [f.reason for f in (tcp, name, unix)] == ["refused"] * 3
    assert tcp.detail == name.detail == "cannot connect: Connection refused"
    assert unix.detail == "cannot connect: No such file or directory"


async def test_a_reset_is_garbage():
    async def reset(stream):
        await stream.receive()
        raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    assert (await ask(reset)).reason == "garbage"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://x",
        "http://",
        "http://[::1",
        "http://x:99999",
        "http://x:y",
        "http:///p",
        "http://" + "a" * 80,
        "http://x:0",
    ],
)
async def test_an_impossible_address_is_a_failure(url):
    assert (await fetch(url, timeout=0.5)).reason == "refused"


async def test_a_bad_header_is_a_failure_that_does_not_repeat_it():
    async with serving(says(answer(b""))) as url:
        outcome = await fetch(url, headers=[("Authorization", "Bearer sk-secret\n")], timeout=5)
    assert outcome.reason == "garbage"
    assert "secret" not in outcome.detail


async def test_a_password_in_the_address_stays_out_of_the_request_and_the_detail():
    seen = []

    async def handler(stream):
        seen.append(await head(stream))

    async with serving(handler) as url:
        outcome = await fetch(url.replace("//", "//me:secret@"), timeout=5)
    assert b"secret" not in seen[0]
    assert "secret" not in outcome.detail


async def test_a_plain_server_asked_for_tls_is_refused():
    async def plain(stream):
        await stream.send(b"HTTP/1.1 400 plain HTTP here\r\n\r\n")

    async with serving(plain) as url:
        outcome = await fetch(url.replace("http:", "https:"), timeout=5)
    assert outcome.reason == "refused"


async def test_cancellation_passes_through():
    async with serving(says(hang=True)) as url:
        with anyio.move_on_after(0.1) as scope:
            await fetch(url, timeout=60)
    assert scope.cancelled_caught
