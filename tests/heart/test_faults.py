"""Every exception at every port of the heart: it ends one worker at most, and nobody else hears of it."""

from contextlib import asynccontextmanager

import anyio
import pytest

from ccproxy_supervisor.core.faults import told
from ccproxy_supervisor.core.model import Cause, Note, Transition
from ccproxy_supervisor.ports import Ports
from ccproxy_supervisor.supervisor import Supervisor
from stage import FakeChild, Stage, curtain, plan_of

pytestmark = [pytest.mark.anyio, pytest.mark.once]

ERRORS = [
    OSError(30, "Read-only file system"), RuntimeError("can't start new thread"), SystemError("error return without"),
    ExceptionGroup("two", [OSError(28, "No space left on device"), ValueError("y")]),
]  # fmt: skip
WORLD = (
    "liveness",
    "readiness",
    "usage",
    "journal",
    "wall",
    "draw",
    "grace",
    "prepare",
    "queued",
    "knocked",
    "read",
    "adopt",
)
SPAWN = ("spawn.call", "spawn.enter", "spawn.body", "spawn.exit")
CHILD = ("wait", "draining", "ready", "activate", "drain", "signal", "output")
#: Which workers a port fails for, where that is not all: the first serves, the second is its standby, others come later.
ONLY = {"spawn.call": (3, 99), "spawn.enter": (3, 99), "ready": (3, 99), "activate": (2, 2)}
ONLY |= dict.fromkeys(("spawn.body", "wait", "draining"), (1, 1))


class Mine:
    """Raises *error* at *port* while it is armed."""

    def __init__(self, port, error):
        self.port, self.error, self.live = port, error, anyio.Event()

    def step(self, port, number=None):
        first, last = ONLY.get(port, (0, 99))
        if self.live.is_set() and port == self.port and (number is None or first <= number <= last):
            raise self.error

    async def await_step(self, port, number):
        await self.live.wait()
        self.step(port, number)
        await anyio.sleep_forever()

    def on(self, port, call):
        def stepping(*args):
            self.step(port)
            return call(*args)

        return stepping


class MinedChild(FakeChild):
    """A child whose every port may fail."""

    def __init__(self, number, script, mine):
        super().__init__(number, script)
        self.mine = mine

    async def either(self, port, wait):
        result = None
        async with anyio.create_task_group() as race:
            race.start_soon(self.mine.await_step, port, self.number)
            result = await wait()
            race.cancel_scope.cancel()
        return result

    async def wait(self):
        return await self.either("wait", super().wait)

    async def draining(self):
        await self.either("draining", super().draining)

    async def ready(self):
        self.mine.step("ready", self.number)
        return await super().ready()

    async def activate(self, slot):
        self.mine.step("activate", self.number)
        await super().activate(slot)

    def drain(self, seconds):
        self.mine.step("drain")
        super().drain(seconds)

    def signal(self, number):
        self.mine.step("signal")
        super().signal(number)

    async def output(self):
        self.mine.step("output")
        return await super().output()


class Minefield(Stage):
    def __init__(self, mine):
        super().__init__()
        self.mine = mine

    def spawn(self, number, plan):
        self.mine.step("spawn.call", number)
        return self.life(number)

    @asynccontextmanager
    async def life(self, number):
        self.mine.step("spawn.enter", number)
        child = MinedChild(number, self.lives.get(number, {"stream": 40}), self.mine)
        self.children.append(child)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.mine.await_step, "spawn.body", number)
                yield child
                tasks.cancel_scope.cancel()
        finally:
            child.die(-9)
            self.mine.step("spawn.exit")

    def mined_supervisor(self, plan):
        self.file, on = plan, self.mine.on

        async def liveness(number, timeout):
            self.mine.step("liveness")
            return await self.probe(number, timeout)

        async def readiness(number, timeout):
            self.mine.step("readiness")
            return await self.probe(number, timeout)

        async def prepare(plan):
            self.mine.step("prepare")

        async def knocked():
            self.mine.step("knocked")
            await self.knocked()

        ports = Ports(
            spawn=self.spawn, prepare=prepare, liveness=liveness, readiness=readiness, usage=on("usage", lambda child: None),
            journal=on("journal", self.journal), wall=on("wall", lambda: 0.0), draw=on("draw", lambda: 0.5),
            grace=on("grace", lambda: False), queued=on("queued", self.queued), knocked=knocked,
            questions=self.free, ask=self.ask,
        )  # fmt: skip
        read, adopt = on("read", self.read), on("adopt", self.adopted.append)
        return Supervisor(plan, read, adopt, ports, self.answer)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("port", [*WORLD, *SPAWN, *CHILD])
