"""Whom it concerns is told of each incident once, and of nothing that was planned: the real heart on virtual time."""

import math
import random

import anyio
import anyio.lowlevel
import pytest

from ccproxy_supervisor.alerting import Alerting
from ccproxy_supervisor.core.model import Cause, Note, OllamaStatus, Reloaded
from ccproxy_supervisor.core.troubles import standing
from stage import curtain, patched, plan_of, refusal

pytestmark = [pytest.mark.anyio, pytest.mark.once]


class House:
    """A supervisor, an Ollama, and somebody who is told; *told* has the times."""

    def __init__(self, stage, plan):
        self.stage, self.told, self.ollama = stage, [], OllamaStatus(up=True)
        self.alerting = Alerting(self.troubles, self.hear, lambda data: data.replace(b"hunter2", b"***"))
        note = stage.journal

        def journal(event):
            note(event)
            self.alerting(event)

        stage.journal = journal
        self.supervisor = stage.supervisor(plan)

    def troubles(self):
        return standing(self.supervisor.pool.views(), self.ollama, (), needs_ollama=True)

    def hear(self, notice):
        self.told.append((self.stage.now, notice.event, notice.title))

    async def live(self, act):
        async with curtain() as tasks:
            tasks.start_soon(self.supervisor.run)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(self.alerting.run)
            await act()
            self.supervisor.stop("test")
            await self.supervisor.pool.condition.wait_for(lambda: not self.supervisor.pool.workers)
            tasks.cancel_scope.cancel()


async def test_a_day_of_planned_work_tells_nobody_anything(stage):
    """Slow starts, reloads, restarts, other numbers of workers, limits of memory and age, long streams, and a stop."""
    plan = patched(plan_of(2, 1), "proxy", max_age=7200.0, max_memory=2000)
    plan = patched(plan, "health", interval=20.0)
    for number in range(1, 400):
        stage.lives[number] = {"ready_at": 25, "stream": number % 29, "memory": 3000 if number % 7 == 0 else 100}
    house = House(stage, plan)

    async def work():
        await anyio.sleep(60)
        for hour in range(22):
            stage.file = patched(plan, "proxy", workers=1 + hour % 3, standby=hour % 2)
            await house.supervisor.reload("test")
            await anyio.sleep(600)
            if hour % 4 == 0:
                await house.supervisor.reload("test", Cause.RESTART)
            await anyio.sleep(2400)

    await house.live(work)

    assert stage.now > 18 * 3600
    assert len(stage.children) > 50
    assert house.told == []


FAULTS = ("killed", "hung", "refused", "ollama")


async def test_thirty_faults_are_each_told_once_and_over_once_within_half_a_minute(stage):
    house, random_ = House(stage, plan_of(1, 1)), random.Random(11)
    struck = []

    async def strike(fault):
        victim = next(child for child in stage.children if child.active and child.status is None)
        if fault == "killed":
            victim.die(-9)
        elif fault == "hung":
            victim.script = {**victim.script, "sick_at": victim.age, "deaf": True}
        elif fault == "refused":
            good, stage.file = stage.file, refusal("hunter2")
            await house.supervisor.reload("test")
            await anyio.sleep(10)
            stage.file = good
            await house.supervisor.reload("test")
        else:
            house.ollama = OllamaStatus(up=False, detail="connection refused")
            house.alerting(house.ollama)
            await anyio.sleep(12)
            house.ollama = OllamaStatus(up=True)
            house.alerting(house.ollama)

    async def day():
        await anyio.sleep(60)
        for number in range(30):
            struck.append((stage.now, FAULTS[number % 4]))
            await strike(FAULTS[number % 4])
            await anyio.sleep(random_.uniform(1900, 2100))

    await house.live(day)

    assert [event for _, event, _ in house.told] == ["began", "over"] * 30, house.told
    ends = [at for at, _ in struck[1:]] + [math.inf]
    for (at, fault), end in zip(struck, ends, strict=True):
        (began, _, title), (over, _, _) = [each for each in house.told if at <= each[0] < end]
        assert began - at <= 30, (fault, title)
        assert over - began <= 45, (fault, title)
        assert {"killed": "SIGKILL", "hung": "stopped answering", "refused": "refused: ", "ollama": "Ollama does not"}[
            fault
        ] in title
        assert "hunter2" not in title


async def test_a_first_start_that_fails_is_told_and_one_that_is_slow_is_not(stage):
    stage.lives = {1: {"ready_at": 50}, 2: {"lives": 1, "status": 3}, 3: {"lives": 1, "status": 3}}
    slow = House(stage, plan_of())
    await slow.live(lambda: anyio.sleep(55))
    assert slow.told == []


async def test_that_nobody_is_served_is_told_first(stage):
    stage.lives = {1: {"lives": 60, "status": 1}, 2: {"ready_at": 40}}
    house = House(stage, plan_of())

    await house.live(lambda: anyio.sleep(200))

    assert [title for _, event, title in house.told if event == "began"] == ["Nobody is served: no worker is up."]
    assert len(house.told) == 2


async def test_an_order_that_was_overtaken_is_no_incident(stage):
    house = House(stage, plan_of())

    async def order():
        await anyio.sleep(10)
        for detail in ("superseded by a newer order; keeping generation 1", "stopping; keeping generation 1"):
            house.alerting(Reloaded("failed", detail, "test"))
        await anyio.sleep(60)

    await house.live(order)
    assert house.told == []


async def test_what_became_of_an_earlier_supervisor_is_told(stage):
    house = House(stage, plan_of())
    house.alerting.remember("The supervisor was killed.")

    await house.live(lambda: anyio.sleep(60))

    assert [(event, title[-26:]) for _, event, title in house.told] == [
        ("began", "The supervisor was killed."), ("over", "The supervisor was killed."),
    ]  # fmt: skip


async def test_an_ollama_that_generates_nothing_is_told_once_and_its_recovery_too(stage):
    house = House(stage, plan_of(1))

    async def hang():
        await anyio.sleep(60)
        house.ollama = OllamaStatus(up=True, stuck="llama2 answers nothing")
        house.alerting(Note("ollama.stuck", "warning"))
        await anyio.sleep(60)
        house.ollama = OllamaStatus(up=True)
        house.alerting(Note("ollama.recovered"))
        await anyio.sleep(600)

    await house.live(hang)
    assert [(event, title) for _, event, title in house.told] == [
        ("began", "Ollama answers and generates nothing: llama2 answers nothing"),
        ("over", "over after 1 min: Ollama answers and generates nothing: llama2 answers nothing"),
    ]
