"""A worker that answers its probes but not its users: found by two kinds of evidence, never for a slow model alone."""

from contextlib import asynccontextmanager

import anyio
import pytest

from ccproxy_supervisor.core.model import Note, Transition
from stage import curtain, patched, plan_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(stage):
    """Call with a plan and seconds: a running supervisor after so long, stopped when the block ends."""
    stage.questions = ["mock", "echo"]

    @asynccontextmanager
    async def run(plan, seconds):
        supervisor = stage.supervisor(plan)
        async with curtain() as tasks:
            tasks.start_soon(supervisor.run)
            await anyio.sleep(seconds)
            yield supervisor
            supervisor.stop("test")
        assert all(child.status is not None for child in stage.children)

    return run


def doubts(stage):
    return [(e.event, e.fields.get("reason", "")) for e in stage.events if isinstance(e, Note) and "doubt" in e.event]


def endings(stage):
    return {e.number: e.ending for e in stage.events if isinstance(e, Transition) and e.ending}


def numbers(supervisor):
    return [(worker.number, str(worker.state)) for worker in supervisor.pool.workers]


@pytest.mark.parametrize("standby", [0, 1])
async def test_a_worker_whose_completions_all_hang_is_replaced_make_before_break(stage, opened, standby):
    stage.lives[1] = {"stalls_at": 50, "stream": 20}
    async with opened(plan_of(1, standby), 400) as supervisor:
        assert numbers(supervisor)[0] == (2, "serving")
        assert len(supervisor.pool.workers) == 1 + standby
        ending = endings(stage)[1]
        assert (ending.cause, ending.status) == ("unresponsive", 0)
        assert ending.detail == "no completion in it has gone on for 120 s, and 1 waits"
        story = [
            what for at, what in stage.diary if at >= 50 and what.split()[0] in ("1", "2") and "standby" not in what
        ]
        assert story[-3:] == ["2 serving", "1 draining", "1 gone unresponsive"]  # its streams may end
        assert stage.children[0].drained_for == 30
        assert supervisor.pool.slot(0).restarts == 1
        assert [event for event, _ in doubts(stage)] == ["doubt.raised", "doubt.confirmed"]


async def test_a_slow_model_alone_is_no_reason(stage, opened):
    stage.lives[1] = {"stalls_at": 50, "hung": []}
    async with opened(plan_of(1, 1), 1000) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert doubts(stage)[1] == ("doubt.dismissed", "no question that costs nothing tells it from another worker")
        assert 5 <= len(doubts(stage)) <= 20  # looked into every now and then


async def test_a_model_that_answers_nobody_is_no_reason(stage, opened):
    stage.lives[1] = {"stalls_at": 50, "hung": ["echo"]}
    stage.slow = {"echo"}
    async with opened(plan_of(1, 1), 1000) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert {number for _, number, model in stage.asked if model == "echo"} == {1, 2}


async def test_where_every_question_costs_there_is_no_second_evidence(stage, opened):
    stage.questions = []
    stage.lives[1] = {"stalls_at": 50}
    async with opened(plan_of(1, 1), 400) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert doubts(stage)[1][1] == "there is no question that costs nothing"


async def test_completions_that_go_on_again_during_the_trial_clear_it(stage, opened):
    stage.lives[1] = {"stalls_at": 50, "stalls_until": 195}
    async with opened(plan_of(1, 1), 400) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert [event for event, _ in doubts(stage)] == ["doubt.raised", "doubt.dismissed"]


async def test_a_pause_shorter_than_the_setting_raises_no_doubt_and_off_never_does(stage, opened):
    stage.lives[1] = {"stalls_at": 50, "stalls_until": 165}
    async with opened(plan_of(), 300):
        assert doubts(stage) == []
    stage.lives[2] = {"stalls_at": 5}
    async with opened(patched(plan_of(), "health", stalled=None), 3600):
        assert doubts(stage) == []


