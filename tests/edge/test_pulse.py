"""Who waits for a stream is kept company, with an application that begins to answer when it is told to."""

import asyncio
import json

import httpx
import pytest

from ccproxy_supervisor.launcher.answers import error_event
from ccproxy_supervisor.launcher.control import Control
from ccproxy_supervisor.launcher.gate import Gate
from ccproxy_supervisor.launcher.meter import Meter, Names
from ccproxy_supervisor.launcher.pulse import COMMENT, LARGEST, PING, kept_alive
from ccproxy_supervisor.launcher.tally import Book, Tally
from ccproxy_supervisor.launcher.traffic import Traffic
from daemon import Daemon
from visitor import Visitor, results

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SSE, JSON = [(b"content-type", b"text/event-stream; charset=utf-8")], [(b"content-type", b"application/json")]
FAULT = {"error": {"message": "no such model", "type": "not_found", "param": None, "code": "404"}}


def start(status=200, headers=SSE):
    return {"type": "http.response.start", "status": status, "headers": headers}


def piece(body, more=True):
    return {"type": "http.response.body", "body": body, "more_body": more}


class Client(Visitor):
    """*soon* waits for a fact of what it has heard."""

    def __init__(self, **asked):
        super().__init__(**{"model": "llama", "stream": True, **asked})

    @property
    def heard(self):
        return [message["body"] for message in self.sent[1:]]

    async def soon(self, fact):
        while not fact():  # noqa: ASYNC110 - what was sent has no event
            await asyncio.sleep(0.001)

    async def signs(self, number):
        await self.soon(lambda: len(self.heard) >= number)


class Door:
    """The doors as a worker has them; the application answers *answer*, once `go` is set, and is over."""

    def __init__(self, folder, answer, every=0.005, limits=None):
        self.meter, self.traffic, self.answer, self.every = Meter(Tally(str(folder), 1)), Traffic(), answer, every
        self.meter.names = Names(("llama",))
        (path,) = folder.glob("*.tally")
        self.book, self.go, self.read, self.left = Book(str(path)), asyncio.Event(), asyncio.Event(), asyncio.Event()
        gate = Gate(self.app, lambda: limits)
        self.door = kept_alive(self.meter.metered(self.traffic.counted(gate)), lambda: self.every)

    async def app(self, scope, receive, send):
        scope["parsed_body"] = (("model",), json.loads((await receive())["body"]))
        self.read.set()
        going, leaving = asyncio.ensure_future(self.go.wait()), asyncio.ensure_future(receive())
        await asyncio.wait({going, leaving}, return_when=asyncio.FIRST_COMPLETED)
        going.cancel()
        if leaving.done():
            self.left.set()
            return
        leaving.cancel()
        for message in self.answer:
            if isinstance(message, BaseException):
                raise message
            await send(message)

    def ask(self, client, path=CHAT, method="POST"):
        scope = {"type": "http", "method": method, "path": path, "headers": []}
        return asyncio.create_task(self.door(scope, client.receive, client.send))

    def results(self):
        return results(self.book)

    async def answered(self, path=CHAT, signs=1):
        """A client that has had its answer, after so many *signs* at least."""
        client = Client()
        asking = self.ask(client, path)
        await client.signs(signs)
        self.go.set()
        await asking
        return client


@pytest.fixture
def play(tmp_path):
    def play(story, *answer, **more):
        async def played():
            await story(Door(tmp_path, answer, **more))

        asyncio.run(asyncio.wait_for(played(), 30))

    return play


def told(client):
    """The error at the end of what *client* heard, after the signs."""
    (event,) = [body for body in client.heard if body not in (COMMENT, PING)]
    return json.loads(next(line[6:] for line in event.split(b"\n") if line.startswith(b"data: ")))


@pytest.mark.parametrize(
    ("path", "sign"), [(CHAT, COMMENT), ("/completions", COMMENT), (RESPONSES, COMMENT), (MESSAGES, PING)]
)
def test_a_stream_that_is_not_begun_has_signs_of_life_and_then_all_of_its_body(play, path, sign):
    async def story(door):
        client = await door.answered(path, signs=3)
        begun = client.sent[0]
        assert (begun["status"], dict(begun["headers"])[b"content-type"]) == (200, b"text/event-stream")
        assert dict(begun["headers"])[b"connection"] == b"close", "the worker may be leaving"
        assert [message["type"] for message in client.sent[1:]] == ["http.response.body"] * len(client.heard)
        assert set(client.heard[:-3]) == {sign}
        assert client.heard[-3:] == [b"data: one\n\n", b"data: [DONE]\n\n", b""]
        assert [message["more_body"] for message in client.sent[1:]] == [True] * (len(client.heard) - 1) + [False]

    play(story, start(), piece(b"data: one\n\n"), piece(b"data: [DONE]\n\n"), piece(b"", more=False))


