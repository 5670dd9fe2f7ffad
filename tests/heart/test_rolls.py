"""Many seats: standbys, rolls, resizes, and orders that cross each other."""

from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest

from ccproxy_supervisor.core.model import Cause, Reloaded
from stage import curtain, patched, plan_of, refusal

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(stage):
    """Call with a plan: a running supervisor, stopped when the block ends."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def run(plan, settle=30.0):
        supervisor = stage.supervisor(plan)
        async with curtain() as tasks:
            tasks.start_soon(supervisor.run)
            await anyio.sleep(settle)
            yield supervisor
            supervisor.stop("test")
        assert all(child.status is not None for child in stage.children)

    return run


def states(supervisor):
    return [(w.number, str(w.state)) for w in supervisor.pool.workers]


async def test_standbys_start_when_the_slots_have_settled(stage, opened):
    stage.lives[1] = {"ready_at": 7}
    async with opened(plan_of(1, 2)) as supervisor:
        assert (7.1, "2 starting") in stage.diary
        assert (7.1, "3 starting") in stage.diary
        assert states(supervisor) == [(1, "serving"), (2, "standby"), (3, "standby")]
        assert [c.active for c in stage.children] == [True, False, False]


async def test_a_standby_takes_over_at_once_and_is_followed_by_a_new_one(stage, opened):
    stage.lives[1] = {"lives": 20, "last_words": 0.2}
    async with opened(plan_of(1, 1)) as supervisor:
        assert (20, "2 serving") in stage.diary
        assert (20, "failover 0 0.0") in stage.diary
        assert (21, "3 starting") in stage.diary
        assert states(supervisor) == [(2, "serving"), (3, "standby")]
        slot = supervisor.pool.slot(0)
        assert (slot.restarts, slot.last_ending.cause) == (1, "exited")


async def test_a_standby_that_dies_of_its_activation_is_followed_by_the_next(stage, opened):
    stage.lives = {1: {"lives": 20}, 2: {"mute": True}}
    async with opened(plan_of(1, 2)) as supervisor:
        assert (23, "3 serving") in stage.diary
        assert supervisor.pool.serving == 1


async def test_whoever_is_warm_first_fills_the_empty_slot(stage, opened):
    stage.lives = {1: {"lives": 20}, 2: {"ready_at": 40}, 3: {"ready_at": 10}}
    async with opened(plan_of(1, 1), settle=60) as supervisor:
        # 1 dies while the standby 2 is still starting; its own successor 3 is faster
        assert (31.1, "3 serving") in stage.diary
        assert states(supervisor) == [(2, "standby"), (3, "serving")]


async def test_a_reload_replaces_one_at_a_time_make_before_break(stage, opened):
    stage.lives = {1: {"stream": 12}, 3: {"ready_at": 7}}
    async with opened(plan_of(2)) as supervisor:
        stage.file = plan_of(2, digest="b")
        report = await supervisor.reload("SIGHUP")

        assert (report.result, supervisor.pool.generation) == ("rolled", 2)
        story = [(at, what) for at, what in stage.diary if at >= 30 and "standby" not in what]
        assert sorted(story) == [
            (30, "3 starting"), (37.1, "1 draining"), (37.1, "3 serving"), (49.1, "1 gone reload"),
            (49.1, "4 starting"), (49.2, "2 draining"), (49.2, "2 gone reload"), (49.2, "4 serving"), (49.2, "reload rolled"),
        ]  # fmt: skip
        assert stage.adopted == [stage.file]


async def test_there_is_always_a_serving_worker_during_a_roll(stage, opened):
    async with opened(plan_of(1, 1)) as supervisor:
        lowest = 1

        async def look():
            nonlocal lowest
            while True:
                lowest = min(lowest, supervisor.pool.serving)
                await supervisor.pool.condition.notified()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await supervisor.reload("test", Cause.RESTART)
            tasks.cancel_scope.cancel()
        assert lowest == 1
        assert states(supervisor) == [(3, "serving"), (4, "standby")]
        assert supervisor.pool.generation == 1


async def test_a_newcomer_that_fails_is_dropped_and_the_old_one_keeps_serving(stage, opened):
    stage.lives[3] = {"ready_at": 5, "lives": 2, "status": 3}
    async with opened(plan_of(2)) as supervisor:
        stage.file = plan_of(2, digest="broken")
        report = await supervisor.reload("SIGHUP")

        assert report.result == "failed"
        assert "worker 3 ended before it was ready (exited, status 3): last line; keeping generation 1" in report.detail
        assert states(supervisor) == [(1, "serving"), (2, "serving")]
        assert len(stage.children) == 3
        assert supervisor.plan == plan_of(2)


async def test_a_reload_that_fails_during_the_start_costs_no_standby(stage, opened):
    stage.lives = {1: {"ready_at": 10}, 2: {"ready_at": 1, "lives": 0.5, "status": 3}}
    async with opened(plan_of(1, 1), settle=5.0) as supervisor:
        stage.file = plan_of(1, 1, digest="broken")
        assert (await supervisor.reload("SIGHUP")).result == "failed"
        await anyio.sleep(60)
        assert (10.1, "3 starting") in stage.diary
        assert states(supervisor) == [(1, "serving"), (3, "standby")]
        assert {seat.plan.birth.digest for seat in supervisor.pool.seats} == {"a"}


async def test_a_restart_that_takes_up_a_changed_configuration_raises_the_generation(stage, opened):
    async with opened(plan_of(2)) as supervisor:
        stage.file = plan_of(2, digest="b")
        report = await supervisor.reload("CLI", Cause.RESTART)
        assert (report.result, supervisor.pool.generation) == ("rolled", 2)
        assert {worker.generation for worker in supervisor.pool.workers} == {2}


async def test_a_newcomer_that_dies_of_its_activation_gives_the_slot_back(stage, opened):
    stage.lives[2] = {"mute": True}
    async with opened(plan_of(1)) as supervisor:
        stage.file = plan_of(1, digest="b")
        report = await supervisor.reload("SIGHUP")

        assert report.result == "failed"
        assert states(supervisor) == [(1, "serving")]
        assert supervisor.pool.seats[0].slot.number == 0


async def test_an_old_worker_that_dies_during_the_roll_loses_no_slot(stage, opened):
    stage.lives = {1: {"lives": 35}, 2: {"ready_at": 20}}
    async with opened(plan_of(1)) as supervisor:
        stage.file = plan_of(1, digest="b")
        report = await supervisor.reload("SIGHUP")

        assert report.result == "rolled"
        await anyio.sleep(50)
        assert states(supervisor) == [(2, "serving")]


async def test_nothing_changed_does_nothing_and_says_so(stage, opened):
    async with opened(plan_of(2)) as supervisor:
        report = await supervisor.reload("SIGHUP")

        assert (report.result, report.detail) == ("unchanged", "nothing changed; keeping generation 1")
        assert len(stage.children) == 2


async def test_a_bad_file_is_refused_and_the_old_settings_stay(stage, opened):
    async with opened(plan_of()) as supervisor:
        stage.file = refusal("not a port")
        report = await supervisor.reload("SIGHUP")

        assert report.result == "refused"
        assert report.detail == "supervisor.yaml:3: proxy.port: not a port\nkeeping generation 1"
        assert supervisor.last_reload == report


async def test_the_listener_cannot_be_changed_by_a_reload(stage, opened):
    async with opened(plan_of()) as supervisor:
        stage.file = patched(plan_of(), "proxy", port=9000)
        report = await supervisor.reload("SIGHUP")

        assert report.result == "refused"
        assert report.detail.startswith(
            "proxy.port can only change when the supervisor begins anew, by: ccproxy-supervisor renew"
        )


async def test_what_a_running_worker_can_adopt_replaces_nobody(stage, opened):
    async with opened(plan_of()) as supervisor:
        stage.file = patched(plan_of(), "health", interval=1.0)
        report = await supervisor.reload("SIGHUP")

        assert (report.result, len(stage.children)) == ("applied", 1)
        assert supervisor.pool.workers[0].plan.settings.health.interval == 1.0
        assert report.changes == ("health.interval: 5s -> 1s",)


async def test_growing_and_shrinking_leave_the_others_alone(stage, opened):
    async with opened(plan_of(1)) as supervisor:
        stage.file = plan_of(3, 1)
        assert (await supervisor.reload("SIGHUP")).result == "applied"
        await anyio.sleep(10)
        assert sorted(states(supervisor)) == [(1, "serving"), (2, "serving"), (3, "serving"), (4, "standby")]
        stage.file = plan_of(2)
        assert (await supervisor.reload("SIGHUP")).result == "applied"
        await anyio.sleep(10)
        assert states(supervisor) == [(1, "serving"), (2, "serving")]


async def test_a_broken_off_roll_is_reverted_by_another_reload(stage, opened):
    stage.lives[4] = {"ready_at": 40}
    async with opened(plan_of(2)) as supervisor:
        stage.file = plan_of(2, digest="b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.reload, "SIGHUP")
            await anyio.sleep(5)  # slot 0 is new, slot 1 still starting
            stage.file = plan_of(2)
            report = await supervisor.reload("SIGHUP")
        assert report.result == "rolled"
        results = [e.result for e in stage.events if isinstance(e, Reloaded)]
        assert results == ["failed", "rolled"]
        assert {seat.plan.birth.digest for seat in supervisor.pool.seats} == {"a"}
        await anyio.sleep(60)
        assert supervisor.pool.serving == 2


async def test_the_same_reload_twice_joins_the_first(stage, opened):
    stage.lives[2] = {"ready_at": 10}
    async with opened(plan_of()) as supervisor:
        stage.file = plan_of(digest="b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.reload, "SIGHUP")
            await anyio.sleep(5)
            report = await supervisor.reload("CLI")
        assert report.result == "rolled"
        assert len(stage.children) == 2


async def test_a_reload_mends_a_start_that_never_succeeds(stage, opened):
    for number in range(1, 20):
        stage.lives[number] = {"ready_at": 1, "lives": 0.5, "status": 1}
    async with opened(plan_of(1, 1), settle=6.0) as supervisor:
        assert supervisor.pool.serving == 0
        stage.lives.clear()
        stage.file = plan_of(1, 1, digest="b")
        report = await supervisor.reload("SIGHUP")
        assert report.result == "rolled"
        await anyio.sleep(20)
        assert sorted(state for _, state in states(supervisor)) == ["serving", "standby"]


async def test_a_restart_outranks_a_limit_replacement_under_way(stage, opened):
    stage.lives = {1: {"memory": 3000}, 2: {"ready_at": 50}}
    async with opened(patched(plan_of(), "proxy", max_memory=2000), settle=10.0) as supervisor:
        report = await supervisor.reload("CLI", Cause.RESTART)
        assert report.result == "rolled"
        assert states(supervisor) == [(3, "serving")]


async def test_stop_during_a_roll_leaves_nobody_behind(stage, opened):
    stage.lives[2] = {"ready_at": 40}
    async with opened(plan_of()) as supervisor:
        stage.file = plan_of(digest="b")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervisor.reload, "SIGHUP")
            await anyio.sleep(5)
            supervisor.stop("SIGTERM")
    assert [e.result for e in stage.events if isinstance(e, Reloaded)] == ["failed"]


async def test_orders_while_stopping_are_refused(stage, opened):
    stage.lives[1] = {"stream": 20}
    async with opened(plan_of()) as supervisor:
        supervisor.stop("SIGTERM")
        await anyio.sleep(1)
        report = await supervisor.reload("SIGHUP")
        assert (report.result, report.detail) == ("refused", "stopping; keeping generation 1")


@pytest.mark.parametrize("_attempt", range(10))  # the order in which tasks wake is drawn
async def test_a_reload_and_a_stop_at_once_during_a_roll_leave_nobody_behind(stage, opened, _attempt):
    stage.lives[2] = {"ready_at": 40}
    async with anyio.create_task_group() as tasks, opened(plan_of()) as supervisor:
        stage.file = plan_of(digest="b")
        tasks.start_soon(supervisor.reload, "SIGHUP")
        await anyio.sleep(5)
        stage.file = plan_of(digest="c")
        tasks.start_soon(supervisor.reload, "SIGHUP")
        await anyio.lowlevel.checkpoint()
        supervisor.stop("SIGTERM")
    assert stage.now == 35


async def test_a_canary_while_stopping_is_refused(stage, opened):
    stage.lives[1] = {"stream": 20}
    async with opened(plan_of()) as supervisor:
        supervisor.stop("SIGTERM")
        await anyio.sleep(1)
        assert await supervisor.canary(plan_of(), anyio.sleep) == "stopping"
    assert len(stage.children) == 1


async def test_a_canary_that_a_stop_ends_says_so(stage, opened):
    stage.lives[2] = {"ready_at": 100}
    async with opened(plan_of()) as supervisor, anyio.create_task_group() as tasks:
        reasons = []

        async def prove():
            reasons.append(await supervisor.canary(plan_of(), anyio.sleep))

        tasks.start_soon(prove)
        await anyio.sleep(1)
        supervisor.stop("SIGTERM")
    assert reasons == ["worker 2 ended before it was ready (stop, status -15): last line"]


async def test_an_upgrade_replaces_a_serving_worker_and_is_its_cause(stage, opened):
    stage.lives[1] = {"stream": 3}
    async with opened(plan_of()) as supervisor:
        report = await supervisor.reload("CLI", Cause.UPGRADE)
        assert (report.result, supervisor.pool.generation) == ("rolled", 2)
        assert [what for _, what in stage.diary][-3:] == ["1 draining", "1 gone upgrade", "reload rolled"]
        assert states(supervisor) == [(2, "serving")]


async def test_while_stopping_the_supervisor_answers_at_once(stage, opened):
    stage.lives[1] = {"stream": 20}
    async with opened(plan_of()):
        pass
    assert stage.answering == [(30, "on"), (50, "off")]


async def test_a_canary_is_proven_and_never_serves(stage, opened):
    async def judge(worker):
        await anyio.sleep(1)
        return None if worker.plan.birth.digest == "new" else "wrong plan"

    async with opened(plan_of()) as supervisor:
        plan = replace(plan_of(), birth=replace(plan_of().birth, digest="new"))
        assert await supervisor.canary(plan, judge) is None
        await anyio.sleep(40)
        assert states(supervisor) == [(1, "serving")]
        assert not stage.children[1].active


async def test_a_canary_that_does_not_start_says_why(stage, opened):
    stage.lives[2] = {"lives": 1, "ready_at": 5, "status": 1}
    async with opened(plan_of()) as supervisor:
        reason = await supervisor.canary(plan_of(), anyio.sleep)
        assert reason == "worker 2 ended before it was ready (exited, status 1): last line"
        await anyio.sleep(60)
        assert len(stage.children) == 2


async def test_a_canary_that_hangs_is_not_tried_again_while_it_is_killed(stage, opened):
    stage.lives[2] = {"ready_at": 1000, "deaf": True}
    async with opened(plan_of()) as supervisor:
        reason = await supervisor.canary(plan_of(), anyio.sleep)
        assert reason == "worker 2 ended before it was ready (start_timeout, status -9): last line"
        await anyio.sleep(60)
        assert len(stage.children) == 2
