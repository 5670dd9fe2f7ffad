"""Workers that have outlived their supervisor: the next one takes them on as they are."""

import anyio
import pytest

from ccproxy_supervisor.core.model import UNKNOWN, Cause, State, Transition
from ccproxy_supervisor.core.policy import Record
from ccproxy_supervisor.seat import Slot
from stage import curtain, plan_of

pytestmark = pytest.mark.anyio


async def play(stage, seconds, *, plan=None, survivors, slots=(), newest=9, act=None):
    """Run a supervisor with *survivors* for *seconds*, call *act* with it, then stop it."""
    stage.file = plan or plan_of()
    supervisor = stage.supervisor(slots=slots, survivors=[make() for make in survivors], newest=newest)
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(seconds)
        if act:
            await act(supervisor)
        supervisor.stop("test")
    return supervisor


async def test_one_that_serves_goes_on_serving_with_its_slot_number_generation_and_age(stage):
    seen = []

    async def look(supervisor):
        seen.extend(supervisor.pool.views())

    await play(stage, 50, survivors=[lambda: stage.survivor(7, slot=0, generation=3, age=1000)], act=look)

    assert stage.diary[:1] == [(0, "7 serving")]
    assert [what for _, what in stage.diary if "starting" in what] == []
    (view,) = seen
    assert (view.slot, view.state, view.number, view.generation, view.uptime) == (0, State.SERVING, 7, 3, 1050)
    assert (view.adopted, view.pid) == (True, 1007)
    assert stage.children[0].provided == ("a", 3)


async def test_one_that_does_not_serve_is_proven_again_and_stands_by(stage):
    await play(stage, 50, plan=plan_of(1, 1), survivors=[lambda: stage.survivor(3, slot=0), lambda: stage.survivor(4)])

    assert set(stage.after(0)[:3]) == {"3 serving", "4 starting", "4 standby"}
    assert len(stage.children) == 2


async def test_one_that_does_not_serve_takes_a_slot_that_is_free(stage):
    await play(stage, 50, survivors=[lambda: stage.survivor(4)])

    assert stage.diary[:3] == [(0, "4 starting"), (0.1, "4 standby"), (0.1, "4 serving")]
    assert len(stage.children) == 1


async def test_who_is_missing_is_started_with_a_number_nobody_had(stage):
    await play(stage, 50, plan=plan_of(2, 1), survivors=[lambda: stage.survivor(4, slot=1)], newest=6)

    assert sorted(child.number for child in stage.children) == [4, 7, 8]
    assert (0.1, "7 serving") in stage.diary


@pytest.mark.parametrize("plan", [plan_of(1, 0), plan_of(1, 1)])
async def test_who_is_too_many_drains(stage, plan):
    many = [
        lambda: stage.survivor(4, slot=0),
        lambda: stage.survivor(5, slot=1),
        lambda: stage.survivor(6),
        lambda: stage.survivor(7),
    ]
    await play(stage, 50, plan=plan, survivors=many)

    ends = [e for e in stage.events if isinstance(e, Transition) and e.ending]
    leaving = {e.number for e in ends if e.ending.cause is Cause.RELOAD}
    assert leaving == ({5, 6, 7} if plan.settings.proxy.standby == 0 else {5, 6})
    assert 5 in [child.number for child in stage.children if child.drained_for is not None]
    assert len(stage.children) == 4


async def test_of_two_in_one_slot_the_newer_stays(stage):
    await play(stage, 50, survivors=[lambda: stage.survivor(4, slot=0), lambda: stage.survivor(5, slot=0)])

    ends = {e.number: e.ending.cause for e in stage.events if isinstance(e, Transition) and e.ending}
    assert ends == {4: Cause.RELOAD, 5: Cause.STOP}


async def test_one_of_another_plan_is_replaced_make_before_break(stage):
    await play(stage, 50, plan=plan_of(digest="b"), survivors=[lambda: stage.survivor(4, slot=0, generation=3)])

    told = stage.after(0)
    assert told.index("10 serving") < told.index("4 draining")
    births = {e.number: e.generation for e in stage.events if isinstance(e, Transition)}
    assert births == {4: 3, 10: 4}
    assert stage.children[0].provided == ("a", 3)


async def test_one_of_another_plan_serves_on_while_no_newcomer_can(stage):
    stage.unfit = {"b"}
    await play(stage, 50, plan=plan_of(digest="b"), survivors=[lambda: stage.survivor(4, slot=0)])

    assert "reload failed" in stage.after(0)
    assert [e.ending.cause for e in stage.events if isinstance(e, Transition) and e.number == 4 and e.ending] == [
        Cause.STOP
    ]


async def test_a_reload_after_that_tries_again(stage):
    stage.unfit = {"b"}
    reports = []

    async def mend(supervisor):
        stage.unfit = set()
        reports.append(await supervisor.reload("test"))

    await play(stage, 50, plan=plan_of(digest="b"), survivors=[lambda: stage.survivor(4, slot=0)], act=mend)

    assert [report.result for report in reports] == ["rolled"]


