"""Models that are loaded before anybody waits for them."""

import json
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.model import OllamaStatus
from ccproxy_supervisor.core.settings import OllamaSettings
from ccproxy_supervisor.edge.warming import Warming

pytestmark = pytest.mark.anyio
LLAMA, EMBED = Model("chat", "ollama_chat/llama2", "llama2"), Model("vec", "ollama/all-minilm", "all-minilm")
GPT = Model("gpt", "openai/gpt-5")
WELL = Answer(200, b"{}", 1.0)


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class World:
    def __init__(self, *preload, key=(7, 1.0), serving=True):
        self.asked, self.journal, self.key, self.serving, self.answer = [], [], key, serving, WELL
        self.status = OllamaStatus(up=True)
        settings = OllamaSettings(preload=preload or ("chat", "vec", "gpt"))
        self.warming = Warming(
            self.ask, lambda: self.status, self.server, self.journal.append, settings, [LLAMA, EMBED, GPT]
        )

    async def ask(self, path, timeout, body):
        await anyio.lowlevel.checkpoint()
        if not self.serving:
            return None
        self.asked.append((path, json.loads(body)["model"]))
        return self.answer

    async def server(self, _):
        await anyio.lowlevel.checkpoint()
        return self.key

    async def run(self, seconds=20):
        with anyio.move_on_after(seconds):
            await self.warming.run()
        asked, self.asked = self.asked, []
        return asked


BOTH = [("/v1/chat/completions", "chat"), ("/v1/embeddings", "vec")]


async def test_what_is_named_is_asked_for_once_through_litellm():
    world = World()
    assert await world.run() == BOTH
    assert [(note.event, note.fields["model"]) for note in world.journal] == [
        ("ollama.preloaded", "chat"), ("ollama.preloaded", "vec"),
    ]  # fmt: skip
    assert await world.run(1000) == []


async def test_it_is_done_again_when_ollama_was_down():
    world = World()
    await world.run()
    world.status = OllamaStatus(up=False)
    assert await world.run() == []
    world.status = OllamaStatus(up=True)
    assert await world.run() == BOTH


async def test_it_is_done_again_when_ollama_is_another_process_though_nobody_saw_it_down():
    world = World()
    await world.run()
    world.status, world.key = replace(world.status, loaded=("llama2:latest",)), (8, 2.0)  # not asked since
    assert await world.run() == BOTH


async def test_what_is_loaded_already_is_left_alone():
    world = World()
    world.status = replace(world.status, loaded=("llama2:latest",))
    assert await world.run() == BOTH[1:]


async def test_a_process_that_cannot_be_told_is_no_reason_to_load_again():
    world = World(key=None)
    assert await world.run() == BOTH
    assert await world.run(1000) == []


async def test_it_waits_for_a_worker():
    world = World("chat", serving=False)
    assert await world.run() == []
    world.serving = True
    world.warming._up = False
    assert await world.run() == BOTH[:1]


@pytest.mark.parametrize("answer", [Answer(500, b"", 1.0), Failure("timeout", "no complete answer in 600 s", 600.0)])
async def test_what_cannot_be_loaded_is_told(answer):
    world = World("chat")
    world.answer = answer
    await world.run()
    (note,) = world.journal
    assert (note.event, note.level) == ("ollama.preload_failed", "warning")


async def test_nothing_named_nothing_is_asked():
    world = World("chat")
    world.warming.adopt(OllamaSettings(), [LLAMA])
    assert await world.run(1000) == []
