"""Who is let in when only so many are, with an application that answers when it is told to."""

import asyncio
import json

import pytest

from ccproxy_supervisor.launcher.gate import Gate, model_of
from ccproxy_supervisor.launcher.meter import Meter, Names
from ccproxy_supervisor.launcher.tally import Book, Tally
from visitor import Visitor, results

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


class Stage:
    """A door with *limits* before an application; who is inside is in `inside`, in the order in which they came."""

    def __init__(self, folder, **limits):
        self.meter, self.limits, self.inside, self.bodies = Meter(Tally(str(folder), 1)), limits, [], []
        self.meter.names = Names(("llama", "gpt", "claude-*"))
        (path,) = folder.glob("*.tally")
        self.book = Book(str(path))
        self.app = self.meter.metered(Gate(self.answer, lambda: self.limits))
        self.tasks = {}

    async def answer(self, scope, receive, send):
        self.bodies.append((await receive())["body"])
        event, name = asyncio.Event(), scope["name"]
        self.inside.append(name)
        self.tasks[name].event = event
        await event.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(self, name, client="eva", model="llama", path=CHAT):
        """Ask as *client*; returns who asks, for `end` and `hang_up`."""
        visitor = self.tasks[name] = Client(model=model)
        headers = [(b"x-ccproxy-client", client.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "name": name}
        visitor.task = asyncio.create_task(self.app(scope, visitor.receive, visitor.send))
        await asyncio.sleep(0)
        await self.settle()
        return visitor

    async def end(self, name):
        self.tasks[name].event.set()
        await self.tasks[name].task
        await self.settle()

    async def settle(self):
        for _ in range(10):
            await asyncio.sleep(0)

    def results(self):
        return results(self.book)


class Client(Visitor):
    @property
    def status(self):
        return self.sent[0]["status"] if self.sent else None

    @property
    def document(self):
        return json.loads(self.sent[1]["body"])


LIMITS = {"models": {"llama": 2, "*": 3}, "client": None, "queue": 4, "wait": 60.0}


@pytest.fixture
def play(tmp_path):
    def play(story, **limits):
        async def played():
            await story(Stage(tmp_path, **{**LIMITS, **limits}))

        asyncio.run(asyncio.wait_for(played(), 20))

    return play


def test_clients_are_let_in_in_turn_whoever_came_with_many(play):
    async def story(stage):
        for name in ("a1", "a2", "a3", "a4"):
            await stage.ask(name, "a")
        await stage.ask("b1", "b")
        await stage.ask("c1", "c")
        assert stage.inside == ["a1", "a2"]
        for name in ("a1", "a2", "a3", "b1"):
            await stage.end(name)
        assert stage.inside == ["a1", "a2", "a3", "b1", "c1", "a4"]
        for name in ("c1", "a4"):
            await stage.end(name)
        assert stage.results() == {"ok": 6}
        assert set(stage.bodies) == {b'{"model": "llama"}'}

    play(story)


def test_a_client_has_its_share_and_others_pass_it(play):
    async def story(stage):
        await stage.ask("a1", "a")
        await stage.ask("a2", "a")
        await stage.ask("b1", "b")
        assert stage.inside == ["a1", "b1"]
        await stage.end("b1")
        assert stage.inside == ["a1", "b1"]
        await stage.end("a1")
        assert stage.inside == ["a1", "b1", "a2"]

    play(story, client=1)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_when_too_many_wait_the_next_is_told_so_in_the_shape_of_its_api(play, path):
    async def story(stage):
        for number in range(6):
            await stage.ask(f"n{number}", path=path)
        refused = await stage.ask("late", path=path)
        await refused.task
        assert refused.status == 429
        assert int(dict(refused.sent[0]["headers"])[b"retry-after"]) >= 1
        error = refused.document["error"]
        assert error["type"] == ("rate_limit_error" if path == MESSAGES else "rate_limit_exceeded")
        assert refused.document.get("type") == ("error" if path == MESSAGES else None)
        assert stage.results()["refused"] == 1
        assert len(stage.inside) == 2
        assert {key[0] for key, numbers in stage.book.read() if numbers} == {"llama"}

    play(story)


def test_who_waits_too_long_is_told_so_and_leaves_its_place(play):
    async def story(stage):
        for number in range(2):
            await stage.ask(f"n{number}")
        late = await stage.ask("late")
        await late.task
        assert late.status == 429
        after = await stage.ask("after")
        await stage.end("n0")
        assert stage.inside == ["n0", "n1", "after"]
        assert after.status is None

    play(story, wait=0.05)


def test_who_goes_away_while_it_waits_is_not_let_in(play):
    async def story(stage):
        for number in range(2):
            await stage.ask(f"n{number}")
        gone = await stage.ask("gone")
        await stage.ask("next")
        gone.gone.set()
        await gone.task
        await stage.end("n0")
        assert stage.inside == ["n0", "n1", "next"]
        assert gone.sent == []
        assert stage.results()["aborted"] == 1

    play(story)


def test_who_goes_away_at_the_moment_it_is_let_in_makes_room(play):
    async def story(stage):
        for number in range(2):
            await stage.ask(f"n{number}")
        gone = await stage.ask("gone")
        await stage.ask("next")
        gone.gone.set()
        stage.tasks["n0"].event.set()
        await gone.task
        await stage.settle()
        assert stage.inside[-1] == "next"
        await stage.end("n1")
        await stage.end("next")
        assert (await stage.ask("more")).status is None
        assert stage.inside[-1] == "more"

    play(story)


def test_each_model_has_a_line_of_its_own_and_a_star_is_for_each_that_is_not_named(play):
    async def story(stage):
        for model, most in (("gpt", 3), ("claude-x", 3), ("llama", 2)):
            for number in range(4):
                await stage.ask(f"{model}{number}", model=model)
            assert sum(name.startswith(model) for name in stage.inside) == most

    play(story)


def test_what_nobody_limits_is_not_looked_at(play):
    async def story(stage):
        for number in range(9):
            await stage.ask(f"n{number}", model="unknown")
            await stage.ask(f"p{number}", path="/v1/audio/speech")
        assert len(stage.inside) == 18

    play(story)


def test_limits_are_adopted_while_requests_are_under_way(play):
    async def story(stage):
        for number in range(3):
            await stage.ask(f"n{number}")
        assert len(stage.inside) == 2
        stage.limits = {**LIMITS, "models": {"llama": 4}}
        await stage.ask("n3")
        assert sorted(stage.inside) == ["n0", "n1", "n2", "n3"]
        stage.limits = {**LIMITS, "models": {}}
        await stage.ask("n4")
        assert stage.inside[-1] == "n4"

    play(story)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"[" * 100_000, b"\xff", b'{"x": 1}'])
def test_a_body_that_names_no_model_names_none(body):
    assert model_of(body) == (None, False)


@pytest.mark.parametrize(("said", "streams"), [("true", True), ("false", False), ("1", False), ('"true"', False)])
def test_a_body_that_asks_for_a_stream_is_known_while_it_waits(said, streams):
    assert model_of(b'{"model": "x", "stream": %s}' % said.encode()) == ("x", streams)
