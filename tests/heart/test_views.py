"""What status shows of the heart, at every stage of a life."""

from dataclasses import replace

import anyio
import pytest

from ccproxy_supervisor.core.model import Cause, Ending
from ccproxy_supervisor.core.status import judge
from ccproxy_supervisor.seat import Slot
from stage import curtain, plan_of

pytestmark = pytest.mark.anyio


def told(supervisor):
    return [(view.slot, str(view.state), view.number) for view in supervisor.pool.views()]


async def test_a_slot_is_shown_through_start_service_backoff_and_restart(stage):
    stage.lives = {1: {"ready_at": 5, "lives": 20}, 2: {"ready_at": 5}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(1)
        assert told(supervisor) == [(0, "starting", 1)]
        await anyio.sleep(9)
        assert told(supervisor) == [(0, "serving", 1)]
        await anyio.sleep(10.5)
        (view,) = supervisor.pool.views()
        assert (view.state, view.pid, view.backoff, view.restarts) == ("backoff", None, 0.5, 1)
        assert view.last_ending.cause is Cause.EXITED
        await anyio.sleep(10)
        assert told(supervisor) == [(0, "serving", 2)]
        supervisor.stop("test")


async def test_only_a_failure_of_its_own_time_makes_a_start_unhealthy(stage):
    stage.lives = {1: {"ready_at": 5, "lives": 3, "status": 3}, 2: {"ready_at": 5}}
    ended_before = Ending(Cause.EXITED, 3.0, 0.0, -9)
    supervisor = stage.supervisor(plan_of(), [Slot(0, restarts=4, last_ending=ended_before)])
    seen = []
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        for moment in (2, 3.5, 6):
            await anyio.sleep_until(stage.start + moment)
            (view,) = supervisor.pool.views()
            status = judge([view], [], ever_served=supervisor.ever_served, stopping=False)
            seen.append((view.state, status, view.last_ending.status))
        supervisor.stop("test")

    assert seen == [("starting", "starting", -9), ("backoff", "unhealthy", 3), ("starting", "unhealthy", 3)]


async def test_newcomers_and_draining_workers_have_no_slot_and_come_last(stage):
    stage.lives = {1: {"stream": 20}, 2: {"ready_at": 5}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(10)
        tasks.start_soon(supervisor.reload, "test", Cause.RESTART)
        await anyio.sleep(1)
        assert told(supervisor) == [(0, "serving", 1), (None, "starting", 2)]
        await anyio.sleep(10)
        assert told(supervisor) == [(0, "serving", 2), (None, "draining", 1)]
        supervisor.stop("test")


async def test_every_worker_and_every_place_names_its_interpreter(stage):
    stage.lives = {1: {"stream": 20}, 3: {"lives": 1, "ready_at": 5}}
    supervisor = stage.supervisor(plan_of(2))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(10)
        stage.file = replace(plan_of(2), birth=replace(plan_of().birth, python="new", digest="b"))
        tasks.start_soon(supervisor.reload, "test")
        await anyio.sleep(0.5)
        assert [(view.number, view.python) for view in supervisor.pool.views()] == [
            (1, "python"),
            (2, "python"),
            (3, "new"),
        ]
        supervisor.stop("test")


async def test_a_place_without_a_worker_names_the_interpreter_of_its_next(stage):
    stage.lives = {1: {"lives": 20}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(20.5)
        (view,) = supervisor.pool.views()
        assert (view.state, view.python) == ("backoff", "python")
        supervisor.stop("test")


async def test_a_hung_worker_being_killed_is_shown_beside_its_successor(stage):
    stage.lives = {1: {"sick_at": 10, "deaf": True}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(22)
        assert told(supervisor) == [(0, "serving", 2), (None, "draining", 1)]
        supervisor.stop("test")


async def test_a_worker_that_is_retired_while_it_starts_never_serves(stage):
    stage.lives = {1: {"ready_at": 3, "deaf": True}}
    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(1)
        supervisor.stop("test")

    assert [what for _, what in stage.diary if what.startswith("1 ")] == ["1 starting", "1 draining", "1 gone stop"]
    assert stage.children[0].signals == [(1, 15), (6, 9)]