async def test_when_it_dies_its_successor_is_of_the_new_plan(stage):
    stage.unfit = {"b"}
    survivor = lambda: stage.survivor(4, slot=0, lives=30, orphan=True)  # noqa: E731
    supervisor = await play(stage, 50, plan=plan_of(digest="b"), survivors=[survivor])

    assert {seat.plan.birth.digest for seat in supervisor.pool.seats} <= {"b"}


async def test_its_slot_remembers_and_an_unknown_end_is_told_as_such(stage):
    slots = [Slot(0, Record(2, 2.0), 5)]
    seen = []

    async def look(supervisor):
        seen.extend(supervisor.pool.views())

    survivor = lambda: stage.survivor(4, slot=0, lives=10, orphan=True)  # noqa: E731
    await play(stage, 30, survivors=[survivor], slots=slots, act=look)

    ending = next(e.ending for e in stage.events if isinstance(e, Transition) and e.ending)
    assert (ending.cause, ending.status, ending.detail) == (Cause.EXITED, None, UNKNOWN)
    assert [e.delay for e in stage.events if isinstance(e, Transition) and e.delay] == [1]  # well for its 100 s
    assert seen[0].restarts == 6


async def test_an_adopted_standby_takes_over(stage):
    dies = lambda: stage.survivor(4, slot=0, lives=10)  # noqa: E731
    await play(stage, 50, plan=plan_of(1, 1), survivors=[dies, lambda: stage.survivor(5)])

    assert (10, "5 serving") in stage.diary


async def test_an_adopted_worker_is_held_to_its_health_and_limits(stage):
    await play(stage, 100, survivors=[lambda: stage.survivor(4, slot=0, sick_at=20)])

    assert "4 gone unresponsive" in stage.after(0)


async def test_an_adopted_worker_that_drains_already_is_replaced(stage):
    await play(stage, 50, survivors=[lambda: stage.survivor(4, slot=0, leaves_at=0, stream=20)])

    assert {(0, "4 serving"), (0, "4 draining"), (1.1, "10 serving")} <= set(stage.diary)


async def test_an_adopted_worker_is_stopped_like_any_other(stage):
    await play(stage, 20, survivors=[lambda: stage.survivor(4, slot=0, stream=5)])

    assert stage.children[0].drained_for == 30
    assert (25, "4 gone stop") in stage.diary


async def test_one_that_died_before_it_was_taken_on_is_followed_by_another(stage):
    def stillborn():
        survivor = stage.survivor(4, slot=0)
        stage.lives[4] = {"spawn_error": "it went away"}
        return survivor

    await play(stage, 50, survivors=[stillborn])

    assert {(0, "4 gone spawn_failed"), (1.1, "10 serving")} <= set(stage.diary)


async def test_leaving_ends_nobody_and_tells_of_no_end(stage):
    stage.file = plan_of(2, 1)
    supervisor = stage.supervisor()
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(20)
        supervisor.leave()

    assert [child.status for child in stage.children] == [None, None, None]
    assert [child.signals for child in stage.children] == [[], [], []]
    assert not [e for e in stage.events if isinstance(e, Transition) and e.new is State.GONE]
    assert [slot.last_ending for slot in supervisor.pool.slots] == [None, None]


@pytest.mark.parametrize("stopped", [False, True])
async def test_leaving_waits_for_the_rolls_and_gives_way_to_a_stop(stage, stopped):
    stage.file = plan_of()
    supervisor = stage.supervisor()
    over = []

    async def run():
        await supervisor.run()
        over.append(stage.now)

    async with curtain() as tasks:
        tasks.start_soon(run)
        await anyio.sleep(20)
        stage.lives |= {2: {"ready_at": 10}, 3: {"ready_at": 10}}
        for digest in "bc":
            stage.file = plan_of(digest=digest)
            tasks.start_soon(supervisor.reload, "test")
            await anyio.sleep(1)
        supervisor.leave()
        await anyio.sleep(1)
        if stopped:
            supervisor.stop("test")

    ends = [e.ending.cause for e in stage.events if isinstance(e, Transition) and e.ending]
    if stopped:
        assert Cause.STOP in ends
    else:
        assert {seat.plan.birth.digest for seat in supervisor.pool.seats} == {"c"}
        assert Cause.STOP not in ends
    assert over[0] >= 23


async def test_a_supervisor_that_crashes_leaves_its_workers(stage):
    stage.file = plan_of(2)
    supervisor = stage.supervisor()

    async def crash():
        async with curtain() as tasks:
            tasks.start_soon(supervisor.run)
            await anyio.sleep(20)
            raise RuntimeError("a bug")

    with pytest.raises(ExceptionGroup):
        await crash()
    assert [child.status for child in stage.children] == [None, None]