@pytest.mark.parametrize("standby", [0, 1])
async def test_a_worker_that_takes_no_connection_is_replaced_and_who_waited_is_served(stage, opened, standby):
    stage.lives[1] = {"shut_at": 50, "stream": 20}
    async with opened(plan_of(1, standby), 120) as supervisor:
        assert numbers(supervisor)[0] == (2, "serving")
        assert stage.queued() is False
        ending = endings(stage)[1]
        assert ending.cause == "unresponsive"
        assert ending.detail.startswith("connections wait and it has taken none for ")
        served = next(at for at, what in stage.diary if what == "2 serving")
        assert 52 <= served <= 66
        assert [event for event, _ in doubts(stage)] == ["doubt.raised", "doubt.confirmed"]


async def test_of_two_the_one_that_takes_none_is_not_missed_while_the_other_does(stage, opened):
    stage.lives[1] = {"shut_at": 50}
    async with opened(plan_of(2), 300) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "serving")]  # users come through, so nothing shows it
        next(child for child in stage.children if child.number == 2).die(-9)
        await anyio.sleep(60)
        assert (1, "serving") in numbers(supervisor)


async def test_a_door_that_nobody_comes_through_is_not_the_workers_fault(stage, opened):
    stage.users = False
    async with opened(plan_of(1, 1), 60) as supervisor:
        stage.blocked = True
        await anyio.sleep(50)
        assert (1, "serving") in numbers(supervisor)
        assert doubts(stage)[:2] == [
            ("doubt.raised", ""), ("doubt.dismissed", "connections wait at the public socket whoever serves"),
        ]  # fmt: skip
        await anyio.sleep(60)
        assert supervisor.pool.serving == 1


async def test_nobody_who_connects_is_no_reason(stage, opened):
    stage.users = False
    stage.lives[1] = {"shut_at": 50}
    async with opened(plan_of(1, 1), 1000) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert doubts(stage) == []


async def test_after_sleep_nothing_is_held_against_a_worker(stage, opened):
    stage.lives[1] = {"stalls_at": 50, "shut_at": 50}
    stage.awake = False
    async with opened(plan_of(1, 1), 400) as supervisor:
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert doubts(stage) == []


async def test_a_machine_that_wakes_during_the_trial_ends_it(stage, opened):
    stage.lives[1] = {"stalls_at": 50}
    async with opened(plan_of(1, 1), 175) as supervisor:
        stage.awake = False
        await anyio.sleep(100)
        assert numbers(supervisor) == [(1, "serving"), (2, "standby")]
        assert doubts(stage)[1] == ("doubt.dismissed", "the machine has just woken up")


async def test_a_newcomer_that_does_not_start_leaves_the_doubtful_one_serving(stage, opened):
    stage.lives = {1: {"stalls_at": 50}, 2: {"ready_at": 5, "lives": 1, "status": 3}}
    async with opened(plan_of(), 185) as supervisor:
        assert numbers(supervisor) == [(1, "serving")]
        assert "worker 2 ended before it was ready" in doubts(stage)[1][1]
        await anyio.sleep(300)
        assert numbers(supervisor) == [(3, "serving")]


@pytest.mark.parametrize("moment", [171, 175, 185, 195, 205, 211.2, 212])
@pytest.mark.parametrize("standby", [0, 1])
async def test_a_reload_or_a_stop_amid_a_trial_loses_nobody(stage, opened, moment, standby):
    stage.lives[1] = {"stalls_at": 50, "stream": 10}
    async with opened(plan_of(1, standby), moment) as supervisor:
        stage.file = plan_of(1, standby, "b")
        assert (await supervisor.reload("SIGHUP")).result == "rolled"
        await anyio.sleep(60)
        assert supervisor.pool.serving == 1
        assert len(supervisor.pool.workers) == 1 + standby
        assert all(worker.plan == stage.file for worker in supervisor.pool.workers)


@pytest.mark.parametrize("moment", [171, 175, 185, 195, 205, 211.2, 212])
@pytest.mark.parametrize("victim", [0, 1])
async def test_a_death_amid_a_trial_is_a_failover_like_any_other(stage, opened, moment, victim):
    stage.lives[1] = {"stalls_at": 50, "stream": 10}
    async with opened(plan_of(1, 1), moment) as supervisor:
        stage.children[victim].die(-9)
        await anyio.sleep(120)
        assert supervisor.pool.serving == 1
        assert sorted(state for _, state in numbers(supervisor)) == ["serving", "standby"]
