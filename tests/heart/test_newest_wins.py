"""Orders that cross each other, and all else that may happen meanwhile: what the newest one read is what serves."""

from dataclasses import dataclass, field

import anyio
import pytest
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ccproxy_supervisor.core.model import SUPERSEDED, Cause, Reloaded
from stage import Stage, curtain, patched, plan_of, refusal

pytestmark = pytest.mark.once

GOOD, BROKEN = ("applied", "rolled", "unchanged"), "broken"
FILES = [plan_of(1, 1, "a"), plan_of(2, 0, "a"), plan_of(1, 0, "b"), plan_of(2, 1, "b"), plan_of(1, 1, BROKEN)]
FILES += [patched(plan_of(1, 1, "a"), "health", interval=7.0), patched(plan_of(2, 1, "b"), "health", interval=2.0)]
FILES += [refusal("half an edit"), patched(plan_of(1, 1, "a"), "proxy", port=9000)]


@dataclass
class Play:
    """One run on virtual time: every order with the workers born before it, and what it was told."""

    stage: Stage
    supervisor: object
    told: list[tuple[Cause, int, Reloaded]] = field(default_factory=list)
    taken: int = 0

    async def order(self, cause):
        self.taken += 1
        born = self.supervisor.pool.newest
        self.told.append((cause, born, await self.supervisor.reload(f"order {self.taken}", cause)))

    def kill(self, which):
        living = [child for child in self.stage.children if child.status is None]
        if living:
            living[which % len(living)].die(-9)


async def perform(steps, lives, *, stopped, end=None):
    """Do *steps* (a pause, what, and an argument), let all come to rest, have a look (*end*), and stop."""
    stage = Stage()
    stage.unfit, stage.lives = {BROKEN}, dict(lives)
    play = Play(stage, stage.supervisor(plan_of(1, 1)))
    async with curtain() as tasks:
        tasks.start_soon(play.supervisor.run)
        await anyio.sleep(5)
        for pause, what, argument in steps:
            await anyio.sleep(pause)
            if what == "edit":
                stage.file = FILES[argument]
                tasks.start_soon(play.order, Cause.RELOAD)
            elif what == "kill":
                play.kill(argument)
            else:
                tasks.start_soon(play.order, Cause(what))
        if not stopped:
            await anyio.sleep(400)
            end(play)
        play.supervisor.stop("test")
    assert len(play.told) == play.taken, "an order was never answered"
    assert all(child.status is not None for child in stage.children)


def newest_serves(play):
    """What is on disk is what serves, or the newest report says why not."""
    stage, supervisor, pool = play.stage, play.supervisor, play.supervisor.pool
    shown = max((e for e in stage.events if isinstance(e, Reloaded)), key=lambda e: e.order, default=None)
    newest = max((report for _, _, report in play.told), key=lambda report: report.order, default=None)
    assert shown == newest
    if newest is None or newest.result in GOOD:
        assert supervisor.plan == stage.file
        assert pool.matches(stage.file)
        assert all(worker.plan == stage.file for worker in pool.workers)
        proxy = stage.file.settings.proxy
        assert [seat.serving for seat in pool.seats].count(True) == pool.serving == proxy.workers
        assert len(pool.workers) == proxy.workers + proxy.standby
    elif newest.result == "refused":
        assert stage.file in FILES[-2:]
    else:
        assert newest.result == "failed"
        assert newest.detail.startswith("cannot replace a worker: ")
    for cause, born, report in play.told:
        if cause is not Cause.RELOAD and report.result in GOOD:
            assert report.result == "rolled"
            assert min(worker.number for worker in pool.workers) > born
        if report.detail.startswith(SUPERSEDED):
            assert cause is Cause.RELOAD
            assert report.order < newest.order


def on_virtual_time(steps, lives, **more):
    async def run():
        await perform(steps, lives, **more)

    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(run, backend="trio", backend_options={"clock": clock})


PAUSES = st.sampled_from([0, 0, 0.005, 0.005, 0.1, 0.11, 3, 12, 40])
STEP = st.one_of(
    st.tuples(PAUSES, st.just("edit"), st.integers(0, len(FILES) - 1)),
    st.tuples(PAUSES, st.just("edit"), st.integers(0, 3)),
    st.tuples(PAUSES, st.sampled_from(["restart", "upgrade"]), st.none()),
    st.tuples(PAUSES, st.just("kill"), st.integers(0, 5)),
)
LIFE = st.sampled_from([{"ready_at": 5}, {"ready_at": 2, "lives": 1}, {"lives": 20}, {"stream": 12}, {"mute": True}])
LIVES = st.dictionaries(st.integers(1, 15), LIFE, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25), LIVES)
@example([(0.005, "edit", number % 4) for number in range(20)], {})
@example([(0.005, "edit", number % 4) for number in range(20)], {number: {"ready_at": 2} for number in range(40)})
def test_at_rest_what_is_on_disk_serves_whatever_crossed(steps, lives):
    on_virtual_time(steps, lives, stopped=False, end=newest_serves)


@settings(max_examples=30, deadline=None)
@given(st.lists(STEP, max_size=12), LIVES)
def test_a_stop_amid_all_that_answers_every_order_and_leaves_nobody_behind(steps, lives):
    on_virtual_time(steps, lives, stopped=True)


@pytest.mark.anyio
@pytest.mark.parametrize("pause", [0, 0.005])
@pytest.mark.parametrize("_attempt", range(10))  # the order in which tasks wake is drawn
async def test_a_burst_of_edits_ends_with_the_last_one(stage, pause, _attempt):
    supervisor = stage.supervisor(plan_of())

    async def edit(number):
        stage.file = plan_of(digest=str(number))
        await supervisor.reload("SIGHUP")

    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(30)
        for number in range(20):
            tasks.start_soon(edit, number)
            await anyio.sleep(pause)
        await anyio.sleep(60)
        assert supervisor.plan == stage.file
        assert [worker.plan for worker in supervisor.pool.workers] == [stage.file]
        supervisor.stop("test")


@pytest.mark.anyio
async def test_a_restart_that_a_reload_overtakes_is_carried_out_by_it(stage):
    stage.lives = {3: {"ready_at": 40}}
    supervisor, told = stage.supervisor(plan_of(2)), {}
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(30)

        async def restart():
            told["restart"] = await supervisor.reload("CLI", Cause.RESTART)

        tasks.start_soon(restart)
        await anyio.sleep(5)
        stage.file = patched(plan_of(2), "health", interval=1.0)  # which alone replaces nobody
        told["reload"] = await supervisor.reload("SIGHUP")
        await anyio.sleep(1)
        assert {name: report.result for name, report in told.items()} == {"restart": "rolled", "reload": "rolled"}
        assert [worker.number for worker in supervisor.pool.workers] == [4, 5]
        assert "roll.interrupted" in [what for _, what in stage.diary]
        supervisor.stop("test")


@pytest.mark.anyio
async def test_a_refusal_during_a_roll_is_what_was_read_last(stage):
    stage.lives = {2: {"ready_at": 10}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(30)
        stage.file = plan_of(digest="b")
        tasks.start_soon(supervisor.reload, "SIGHUP")
        await anyio.sleep(5)
        stage.file = refusal()
        refused = await supervisor.reload("SIGHUP")
        await anyio.sleep(30)
        assert refused.result == "refused"
        assert supervisor.plan == plan_of(digest="b")
        assert supervisor.last_reload == refused
        supervisor.stop("test")
