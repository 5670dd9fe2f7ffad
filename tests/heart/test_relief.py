"""While a worker is silent another serves beside it; the verdict on it takes its time."""

import anyio
import pytest

from ccproxy_supervisor.core.model import Failover
from stage import curtain, plan_of

pytestmark = pytest.mark.anyio


async def play(stage, seconds, plan=None, act=None):
    supervisor = stage.supervisor(plan or plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(seconds)
        if act:
            await act(supervisor)
        supervisor.stop("test")
    return supervisor


def failovers(stage):
    return [event.seconds for event in stage.events if isinstance(event, Failover)]


def hung(at, until=float("inf")):
    return {"sick_at": at, "sick_until": until, "hangs": True, "deaf": True}


async def test_a_standby_serves_a_second_after_the_first_silence(stage):
    stage.lives = {1: hung(100)}
    stage.users = False

    await play(stage, 110, plan_of(standby=1))

    begun = next(at for at, what in stage.diary if what == "relief.serving")
    assert 101 <= begun <= 106.2  # the next probe was due within 5 s, and a second is silence enough
    assert (begun, "2 serving") in stage.diary
    assert failovers(stage) == [pytest.approx(1, abs=0.2)]


async def test_while_requests_come_the_silence_is_noticed_within_two_seconds(stage):
    stage.lives = {1: hung(100)}
    stage.users = True

    await play(stage, 110, plan_of(standby=1))

    assert next(at for at, what in stage.diary if what == "relief.serving") <= 102.2


async def test_who_comes_to_a_hung_worker_after_a_long_silence_is_noticed_at_once(stage):
    stage.lives = {1: hung(100)}
    stage.users, stage.comes_at = False, 101

    await play(stage, 110, plan_of(standby=1))

    begun = next(at for at, what in stage.diary if what == "relief.serving")
    assert begun <= 102.2  # a probe as soon as somebody waits at the door, and a second of silence
    assert failovers(stage) == [pytest.approx(1, abs=0.2)]


async def test_after_the_last_request_probes_are_frequent_for_as_long_as_connections_are_kept(stage):
    stage.lives = {1: hung(108)}
    stage.users = True

    async def act(_):
        stage.users = False
        await anyio.sleep(10)

    await play(stage, 101, plan_of(standby=1), act)

    assert next(at for at, what in stage.diary if what == "relief.serving") <= 110.2


async def test_without_a_standby_a_newcomer_serves_as_soon_as_it_is_proven(stage):
    stage.lives = {1: hung(100), 2: {"ready_at": 0.4}}
    stage.users = True

    await play(stage, 110)

    begun = next(at for at, what in stage.diary if what == "relief.serving")
    assert begun <= 102.7
    assert (begun, "2 serving") in stage.diary


@pytest.mark.parametrize("standby", [0, 1])
async def test_who_is_lost_leaves_its_slot_to_who_stood_in(stage, standby):
    stage.lives = {1: hung(100)}

    supervisor = stage.supervisor(plan_of(standby=standby))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(160)
        views = supervisor.pool.views()
        assert [(view.slot, str(view.state), view.restarts) for view in views if view.slot == 0] == [(0, "serving", 1)]
        assert views[0].number == 2
        assert [str(view.state) for view in views if view.slot is None] == ["standby"] * standby
        assert views[0].last_ending.cause == "unresponsive"
        assert len(failovers(stage)) == 1
        supervisor.stop("test")


@pytest.mark.parametrize("standby", [0, 1])
async def test_who_was_merely_busy_goes_on_and_who_stood_in_leaves(stage, standby):
    stage.lives = {1: hung(100, 103)}

    supervisor = stage.supervisor(plan_of(standby=standby))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(160)
        views = supervisor.pool.views()
        assert (views[0].slot, views[0].number, views[0].restarts, views[0].last_ending) == (0, 1, 0, None)
        assert [str(view.state) for view in views] == ["serving", *["standby"] * standby]
        assert not any("unresponsive" in what for _, what in stage.diary)
        supervisor.stop("test")


async def test_a_worker_that_is_busy_for_ten_seconds_is_never_ended(stage):
    stage.lives = {1: hung(100, 110)}
    stage.users = True

    await play(stage, 200, plan_of(standby=1))

    assert not any("unresponsive" in what for _, what in stage.diary)
    assert [what for _, what in stage.diary if what.startswith("1 ")] == [
        "1 starting", "1 standby", "1 serving", "1 draining", "1 gone stop",
    ]  # fmt: skip


async def test_after_a_sleep_silence_proves_nothing(stage):
    stage.lives = {1: hung(100, 103)}
    stage.awake = False

    await play(stage, 160, plan_of(standby=1))

    assert not any(what == "relief.serving" for _, what in stage.diary)


async def test_a_stop_while_one_stands_in_ends_everybody(stage):
    stage.lives = {1: hung(100)}

    await play(stage, 108, plan_of(standby=1))

    assert all(child.status is not None for child in stage.children)


async def test_a_reload_while_one_stands_in_comes_to_its_end(stage):
    stage.lives = {1: hung(100, 130)}

    async def act(supervisor):
        stage.file = plan_of(standby=1, digest="b")
        assert (await supervisor.reload("test")).result == "rolled"
        await anyio.sleep(60)
        assert [(view.slot, str(view.state)) for view in supervisor.pool.views()] == [(0, "serving"), (None, "standby")]

    await play(stage, 108, plan_of(standby=1), act)


async def test_who_stands_in_and_dies_is_followed_by_another(stage):
    stage.lives = {1: hung(100), 2: {"lives": 107}}

    supervisor = stage.supervisor(plan_of(standby=1))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(200)
        views = supervisor.pool.views()
        assert [(view.slot, str(view.state)) for view in views] == [(0, "serving"), (None, "standby")]
        supervisor.stop("test")


async def test_while_nobody_asks_probes_are_as_seldom_as_they_are_set(stage):
    for stage.users, most in ((False, 25), (True, 105)):
        before = len(stage.probed)
        await play(stage, 100)
        assert len(stage.probed) - before <= most