def test_no_sign_comes_once_the_answer_has_begun(play):
    async def story(door):
        client, gap = Client(), asyncio.Event()

        async def slow(scope, receive, send):
            scope["parsed_body"] = ((), {"stream": True})
            await client.signs(1)
            await send(start())
            before = len(client.sent)
            await asyncio.sleep(0.05)  # ten signs' time
            gap.set()
            assert len(client.sent) == before
            await send(piece(b"data: x\n\n", more=False))

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
        await kept_alive(slow, lambda: 0.005)(scope, client.receive, client.send)
        assert client.heard[-1] == b"data: x\n\n"

    play(story)


@pytest.mark.parametrize(
    ("path", "asked", "method"),
    [
        (CHAT, False, "POST"),
        (CHAT, "true", "POST"),
        ("/v1/embeddings", True, "POST"),
        (CHAT, True, "GET"),
        (CHAT, True, "HEAD"),
    ],
)
def test_what_is_no_stream_waits_in_silence_and_is_passed_as_it_is(play, path, asked, method):
    async def story(door):
        client = Client(stream=asked)
        asking = door.ask(client, path, method)
        await door.read.wait()
        await asyncio.sleep(0.05)
        assert client.sent == []
        door.go.set()
        await asking
        assert client.sent == list(door.answer)

    play(story, start(404, JSON), piece(b"{}", more=False))


@pytest.mark.parametrize("every", [None, 600])
def test_who_is_answered_in_time_or_wants_none_is_answered_as_ever(play, every):
    async def story(door):
        client, others = Client(), asyncio.all_tasks()
        asking = door.ask(client)
        await door.read.wait()
        door.go.set()
        await asking
        assert client.sent == list(door.answer)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == others, "nobody is left who would speak"

    play(story, start(404, JSON), piece(b"{}", more=False), every=every)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (CHAT, FAULT),
        (MESSAGES, {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}),
        (
            RESPONSES,
            {"type": "error", "message": "no such model", "code": "404", "param": None, "sequence_number": 0, **FAULT},
        ),
    ],
)
def test_an_error_that_comes_late_is_told_in_the_stream_and_counted_as_what_it_was(play, path, error):
    async def story(door):
        client = await door.answered(path, signs=2)
        assert told(client) == error
        assert client.heard[-1].endswith(b"data: [DONE]\n\n") == (path == CHAT)
        assert client.heard[-1].startswith(b"data: " if path == CHAT else b"event: error\ndata: ")
        assert not client.sent[-1].get("more_body", False)
        assert door.results() == {"client_error": 1}

    body = json.dumps(FAULT).encode()
    play(story, start(404, JSON), piece(body[:20]), piece(body[20:], more=False))


@pytest.mark.parametrize("before", [[], [start(500, JSON), piece(b'{"er')]])
@pytest.mark.parametrize("fault", [RuntimeError("x"), asyncio.CancelledError()])
def test_an_application_that_breaks_down_or_is_cut_is_told_too(play, before, fault):
    async def story(door):
        client = Client()
        asking = door.ask(client)
        await client.signs(1)
        door.answer = (*before, fault)
        door.go.set()
        with pytest.raises(type(fault)):  # the server logs it
            await asking
        assert told(client)["error"]["code"] == "500"
        assert not client.sent[-1].get("more_body", False)
        assert door.results() == {"server_error": 1}

    play(story)


def test_an_error_that_has_a_status_and_is_told_as_an_event_is_told_in_the_shape_of_its_api(play):
    async def story(door):
        client = await door.answered(MESSAGES)
        assert told(client)["error"] == {"type": "not_found_error", "message": "no such model"}

    event = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(FAULT).encode()
    play(story, start(404), piece(event), piece(b"", more=False))


def test_of_an_answer_that_is_no_stream_only_so_much_is_kept(play):
    async def story(door):
        client = await door.answered()
        assert len(told(client)["error"]["message"]) == LARGEST

    play(story, start(500, JSON), *[piece(b"x" * 50_000)] * 9, piece(b"", more=False))


def test_a_sign_that_finds_no_room_in_the_connection_leaves_the_answer_as_it_is(play):
    async def story(door):
        client, room, waits = Client(), asyncio.Event(), asyncio.Event()
        send = client.send

        async def full(message):
            waits.set()
            await room.wait()
            await send(message)

        client.send = full
        asking = door.ask(client)
        await waits.wait()
        door.go.set()
        await asyncio.sleep(0.05)
        room.set()
        await asking
        assert client.sent == list(door.answer)

    play(story, start(404, JSON), piece(b"{}", more=False))


def test_what_breaks_off_within_the_answer_is_broken_off(play):
    async def story(door):
        client = Client()
        asking = door.ask(client)
        await client.signs(1)
        door.go.set()
        with pytest.raises(RuntimeError):
            await asking
        assert client.sent[-1] == piece(b"data: one\n\n")
        assert door.results() == {"broken": 1}

    play(story, start(), piece(b"data: one\n\n"), RuntimeError("x"))


def test_an_answer_that_comes_whole_where_a_stream_was_begun_is_told_as_an_error(play):
    async def story(door):
        client = await door.answered()
        assert "not as a stream" in told(client)["error"]["message"]

    play(story, start(200, JSON), piece(b'{"choices": []}', more=False))


