"""What is done for an Ollama that is stuck, and that nothing is done for one that is not."""

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from ccproxy_supervisor.core.deployment import Model
from ccproxy_supervisor.core.health import ModelView
from ccproxy_supervisor.core.model import Helped, Note, OllamaStatus
from ccproxy_supervisor.core.ollama import read_loaded
from ccproxy_supervisor.core.settings import HelpSettings, OllamaSettings
from ccproxy_supervisor.core.wedge import Flow, Runner
from ccproxy_supervisor.edge.care import OllamaActions, OllamaCare, OllamaSignals
from lying_ollama import LyingOllama

pytestmark = pytest.mark.anyio
LLAMA, EMBED = Model("chat", "ollama_chat/llama2", "llama2"), Model("vec", "ollama/all-minilm", "all-minilm")
ALL = HelpSettings(unload=True, restart_runner=True, restart_command=("/opt/restart", "ollama"))
SAYS = {"restart_command": "restart", "restart_runner": "runner"}


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class World:
    """A Mac with that Ollama. *since*: when the requests that wait began to, None while none does."""

    def __init__(self, ollama, *, settings=ALL, models=(LLAMA, EMBED), views=()):
        self.ollama, self.journal, self.views, self.since = ollama, [], views, None
        self.runners, self.ended, self.ran, self.graced = (7,), [], [], False
        self.waits, self.cores = False, 0.0
        self.start = anyio.current_time()
        senses = OllamaSignals(
            self.status, self.flow, lambda: self.views, self.seen, lambda: self.graced, lambda: self.now
        )
        hands = OllamaActions(ollama.fetch, self.end, self.command)
        self.care = OllamaCare(senses, hands, self.journal.append, OllamaSettings(help=settings), models)

    @property
    def now(self):
        return anyio.current_time() - self.start

    def status(self):
        names = tuple(self.ollama.loaded)
        listed = b'{"models": [%s]}' % b",".join(b'{"name": "%s"}' % name.encode() for name in names)
        return OllamaStatus(up=self.ollama.up, loaded=names, running=read_loaded(listed))

    def flow(self):
        if self.waits:
            return Flow(1, self.now)
        if not self.ollama.hangs and not self.ollama.fails:
            self.since = None
        return Flow(3, self.now - self.since) if self.since is not None else Flow()

    async def seen(self):
        await anyio.lowlevel.checkpoint()
        pids = self.runners
        return None if pids is None else tuple(Runner(pid, 1.0, self.now * self.cores, 100) for pid in pids)

    async def end(self, runner):
        await anyio.lowlevel.checkpoint()
        self.ended.append(runner.pid)
        self.ollama.cure("runner")
        return True

    async def command(self, words, timeout):
        await anyio.lowlevel.checkpoint()
        self.ran.append((words, timeout))
        self.ollama.cure("restart")
        return ""

    async def run(self, seconds):
        with anyio.move_on_after(seconds):
            await self.care.run()

    def notes(self):
        return [event.event for event in self.journal if isinstance(event, Note)]

    def steps(self):
        return [event.step for event in self.journal if isinstance(event, Helped)]


async def stuck(world, seconds):
    world.since = 0.0
    await world.run(seconds)


@pytest.mark.parametrize(
    ("cured_by", "steps"),
    [
        ("unload", ["unload"]),
        ("runner", ["unload", "restart_runner"]),
        ("restart", ["unload", "restart_runner", "restart_command"]),
        ("", ["unload", "restart_runner", "restart_command", "shout"]),
    ],
)
async def test_one_step_after_another_until_it_generates(cured_by, steps):
    world = World(LyingOllama("llama2:latest", hangs=True, cured_by=cured_by))
    await stuck(world, 400)
    assert world.steps() == steps
    assert world.notes() == (["ollama.stuck", "ollama.recovered"] if cured_by else ["ollama.stuck"])
    assert world.care.stuck == ("" if cured_by else "llama2:latest answers nothing")
    assert world.ended == ([7] if len(steps) > 1 else [])
    assert world.ran == ([(("/opt/restart", "ollama"), 60.0)] if len(steps) > 2 else [])


