"""A worker whose LiteLLM dropped some of its models: better than nobody, worse than one that has them."""

import anyio
import pytest

from ccproxy_supervisor.core.model import Cause, Note
from stage import curtain, plan_of

pytestmark = pytest.mark.anyio
WHY = {"dropped": {"gpt": "no provider"}}


async def opened(stage, tasks, plan):
    supervisor = stage.supervisor(plan)
    tasks.start_soon(supervisor.run)
    await anyio.sleep(30)
    return supervisor


async def closed(supervisor):
    supervisor.stop("test")
    await anyio.sleep(60)


async def test_the_first_worker_serves_what_it_has_and_says_what_it_has_not(stage):
    stage.lives[1] = WHY
    async with curtain() as tasks:
        supervisor = await opened(stage, tasks, plan_of())
        (view,) = supervisor.pool.views()

        assert (str(view.state), view.dropped) == ("serving", (("gpt", "no provider"),))
        assert [event.fields["model"] for event in stage.events if isinstance(event, Note)] == ["gpt"]
        await closed(supervisor)


async def test_a_reload_that_would_lose_a_model_fails_by_its_name_and_the_old_worker_stays(stage):
    stage.lives[2] = WHY
    async with curtain() as tasks:
        supervisor = await opened(stage, tasks, plan_of())
        stage.file = plan_of(digest="b")
        report = await supervisor.reload("test")

        assert report.result == "failed"
        assert "LiteLLM dropped gpt (no provider)" in report.detail
        await anyio.sleep(30)
        assert [(w.number, str(w.state)) for w in supervisor.pool.workers] == [(1, "serving")]
        await closed(supervisor)


@pytest.mark.parametrize("order", [Cause.RELOAD, Cause.RESTART])
async def test_what_is_lost_already_keeps_nothing_from_changing(stage, order):
    stage.lives = {1: WHY, 2: WHY}
    async with curtain() as tasks:
        supervisor = await opened(stage, tasks, plan_of())
        stage.file = plan_of(digest="b" if order is Cause.RELOAD else "a")
        report = await supervisor.reload("test", order)

        assert report.result == "rolled"
        await closed(supervisor)


async def test_with_nobody_serving_a_worker_that_lost_a_model_is_welcome(stage):
    stage.lives = {1: {"lives": 5}, **{number: {"lives": 0.1} for number in range(2, 9)}, 9: WHY, 10: WHY, 11: WHY}
    stage.unfit = {"a"}
    async with curtain() as tasks:
        supervisor = await opened(stage, tasks, plan_of())
        stage.file = plan_of(digest="b")
        stage.lives = dict.fromkeys(range(2, 99), WHY)
        report = await supervisor.reload("test")

        assert report.result == "rolled"
        await closed(supervisor)


async def test_a_canary_that_would_lose_a_model_is_told_of(stage):
    stage.lives[2] = WHY

    async def judge(worker):
        return None

    async with curtain() as tasks:
        supervisor = await opened(stage, tasks, plan_of())
        assert await supervisor.canary(plan_of(digest="b"), judge) == "LiteLLM dropped gpt (no provider)"
        await closed(supervisor)