def test_a_client_that_goes_away_is_seen_at_once_and_counted(play):
    async def story(door):
        client = Client()
        asking = door.ask(client)
        await client.signs(1)
        client.gone.set()
        await asking
        assert door.left.is_set()
        assert door.results() == {"aborted": 1}

    play(story)


def test_signs_of_life_are_no_sign_that_completions_go_on(play):
    async def story(door):
        client = Client()
        asking = door.ask(client)
        await client.signs(1)
        since = door.traffic._since
        await client.signs(4)
        assert (door.traffic.inside, door.traffic._since) == (1, since)
        assert door.results() == {"in_flight": 1}
        door.go.set()
        await asking

    play(story, start(), piece(b"data: [DONE]\n\n", more=False))


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_who_waits_in_line_has_them_too_and_hears_in_the_stream_when_it_lasts_too_long(play, path):
    async def story(door):
        first, second = Client(), Client()
        inside = door.ask(first, path)
        await door.read.wait()
        waiting = door.ask(second, path)
        await second.signs(1)
        await waiting
        assert "Too many requests" in told(second)["error"]["message"]
        door.go.set()
        await inside
        assert door.results() == {"refused": 1, "ok": 1}

    limits = {"models": {"llama": 1}, "client": None, "queue": 4, "wait": 0.2}
    end = b"data: [DONE]\n\n" if path == CHAT else b"event: message_stop\ndata: {}\n\n"
    play(story, start(), piece(end, more=False), limits=limits)


def test_an_upload_is_not_answered_before_it_is_read(play):
    async def story(door):
        client, whole = Client(), asyncio.Event()
        receive = client.receive

        async def slow():
            await whole.wait()
            return await receive()

        client.receive = slow
        asking = door.ask(client)
        await asyncio.sleep(0.05)
        assert client.sent == []
        whole.set()
        await client.signs(1)
        door.go.set()
        await asking

    play(story, start(), piece(b"", more=False))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "answered 503 without a word"),
        (b"Bad gateway\n", "Bad gateway"),
        (b'{"detail": "gone"}', "gone"),
        (b'data: {"error": {"message": "gone"}}\n\ndata: [DONE]\n\n', "gone"),
        (b'event: error\ndata: {"type": "error", "error": {"message": "gone"}}\n\n', "gone"),
        (b'{"detail": {"error": "gone"}}', "gone"),
        (b'{"error": "gone"}', "gone"),
        (b'{"error": {"message": "gone"}}', "gone"),
        (b'{"detail": {"error": {"message": "gone"}}}', "gone"),
        (b'{"error": {"message": null}}', '{"error": {"message": null}}'),
        (b"[" * 60_000, "[" * 60_000),
        (b"[]", "[]"),
        (b"\xff\n\n\xfe", "\ufffd\n\n\ufffd"),
    ],
)
def test_whatever_is_answered_is_one_event_with_a_message(body, message):
    chat, messages = error_event("chat", 503, body), error_event("messages", 503, body)
    line, done, end = chat.split(b"\n\n")
    assert (json.loads(line[6:])["error"]["message"], done, end) == (message, b"data: [DONE]", b"")
    kind, line = messages[:-2].split(b"\n")
    assert (kind, messages[-2:]) == (b"event: error", b"\n\n")
    assert json.loads(line[6:])["error"] == {"type": "api_error", "message": message}


@pytest.mark.parametrize(
    ("more", "seconds"), [({}, None), ({"keep_alive": None}, None), ({"keep_alive": 30, "unheard": {"of": 1}}, 30.0)]
)
def test_a_supervisor_that_does_not_know_it_leaves_it_off(more, seconds):
    control = Control.__new__(Control)
    control.keep_alive = 5.0
    control.obey(f"care {json.dumps({'grace': 60, 'drain': 30, **more})}")
    assert control.keep_alive == seconds


def test_a_reload_turns_it_on_and_off_in_the_workers_that_serve():
    with Daemon(proxy={"keep_alive": False}) as daemon:
        daemon.start()
        pids, enough = daemon.pids(), daemon.folder / "enough"

        def heard(**more):
            ask = {"model": "echo", "stream": True, **more}
            with httpx.stream("POST", daemon.url + CHAT, json=ask, timeout=60) as response:
                for text in response.iter_text():
                    yield text, response.headers.get("connection")
                    enough.touch()

        def turned(value, first):
            daemon.change(proxy={"keep_alive": value})
            assert daemon.order("/reload")["result"] == "applied"
            tries = (next(heard(seconds=0.5))[0] for _ in range(20))  # the worker hears it a moment later
            return any(text.startswith(first) for text in tries)

        assert next(heard(seconds=0.5))[0].startswith("data: ")
        assert turned("100ms", ": keep-alive")
        (first, connection), *rest = heard(until=str(enough))
        assert (first, connection) == (COMMENT.decode(), "close")
        assert "".join(text for text, _ in rest).endswith("data: [DONE]\n\n")
        assert turned("off", "data: ")
        assert daemon.pids() == pids