async def test_it_is_found_within_a_minute():
    world = World(LyingOllama("llama2:latest", hangs=True))
    await stuck(world, 60)
    assert world.notes() == ["ollama.stuck"]


async def test_with_nothing_allowed_it_is_only_told():
    world = World(LyingOllama("llama2:latest", hangs=True), settings=HelpSettings())
    await stuck(world, 400)
    assert world.steps() == ["shout"]
    assert world.ollama.done("/generate")
    assert not [body for body in world.ollama.done("/generate") if body.get("keep_alive") == 0]
    (shout,) = [event for event in world.journal if isinstance(event, Helped)]
    assert shout == Helped("shout", "llama2:latest answers nothing", "nothing may be done for it; see ollama.help")


async def test_the_question_changes_nothing_of_how_the_model_is_loaded():
    """Another context would make Ollama load it anew, and another time keep it in memory."""
    world = World(LyingOllama("llama2:latest"))
    world.ollama.expires = 300.0
    world.waits = True
    await world.run(40)
    (body,) = world.ollama.done("/generate")
    assert body["options"] == {"num_predict": 1, "num_ctx": 32768}
    assert 260 <= int(body["keep_alive"].removesuffix("s")) <= 280


async def test_an_embedding_model_is_asked_to_embed():
    world = World(LyingOllama("all-minilm:latest", hangs=True))
    await stuck(world, 60)
    assert world.ollama.done("/embed")
    assert not world.ollama.done("/generate")
    assert world.care.stuck == "all-minilm:latest answers nothing"


async def test_what_nobody_here_asks_for_is_not_asked():
    world = World(LyingOllama("other:7b", hangs=True))
    await stuck(world, 400)
    assert world.ollama.asked == []
    assert world.journal == []


async def test_a_long_prefill_is_left_alone():
    world = World(LyingOllama("llama2:latest", hangs=True))
    world.waits, world.cores = True, 0.2
    await world.run(1500)
    assert (world.journal, world.ollama.asked) == ([], [])


@pytest.mark.parametrize("status", [503, 400])
async def test_a_full_queue_and_a_refusal_are_no_failures(status):
    world = World(LyingOllama("llama2:latest", status=status))
    world.waits = True
    await world.run(100)
    assert world.ollama.done("/generate")
    assert world.journal == []


async def test_a_runner_that_dies_is_found_by_litellms_checks():
    dead = "llama runner process has terminated: signal: killed"
    ollama = LyingOllama(fails=dead, cured_by="restart")
    world = World(ollama, views=(ModelView("chat", healthy=False, detail=dead, checked=1.0),))
    await world.run(400)
    assert world.notes() == ["ollama.stuck", "ollama.recovered"]
    assert world.steps() == ["unload", "restart_runner", "restart_command"]
    assert ollama.done("/generate")[-1]["model"] == "llama2"


async def test_while_it_is_down_or_the_machine_woke_up_nothing_is_concluded():
    world = World(LyingOllama("llama2:latest", hangs=True))
    world.graced = True
    await stuck(world, 300)
    world.graced, world.ollama.up = False, False
    await world.run(300)
    assert world.journal == []


async def test_runners_that_are_not_ours_are_left_alone_and_that_is_said():
    world = World(LyingOllama("llama2:latest", hangs=True), settings=HelpSettings(restart_runner=True, patience=60.0))
    world.runners = None
    await stuck(world, 300)
    helped = [event for event in world.journal if isinstance(event, Helped)]
    assert [(event.step, event.wrong) for event in helped] == [
        ("restart_runner", "its runners are not ours"), ("shout", "tried restart_runner"),
    ]  # fmt: skip
    assert world.ended == []


async def test_new_settings_count_at_once():
    world = World(LyingOllama("llama2:latest", hangs=True), settings=HelpSettings())
    await stuck(world, 60)
    world.care.adopt(OllamaSettings(enabled=False), [LLAMA])
    await world.run(10)
    assert world.care.stuck == ""
