import itertools
import json

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from ccproxy_supervisor.core.answer import Answer, Failure
from ccproxy_supervisor.core.health import judge
from ccproxy_supervisor.core.litellm import Model
from ccproxy_supervisor.core.model import ModelSeen, Probed
from ccproxy_supervisor.core.settings import ModelSettings
from ccproxy_supervisor.edge.models import ModelWatch

pytestmark = pytest.mark.anyio
ECHO = Model("echo", "openai/echo", mock=True)
LLAMA, QWEN = Model("llama", "ollama/llama2", "llama2"), Model("qwen", "ollama/qwen", "qwen")
GPT, C = Model("gpt", "openai/gpt", mock=True), Model("c", "x/c", mock=True)


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def report(well=1, *errors, status=None):
    body = {
        "healthy_endpoints": [{"model": "m"}] * well,
        "unhealthy_endpoints": [{"model": "m", "error": e} for e in errors],
    }
    return Answer(status or (200 if well else 503), json.dumps(body).encode(), 0.5)


class World:
    """LiteLLM and Ollama as the watch sees them; *asked* is what LiteLLM was asked, and when."""

    def __init__(self):
        self.asked, self.journal, self.loaded = [], [], set()
        self.outcome, self.takes, self.busy_until, self.serves_at = report(), 0.0, 0.0, 0.0
        self.start = None

    @property
    def now(self):
        return round(anyio.current_time() - self.start, 3)

    async def ask(self, path, timeout):
        if self.now < self.serves_at:
            return None
        self.asked.append((self.now, path.removeprefix("/health?model=")))
        await anyio.sleep(min(self.takes, timeout))
        return self.outcome

    async def harmless(self, model):
        await anyio.lowlevel.checkpoint()
        return model.ollama is None or model.ollama in self.loaded

    async def watch(self, seconds, *models, then=None, **settings):
        self.start = anyio.current_time()
        watch = ModelWatch(
            self.ask,
            self.harmless,
            lambda: self.now < self.busy_until,
            self.journal.append,
            lambda: 1000.0 + self.now,
            ModelSettings(**settings),
            models,
        )
        self.health = watch.health
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            await anyio.sleep(seconds)
            if then:
                then(watch)
                await anyio.sleep(seconds)
            tasks.cancel_scope.cancel()


@pytest.fixture
def world():
    return World()


async def test_all_are_asked_soon_then_spread_over_the_interval(world):
    await world.watch(700, ECHO, GPT, C, interval=300.0)
    assert world.asked == [
        (5, "echo"), (10, "gpt"), (15, "c"), (305, "echo"), (405, "gpt"), (505, "c"), (605, "echo"),
    ]  # fmt: skip
    assert world.journal[:2] == [Probed("models", "echo", judge(report())[0]), ModelSeen("echo", healthy=True)]


async def test_switched_off_nothing_is_asked(world):
    await world.watch(10_000, ECHO, interval=None)
    assert world.asked == []


async def test_a_name_with_several_deployments_is_asked_once(world):
    await world.watch(100, GPT, GPT)
    assert world.asked == [(5, "gpt")]


async def test_a_name_is_quoted(world):
    await world.watch(8, Model("a/b c&d=*", "x/y", mock=True))
    assert world.asked == [(5, "a%2Fb%20c%26d%3D%2A")]


async def test_a_model_of_ollama_is_asked_only_while_loaded(world):
    def load(_):
        world.loaded = {"llama2"}

    await world.watch(400, LLAMA, QWEN, ECHO, then=load, interval=300.0)
    assert {name for when, name in world.asked if when < 400} == {"echo"}
    assert {name for when, name in world.asked if when > 400} == {"echo", "llama"}


@pytest.mark.parametrize(("seconds", "verdicts"), [(450, [False]), (500, [False, None])])
async def test_a_failed_model_that_was_unloaded_is_forgiven_the_second_time_it_may_not_be_asked(
    world, seconds, verdicts
):
    def unload(_):
        world.loaded = set()

    world.loaded, world.outcome = {"llama2"}, report(0, "runner died")
    await world.watch(seconds, LLAMA, then=unload, interval=300.0)
    assert [event.healthy for event in world.journal if isinstance(event, ModelSeen)] == verdicts


async def test_a_failed_model_that_answers_again_is_not_forgiven_too(world):
    class Loaded:
        def __contains__(self, _):
            return world.now < 1300

    def heal(_):
        world.outcome = report()

    world.loaded, world.outcome = Loaded(), report(0, "runner died")
    await world.watch(1000, LLAMA, then=heal, interval=300.0)
    assert [event.healthy for event in world.journal if isinstance(event, ModelSeen)] == [False, True]