async def test_what_serves_goes_on_serving_and_the_standby_takes_over(port, error):
    mine = Mine(port, error)
    field = Minefield(mine)
    supervisor = field.mined_supervisor(plan_of(1, 1))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(30)
        mine.live.set()
        await anyio.sleep(10)
        assert supervisor.pool.serving == 1
        next(child for child in field.children if child.active and child.status is None).die(-9)
        await anyio.sleep(5)
        assert supervisor.pool.serving == 1

        report = await supervisor.reload("test", Cause.RESTART)
        assert report.result in ("rolled", "failed", "refused")
        await anyio.sleep(60)
        assert supervisor.pool.serving == 1

        mine.live = anyio.Event()
        await anyio.sleep(300)
        field.file = plan_of(1, 1, digest="b")
        assert (await supervisor.reload("test")).result == "rolled"
        await anyio.sleep(60)
        assert [str(worker.state) for worker in supervisor.pool.workers] == ["serving", "standby"]
        supervisor.stop("test")
    assert all(child.status is not None for child in field.children)


@pytest.mark.parametrize("port", [*SPAWN[:2], "ready"])
async def test_a_worker_that_cannot_be_started_says_why(port):
    mine = Mine(port, RuntimeError("can't start new thread"))
    mine.live.set()
    field = Minefield(mine)
    field.lives = {number: {} for number in range(99)}
    supervisor = field.mined_supervisor(plan_of(3, 0))
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(30)
        supervisor.stop("test")
    endings = [e.ending for e in field.events if isinstance(e, Transition) and e.ending and e.number >= 3]
    assert {str(ending.cause) for ending in endings} == {"exited" if port == "ready" else "spawn_failed"}
    assert endings[0].detail.startswith("RuntimeError: can't start new thread (test_faults.py:")
    assert len(endings) > 3  # and tries again


async def test_a_clean_up_that_fails_hides_nothing_of_the_end(stage):
    mine = Mine("spawn.exit", OSError(30, "Read-only file system"))
    mine.live.set()
    field = Minefield(mine)
    field.lives[1] = {"lives": 20, "status": 7}
    supervisor = field.mined_supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(25)
        supervisor.stop("test")
    ending = next(e.ending for e in field.events if isinstance(e, Transition) and e.ending)
    assert (ending.cause, ending.status, ending.output) == (Cause.EXITED, 7, ("last line",))
    assert "Read-only file system" in ending.detail


@pytest.mark.parametrize("when", ["enter", "body", "exit"])
async def test_a_public_socket_that_cannot_be_held_is_tried_again(stage, when):
    stage.lives = {1: {"lives": 1}, 2: {"ready_at": 38}}
    supervisor = stage.supervisor(plan_of())
    inner = stage.answer

    @asynccontextmanager
    async def answer():
        if when == "enter" and stage.now < 20:
            raise OSError(24, "Too many open files")
        async with anyio.create_task_group() as tasks, inner():
            if when == "body" and stage.now < 20:
                tasks.start_soon(fail)
            yield
            if when == "exit" and stage.now < 50:
                raise SystemError("x")

    async def fail():
        await anyio.sleep(1)
        raise RuntimeError("can't start new thread")

    supervisor._answer = answer
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(60)
        assert supervisor.pool.serving == 1
        supervisor.stop("test")
    failed = [event for event in stage.events if isinstance(event, Note) and event.event == "holding.failed"]
    assert failed
    assert (40.1, "off") in stage.answering


async def test_a_canary_whose_judge_fails_is_a_canary_that_failed(stage):
    async def judge(worker):
        raise RuntimeError("no room")

    supervisor = stage.supervisor(plan_of())
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(10)
        assert (await supervisor.canary(plan_of(), judge)).startswith("RuntimeError: no room")
        await anyio.sleep(10)
        assert [worker.number for worker in supervisor.pool.workers] == [1]
        supervisor.stop("test")


async def test_a_port_that_fails_is_noted_once_for_each_reason(stage):
    def usage(child):
        raise SystemError("no" if stage.now < 50 else "still no")

    ports = Ports(
        stage.spawn, stage.probe, stage.probe, usage, stage.journal, lambda: 0.0, lambda: 0.0, lambda: False,
        stage.prepare, stage.queued, stage.knocked, stage.free, stage.ask,
    )  # fmt: skip
    supervisor = Supervisor(plan_of(), stage.read, stage.adopted.append, ports, stage.answer)
    async with curtain() as tasks:
        tasks.start_soon(supervisor.run)
        await anyio.sleep(100)
        supervisor.stop("test")
    noted = [event.fields for event in stage.events if isinstance(event, Note) and event.event == "port.failed"]
    assert [fields["port"] for fields in noted] == ["usage", "usage"]
    assert noted[1]["reason"].startswith("SystemError: still no (test_faults.py:")


def test_an_error_is_named_with_its_place_and_a_group_by_its_first():
    assert told(ValueError("x")) == "ValueError: x"
    assert told(ExceptionGroup("many", [OSError("a"), ValueError("b")])) == "OSError: a"
