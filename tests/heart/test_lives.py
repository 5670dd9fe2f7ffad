"""One slot, one worker after another: every cause, and what follows it."""

import anyio
import pytest

from ccproxy_supervisor.core.model import MOVES, Cause, Probed, State, Transition
from stage import curtain, patched, plan_of

pytestmark = pytest.mark.anyio


async def play(stage, seconds, plan=None, act=None):
    """Run a supervisor for *seconds*, call *act* with it, then stop it."""
    supervisor = stage.supervisor(plan or plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(seconds)
        if act:
            await act(supervisor)
        supervisor.stop("test")
    return supervisor


async def test_a_worker_is_proven_before_it_serves(stage):
    stage.lives[1] = {"ready_at": 7}

    await play(stage, 60)

    assert stage.diary[:3] == [(0, "1 starting"), (7.1, "1 standby"), (7.1, "1 serving")]
    assert stage.children[0].drained_for == 30


async def test_a_killed_worker_is_followed_by_another_after_the_first_delay(stage):
    stage.lives[1] = {"lives": 100, "status": -9}

    await play(stage, 200)

    assert {(100, "1 gone exited"), (100, "1 backoff"), (101, "2 starting"), (101.1, "2 serving")} <= set(stage.diary)
    ending = next(e.ending for e in stage.events if isinstance(e, Transition) and e.ending)
    assert (ending.cause, ending.status, ending.uptime, ending.output) == (Cause.EXITED, -9, 100, ("last line",))


async def test_a_crash_loop_backs_off_for_ever_at_the_longest_delay(stage):
    for number in range(1, 600):
        stage.lives[number] = {"lives": 0.05, "status": 3}

    await play(stage, 2 * 3600)

    delays = [e.delay for e in stage.events if isinstance(e, Transition) and e.new == "backoff"]
    assert delays[:6] == [1, 2, 4, 8, 8, 8]
    assert len(delays) >= 599
    assert set(delays[4:599]) == {8}


async def test_a_stable_life_is_forgiven(stage):
    stage.lives = {1: {"lives": 1}, 2: {"lives": 1}, 3: {"lives": 61}, 4: {"lives": 1}}

    await play(stage, 200)

    assert [e.delay for e in stage.events if isinstance(e, Transition) and e.delay] == [1, 2, 1, 2]


async def test_a_hung_worker_is_relieved_at_once_and_killed_in_the_background(stage):
    stage.lives[1] = {"sick_at": 50, "deaf": True, "hangs": True}
    stage.users = False

    await play(stage, 300)

    # probes begun at 50.1, 55.1 and 60.1 each time out after 3 s
    child = stage.children[0]
    assert child.signals == [(63.1, 15), (68.1, 9)]
    assert {(51.1, "2 starting"), (51.2, "2 serving"), (51.2, "failover 0 1.1"), (63.1, "1 draining")} <= set(
        stage.diary
    )
    assert len(stage.children) == 2
    assert (68.1, "1 gone unresponsive") in stage.diary


async def test_a_hung_worker_is_noticed_within_four_seconds_when_asked_every_second(stage):
    stage.lives[1] = {"sick_at": 50.2, "deaf": True, "hangs": True}

    await play(stage, 300, patched(plan_of(1, 1), "health", interval=1.0))

    assert {(52.1, "2 serving"), (54.1, "1 draining")} <= set(stage.diary)  # asked in vain at 51.1, 52.1 and 53.1


@pytest.mark.parametrize(("interval", "blocked"), [(0.2, 2.9), (1.0, 2.9), (5.0, 12.9)])
async def test_a_worker_that_blocks_its_loop_for_a_while_is_left_alone(stage, interval, blocked):
    stage.lives[1] = {"sick_at": 50, "sick_until": 50 + blocked, "hangs": True}

    await play(stage, 300, patched(plan_of(), "health", interval=interval))

    assert [what for _, what in stage.diary if what.startswith("1 gone")] == ["1 gone stop"]


async def test_one_good_answer_forgives_bad_ones(stage):
    stage.lives[1] = {"sick_at": 50, "sick_until": 57}

    await play(stage, 300)

    assert [what for _, what in stage.diary if what.startswith("1 gone")] == ["1 gone stop"]


async def test_waking_from_sleep_excuses_bad_answers(stage):
    stage.lives[1] = {"sick_at": 50, "sick_until": 250}
    stage.awake = False

    await play(stage, 300)

    assert len(stage.children) == 1


async def test_never_ready_ends_with_start_timeout(stage):
    stage.lives[1] = {"ready_at": 1e9}

    await play(stage, 100)

    assert {(60, "1 draining"), (60, "1 gone start_timeout"), (61, "2 starting")} <= set(stage.diary)


async def test_a_worker_that_is_never_ready_is_not_taken_for_a_stable_one(stage):
    stage.lives = {number: {"ready_at": 1e9} for number in range(1, 20)}

    await play(stage, 600)

    assert [e.delay for e in stage.events if isinstance(e, Transition) and e.delay][:5] == [1, 2, 4, 8, 8]


async def test_a_standby_that_was_well_for_long_is_forgiven(stage):
    stage.lives = {2: {"lives": 1}, 3: {"lives": 61}, 4: {"lives": 61}}

    await play(stage, 200, plan_of(1, 1))

    assert [e.delay for e in stage.events if isinstance(e, Transition) and e.delay] == [1, 1, 1]


async def test_a_worker_that_answers_badly_from_the_start_never_becomes_ready(stage):
    stage.lives[1] = {"sick_at": 0}

    await play(stage, 100)

    assert "1 standby" not in [what for _, what in stage.diary]
    assert (60, "1 gone start_timeout") in stage.diary


async def test_a_worker_that_cannot_be_spawned_is_tried_again(stage):
    stage.lives[1] = {"spawn_error": "cannot start python: No such file or directory"}

    await play(stage, 50)

    assert {(0, "1 gone spawn_failed"), (0, "1 backoff"), (1, "2 starting")} <= set(stage.diary)
    ending = next(e.ending for e in stage.events if isinstance(e, Transition) and e.ending)
    assert ending.detail == "cannot start python: No such file or directory"


async def test_a_worker_that_does_not_accept_when_told_is_unresponsive(stage):
    stage.lives[1] = {"mute": True}

    await play(stage, 50)

    assert (3.1, "1 draining") in stage.diary
    assert "1 gone unresponsive" in [what for _, what in stage.diary]
    assert "2 serving" in [what for _, what in stage.diary]


async def test_the_last_words_of_a_dead_worker_delay_nobody(stage):
    stage.lives[1] = {"lives": 50, "last_words": 0.2}

    await play(stage, 100)

    assert [(at, what) for at, what in stage.diary if 50 <= at < 52][:3] == [
        (50, "1 backoff"), (50.2, "1 gone exited"), (51, "2 starting"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "script", "cause"), [("max_memory", {"memory": 3000}, "memory"), ("max_age", {}, "age")]
)
async def test_a_passed_limit_replaces_make_before_break(stage, limit, script, cause):
    stage.lives[1] = {**script, "stream": 10}

    await play(stage, 100, patched(plan_of(), "proxy", **{limit: 2000 if limit == "max_memory" else 50}))

    story = [what for _, what in stage.diary]
    assert story[3:8] == ["2 starting", "2 standby", "2 serving", "1 draining", f"1 gone {cause}"]
    assert not [what for what in story if "backoff" in what or "failover" in what]
    assert stage.children[0].drained_for == 30


async def test_a_replacement_that_fails_keeps_the_outgrown_worker_and_waits(stage):
    stage.lives = {1: {"memory": 3000}, 2: {"ready_at": 5, "lives": 1}, 3: {"ready_at": 5, "lives": 1}}

    await play(stage, 12, patched(plan_of(), "proxy", max_memory=2000))

    assert [what for _, what in stage.diary].count("replacement.failed") == 2
    assert stage.children[0].status is not None
    assert "1 gone stop" in [what for _, what in stage.diary]


async def test_every_move_of_the_table_happens_and_no_other(stage):
    stage.lives = {1: {"ready_at": 5, "lives": 1}, 2: {"ready_at": 1e9}, 3: {"lives": 100}, 4: {"lives": 20}}

    await play(stage, 200, plan_of(1, 1))

    moves = {(event.old, event.new) for event in stage.events if isinstance(event, Transition)}
    of_a_place, of_a_survivor = {(State.GONE, State.BACKOFF)}, {(None, State.SERVING)}
    assert (moves - of_a_place) | of_a_survivor == {(old, new) for old, possible in MOVES.items() for new in possible}
    assert moves >= of_a_place


async def test_a_move_that_is_not_in_the_table_is_a_bug(stage):
    stage.lives[1] = {"lives": 10}

    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(1)
        (dead,) = supervisor.pool.workers
        await anyio.sleep(20)
        with pytest.raises(AssertionError, match="cannot move worker 1 from gone to serving"):
            dead._enter(State.SERVING)
        supervisor.stop("test")


async def test_stop_drains_streams_and_reaps_everybody(stage):
    stage.lives[1] = {"stream": 12}

    await play(stage, 20)

    assert stage.diary[-1] == (32, "1 gone stop")
    assert stage.children[0].signals == []


async def test_a_worker_that_drains_owes_no_answer(stage):
    stage.lives[1] = {"stream": 20, "sick_at": 61}

    await play(stage, 60)

    verdicts = [event.verdict.ok for event in stage.events if isinstance(event, Probed)]
    assert all(verdicts)
    assert len(verdicts) > 10
    assert (80, "1 gone stop") in stage.diary


async def test_a_worker_that_leaves_unasked_is_followed_at_once_and_may_finish(stage):
    stage.lives[1] = {"leaves_at": 50, "stream": 12, "status": 0}

    await play(stage, 100, plan_of(1, 1))

    assert {(50, "1 draining"), (50, "2 serving"), (50, "failover 0 0.0"), (62, "1 gone exited")} <= set(stage.diary)
    assert stage.children[0].signals == []


async def test_a_worker_that_leaves_unasked_is_not_waited_for_longer_than_for_a_drain(stage):
    stage.lives[1] = {"leaves_at": 50, "stream": 1e9, "deaf": True}

    await play(stage, 100)

    assert stage.children[0].signals == [(80, 15), (85, 9)]
    assert {(51.1, "2 serving"), (85, "1 gone exited")} <= set(stage.diary)


async def test_stop_kills_what_does_not_leave(stage):
    stage.lives[1] = {"stream": 1e9, "deaf": True}

    await play(stage, 20)

    assert stage.children[0].signals == [(50, 15), (55, 9)]
    assert stage.diary[-1] == (55, "1 gone stop")


async def test_a_second_stop_does_not_wait(stage):
    stage.lives[1] = {"stream": 1e9, "deaf": True}

    async def twice(supervisor):
        supervisor.stop("SIGTERM")
        await anyio.sleep(1)

    await play(stage, 20, act=twice)

    assert stage.diary[-1] == (21, "1 gone stop")


@pytest.mark.parametrize("moment", [0.5, 3, 61.5])
async def test_stop_at_any_moment_leaves_nobody_behind(stage, moment):
    stage.lives = {1: {"ready_at": 2, "lives": 61}, 2: {"ready_at": 2}}

    await play(stage, moment)

    assert all(child.status is not None for child in stage.children)


async def test_who_is_cancelled_leaves_the_workers_to_the_next(stage):
    with anyio.move_on_after(10):
        await stage.supervisor(plan_of()).run()

    assert stage.children[0].status is None


async def test_nobody_serving_for_longer_than_hold_is_answered_by_the_supervisor(stage):
    stage.lives = {1: {"ready_at": 20, "lives": 100}, 2: {"ready_at": 3, "lives": 50}, 3: {"ready_at": 30}}

    await play(stage, 300)

    assert stage.answering[:2] == [(166, "on"), (183.1, "off")]


async def test_a_first_start_slower_than_hold_is_waited_for_until_it_has_failed(stage):
    stage.lives = {1: {"ready_at": 100}, 2: {"ready_at": 1}}

    await play(stage, 100)

    assert stage.answering[:2] == [(60, "on"), (62.1, "off")]


@pytest.mark.parametrize("moment", [0.15, 0.4, 0.7, 5])
async def test_stop_during_a_limit_replacement_leaves_nobody_behind(stage, moment):
    stage.lives = {1: {"memory": 3000, "stream": 10}, 2: {"slow": 0.5}}

    await play(stage, moment, patched(plan_of(), "proxy", max_memory=2000))

    assert stage.now == pytest.approx(10.7 if moment > 0.7 else moment + 10)
    assert "replacement.failed" not in [what for _, what in stage.diary]


async def test_two_outgrown_workers_are_not_replaced_after_a_stop(stage):
    stage.lives = {1: {"stream": 20}, 2: {"stream": 25}}

    await play(stage, 55, patched(plan_of(2), "proxy", max_age=50))

    assert len(stage.children) == 3
    assert stage.now == 80


@pytest.mark.parametrize("_attempt", range(10))  # the order in which tasks wake is drawn
async def test_a_worker_that_shrinks_before_its_replacement_begins_crashes_nobody(stage, _attempt):
    stage.lives[1] = {"memory": 3000}

    async def shrink(supervisor):
        (worker,) = supervisor.pool.workers
        await supervisor.pool.condition.wait_for(lambda: worker.outgrown is not None)
        worker.outgrown = None
        await anyio.sleep(10)

    await play(stage, 0.05, patched(plan_of(), "proxy", max_memory=2000), shrink)

    assert stage.now == 10.1


async def test_a_worker_waits_for_who_forks_it(stage):
    stage.preparing = 5

    await play(stage, 60)

    assert stage.diary[:3] == [(0, "1 starting"), (5.1, "1 standby"), (5.1, "1 serving")]


async def test_a_worker_that_is_not_wanted_any_more_waits_for_nobody(stage):
    stage.preparing = 60

    await play(stage, 3)

    assert stage.diary[-1] == (3, "1 gone stop")
    assert stage.children == []


async def test_who_cannot_be_forked_within_the_time_of_a_start_is_started_all_the_same(stage):
    stage.preparing = 100_000

    await play(stage, 300)

    limit = plan_of().settings.proxy.start_timeout
    assert (limit + 0.1, "1 serving") in stage.diary