async def test_what_failed_is_forgiven_when_asking_is_switched_off(world):
    def off(watch):
        watch.adopt(ModelSettings(interval=None), [ECHO, GPT])

    world.outcome = report(0, "no key", status=503)
    await world.watch(22, ECHO, GPT, then=off)
    assert world.journal[-1] == ModelSeen("echo", healthy=None, detail="is not asked any more", before=False)
    assert "gpt" not in [event.name for event in world.journal if isinstance(event, ModelSeen)]
    assert {view.detail for view in world.health.views} == {"not asked: models.interval is off"}


async def test_without_only_loaded_every_model_is_asked(world):
    await world.watch(20, LLAMA, ECHO, only_loaded=False)
    assert world.asked == [(5, "llama"), (10, "echo")]


async def test_a_mixed_name_is_asked_only_if_no_deployment_of_it_would_be_loaded(world):
    mixed = [Model("m", "openai/m", mock=True), Model("m", "ollama/a", "a"), Model("m", "ollama/b", "b")]
    world.loaded = {"a"}
    await world.watch(20, *mixed)
    assert world.asked == []
    world.loaded = {"a", "b"}
    await world.watch(20, *mixed)
    assert world.asked == [(5, "m")]


async def test_one_is_asked_at_a_time(world):
    world.takes = 50.0
    await world.watch(130, ECHO, GPT, interval=40.0)
    assert world.asked == [(5, "echo"), (55, "gpt"), (105, "echo")]


async def test_a_slow_hour_is_not_made_up_for(world):
    world.takes = 50.0

    def heal(_):
        world.takes = 0.0

    await world.watch(1000, ECHO, GPT, interval=40.0, then=heal)
    calm = [when for when, name in world.asked if when > 1060]
    assert {round(b - a, 3) for a, b in itertools.pairwise(calm)} == {20}


async def test_a_busy_service_is_asked_when_it_calms_down(world):
    world.busy_until = 12.5
    await world.watch(60, ECHO, interval=300.0)
    assert world.asked == [(13, "echo")]


async def test_a_busy_service_is_asked_after_half_an_interval_at_the_latest(world):
    world.busy_until = 10_000
    await world.watch(300, ECHO, interval=300.0)
    assert world.asked == [(155, "echo")]


async def test_the_first_question_waits_until_somebody_serves(world):
    world.serves_at = 31
    await world.watch(100, ECHO, interval=300.0)
    assert world.asked == [(35, "echo")]


async def test_a_new_generation_is_asked_for_soon(world):
    def reload(watch):
        watch.adopt(ModelSettings(), [GPT])

    await world.watch(50, ECHO, then=reload)
    assert world.asked == [(5, "echo"), (55, "gpt")]


async def test_a_change_while_nobody_serves_is_taken_up(world):
    world.serves_at = 60

    def reload(watch):
        watch.adopt(ModelSettings(), [GPT])

    await world.watch(50, ECHO, then=reload)
    assert world.asked == [(60, "gpt")]


async def test_switched_on_it_starts(world):
    def on(watch):
        watch.adopt(ModelSettings(), [ECHO])

    await world.watch(50, ECHO, interval=None, then=on)
    assert world.asked == [(55, "echo")]


async def test_litellms_own_fault_says_nothing_of_the_model(world):
    world.outcome = Failure("refused", "cannot connect", 0.0)
    await world.watch(10, ECHO)
    assert [type(event) for event in world.journal] == [Probed]


async def test_one_failure_is_asked_about_again_before_it_counts(world):
    """A hiccup of an upstream must not turn the whole service degraded."""
    world.outcome = report(0, "hiccup")
    await world.watch(15, ECHO, then=lambda _: setattr(world, "outcome", report()), interval=300.0)
    assert world.asked == [(5, "echo"), (20, "echo")]
    assert [event.healthy for event in world.journal if isinstance(event, ModelSeen)] == [True]


async def test_what_costs_money_is_never_asked_unless_its_owner_says_so(world):
    paid = Model("gpt", "openai/gpt-5")
    await world.watch(3600, paid, Model("far", "ollama/x", "x", "https://ollama.com"), only_loaded=False)
    assert world.asked == []
    assert {view.healthy for view in world.health.views} == {None}
    await world.watch(7, paid, paid=True)
    await world.watch(7, paid, check=("gpt",))
    assert world.asked == [(5, "gpt"), (5, "gpt")]


async def test_an_answer_to_an_older_configuration_is_dropped(world):
    world.takes = 10.0
    await world.watch(10, ECHO, then=lambda watch: watch.adopt(ModelSettings(), [GPT]))
    assert [event.name for event in world.journal] == []
    assert [view.name for view in world.health.views] == ["gpt"]
