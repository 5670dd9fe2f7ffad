"""What the launcher counts at the public door, with an application that does as it is told."""

import asyncio

import pytest

from ccproxy_supervisor.core.answer import Answer, traffic
from ccproxy_supervisor.launcher import traffic as module
from ccproxy_supervisor.launcher.traffic import HEADER, Traffic


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


class Request:
    """One request under way; its answer is sent piece by piece."""

    def __init__(self, counted, path="/v1/messages", method="POST"):
        self.pieces, self.sent = asyncio.Queue(), []
        scope = {"type": "http", "method": method, "path": path}
        self.task = asyncio.create_task(counted(scope, self.pieces, self.send))

    async def send(self, message):
        self.sent.append(message)

    async def say(self, *messages):
        for message in messages:
            await self.pieces.put(message)
        await asyncio.sleep(0.01)


START, FAULT = ({"type": "http.response.start", "status": status} for status in (200, 400))
PIECE, END = {"type": "http.response.body", "more_body": True}, {"type": "http.response.body"}


async def app(scope, pieces, send):
    while True:
        message = await pieces.get()
        if message is None:
            return
        await send(message)
        if message is END:
            return


def play(story):
    asyncio.run(story())


def test_waiting_is_time_without_a_piece_while_somebody_waits(clock):
    async def story():
        seen = Traffic()
        counted = seen.counted(app)
        clock.now += 500
        assert seen.waiting == 0
        first, second = Request(counted), Request(counted, "/v1/chat/completions")
        await first.say()
        clock.now += 30
        assert (seen.inside, seen.waiting) == (2, 30)
        await second.say(START)
        assert seen.waiting == 30  # a head alone is no answer
        await second.say(PIECE)
        clock.now += 5
        assert seen.waiting == 5
        await second.say(END)
        clock.now += 7
        assert (seen.inside, seen.waiting) == (1, 7)
        await first.say(START, END)
        assert (seen.inside, seen.waiting) == (0, 0)

    play(story)


def test_a_refusal_beside_a_completion_that_waits_is_no_progress(clock):
    async def story():
        seen = Traffic()
        counted = seen.counted(app)
        clock.now += 100
        waits = Request(counted)
        await waits.say()
        clock.now += 50
        await Request(counted).say(FAULT, END)
        assert (seen.inside, seen.waiting) == (1, 50)
        await waits.say(FAULT, END)
        await Request(counted).say()
        assert seen.waiting == 0  # it was answered, and nobody else waited

    play(story)


@pytest.mark.parametrize(("gap", "waited"), [(59, 119), (61, 0)])
def test_who_gives_up_and_asks_again_has_waited_all_along(clock, gap, waited):
    async def story():
        seen = Traffic()
        counted = seen.counted(app)
        clock.now += 100
        impatient = Request(counted)
        await impatient.say()
        clock.now += 60
        await impatient.say(None)
        clock.now += gap
        await Request(counted).say()
        assert seen.waiting == waited

    play(story)


@pytest.mark.parametrize(
    ("path", "method"), [("/v1/models", "GET"), ("/health", "GET"), ("/v1/messages/count_tokens", "POST")]
)
def test_what_is_no_completion_is_not_counted(clock, path, method):
    async def story():
        seen = Traffic()
        await Request(seen.counted(app), path, method).say()
        assert seen.inside == 0

    play(story)


def test_a_liveness_answer_tells_it_and_no_other(clock):
    async def story():
        seen = Traffic()
        seen.taken = 7
        for path, told in (("/health/liveliness", True), ("/health/readiness", False)):
            request = Request(seen.probed(app), path, "GET")
            await request.say(dict(START), END)
            headers = tuple(request.sent[0].get("headers", ()))
            assert any(name == HEADER for name, _ in headers) == told
            assert (traffic(Answer(200, b"", 0.0, headers)) is not None) == told

    play(story)
