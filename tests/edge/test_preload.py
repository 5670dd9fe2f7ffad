"""A preloader and the workers that it forks, with the stub in LiteLLM's place."""

import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import httpx
import psutil
import pytest

from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.core.plan import Birth
from ccproxy_supervisor.edge import exits, preload
from ccproxy_supervisor.edge.launcher import Launcher
from ccproxy_supervisor.edge.listener import open_listener
from ccproxy_supervisor.edge.preload import Preloaders
from ccproxy_supervisor.edge.process import Spawner
from daemon import STUB
from outputs import Pipes
from stage import patched, plan_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Stage:
    def __init__(self, folder):
        self.folder, self.notes = folder, []
        (folder / "run").mkdir()
        self.listener = open_listener("127.0.0.1", 0)
        self.launcher = Launcher(folder / "run")
        self.loaders = Preloaders(
            self.plan(), folder, self.launcher, lambda _: Pipes(folder), exits.ended, exits.start, self.notes.append
        )
        self.spawn = Spawner(
            self.listener, folder, self.launcher, lambda birth: birth.config, lambda _: Pipes(folder), lambda *_: None,
            lambda _: None, exits.start, self.loaders.fork,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def plan(self, config="config.yaml", choice="on", python=sys.executable, **env):
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(STUB), "CONFIG_FILE_PATH": config, **env}
        plan = patched(plan_of(), "proxy", preload=choice)
        return replace(
            plan, birth=Birth(python=python, config=config, env=tuple(sorted(variables.items())), digest="a")
        )

    @asynccontextmanager
    async def open(self):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.loaders.run)
            yield self
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def hire(self, number=1, **more):
        plan = self.plan(**more)
        await self.loaders.prepare(plan)
        async with self.spawn(number, plan) as child:
            yield child

    def private(self, number=1):
        transport = httpx.AsyncHTTPTransport(uds=str(self.folder / "run" / f"w{number}.sock"))
        return httpx.AsyncClient(transport=transport, base_url="http://w")

    def said(self):
        return [(note.event, note.fields.get("reason")) for note in self.notes]


@pytest.fixture
async def stage(tmp_path):
    stage = Stage(tmp_path)
    with stage.listener:
        async with stage.open():
            yield stage


async def until(fact):
    with anyio.fail_after(20):
        while not fact():  # noqa: ASYNC110 - processes tell nobody
            await anyio.sleep(0.01)


async def ended(*pids):
    await until(lambda: all(not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie" for pid in pids))


def preloaders():
    return [each for each in psutil.Process().children() if "--preload-fd" in known(each.cmdline, [])]


async def test_a_forked_worker_serves_like_any_other(stage):
    async with stage.hire() as child, stage.private() as inside, httpx.AsyncClient(base_url=stage.url) as outside:
        await child.ready()
        assert psutil.Process(child.pid).ppid() == preloaders()[0].pid
        assert os.getsid(child.pid) == child.pid
        assert (await inside.get("/health/liveliness")).status_code == 200
        await child.activate(0)
        assert (await outside.get("/")).text == str(child.pid)
        await inside.get("/print?line=hello")
        child.drain(5)
        assert await child.wait() == 0
        assert b"hello" in (stage.folder / "stdout").read_bytes()


async def test_what_is_imported_once_serves_many(stage):
    async with stage.hire(1) as one, stage.hire(2) as two, stage.hire(3, config="other.yaml") as three:
        for child in (one, two, three):
            await child.ready()
        assert len(preloaders()) == 1
        async with stage.private(3) as inside:
            assert (await inside.get("/env")).json()["CONFIG_FILE_PATH"] == "other.yaml"


async def test_another_environment_has_another_preloader(stage):
    async with stage.hire(1) as one, stage.hire(2, COLOUR="red") as two:
        await one.ready()
        await two.ready()
        assert len(preloaders()) == 2
        async with stage.private(2) as inside:
            assert (await inside.get("/env")).json()["COLOUR"] == "red"


async def test_the_preloader_of_an_environment_that_was_left_ends_with_its_last_worker(stage):
    async with stage.hire(1) as old, stage.hire(2, COLOUR="red") as new:
        await old.ready()
        await new.ready()
        first, _ = preloaders()
        stage.loaders.adopt(stage.plan())
        stage.loaders.adopt(stage.plan(COLOUR="red"))
        await anyio.sleep(0.1)
        assert len(preloaders()) == 2
        os.kill(old.pid, signal.SIGKILL)
        assert await old.wait() == -9
        await ended(first.pid)
        assert len(preloaders()) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0)])
async def test_how_a_forked_worker_ended_is_told(stage, number, status):
    async with stage.hire() as child:
        await child.ready()
        os.kill(child.pid, number)
        with anyio.fail_after(20):
            assert await child.wait() == status


async def test_a_worker_outlives_its_preloader_and_its_end_is_noticed(stage):
    async with stage.hire() as child, stage.private() as inside:
        await child.ready()
        preloaders()[0].kill()
        await ended(*[each.pid for each in preloaders()])
        assert (await inside.get("/health/liveliness")).status_code == 200
        os.kill(child.pid, signal.SIGKILL)
        with anyio.fail_after(20):
            assert await child.wait() is None


async def test_the_next_worker_after_a_preloader_died_is_forked_again(stage):
    async with stage.hire(1) as one:
        await one.ready()
        first = preloaders()[0]
        first.kill()
        await until(lambda: ("preloader.ended", "it ended") in stage.said())
        async with stage.hire(2) as two:
            await two.ready()
            assert psutil.Process(two.pid).ppid() == preloaders()[0].pid != first.pid


async def test_the_next_preloader_is_there_before_a_worker_needs_it(stage, monkeypatch):
    monkeypatch.setattr(preload, "PROBE", 0.1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stage.loaders.keep)
        await until(lambda: any(loader.weight for loader in stage.loaders._loaders.values()))
        first = preloaders()[0]
        first.kill()
        await until(lambda: [each for each in preloaders() if each != first])
        tasks.cancel_scope.cancel()


async def test_a_preloader_that_hangs_is_given_up_for_a_plain_start(stage, monkeypatch):
    async with stage.hire(1) as one:
        await one.ready()
        first = preloaders()[0]
        monkeypatch.setattr(preload, "PATIENCE", 0.5)
        first.suspend()
        async with stage.hire(2) as two:
            await two.ready()
            assert psutil.Process(two.pid).ppid() == os.getpid()
        await ended(first.pid)
        await until(lambda: ("preloader.ended", "it did not fork within 0.5 s") in stage.said())


async def test_a_preloader_that_does_not_answer_a_probe_is_replaced(stage, monkeypatch):
    monkeypatch.setattr(preload, "PROBE", 0.1)
    monkeypatch.setattr(preload, "PATIENCE", 0.5)
    async with stage.hire(1) as one:
        await one.ready()
        first = preloaders()[0]
        first.suspend()
        await ended(first.pid)
        await until(lambda: ("preloader.ended", "it did not answer within 0.5 s") in stage.said())


async def test_a_preloader_that_grew_is_replaced(stage, monkeypatch):
    monkeypatch.setattr(preload, "PROBE", 0.05)
    async with stage.hire(1) as one:
        await one.ready()
        monkeypatch.setattr(preload, "GROWN", 0.5)
        await until(lambda: any(reason and "it grew" in reason for _, reason in stage.said()))


async def test_an_import_that_fails_leaves_it_to_a_plain_start_to_say_why(stage):
    async with stage.hire(STUB_FAIL="9") as child:
        with anyio.fail_after(20):
            assert await child.wait() == 9
    assert preloaders() == []
    assert not stage.notes or stage.said()[0] == ("preloader.ended", "it ended")


async def test_a_thread_at_the_import_leaves_it_to_plain_starts(stage, tmp_path):
    code = tmp_path / "code/litellm/proxy"
    code.mkdir(parents=True)
    stub = (STUB / "litellm/proxy/proxy_server.py").read_text()
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (code / "proxy_server.py").write_text(stub + thread)
    async with stage.hire(PYTHONPATH=str(tmp_path / "code")) as child:
        await child.ready()
        assert psutil.Process(child.pid).ppid() == os.getpid()
        await until(lambda: ("preloader.ended", "LiteLLM started a thread at its import") in stage.said())


async def test_no_preload_means_a_plain_start(stage):
    async with stage.hire(choice="off") as child:
        await child.ready()
        assert psutil.Process(child.pid).ppid() == os.getpid()
        assert preloaders() == []


@pytest.mark.parametrize(
    ("platform", "seen", "wanted"), [("linux", False, True), ("darwin", False, False), ("darwin", True, True)]
)
def test_auto_waits_on_a_mac_for_the_self_test(tmp_path, monkeypatch, platform, seen, wanted):
    monkeypatch.setattr(sys, "platform", platform)
    if seen:
        (tmp_path / "seen").touch()
    assert preload.wanted(plan_of(), tmp_path / "seen") is wanted


async def test_an_environment_that_the_plan_left_is_let_go(stage, monkeypatch):
    monkeypatch.setattr(preload, "PROBE", 0.05)
    monkeypatch.setattr(preload, "SPARE", 0.1)
    async with stage.hire(1) as one:
        await one.ready()
        stage.loaders.adopt(stage.plan(COLOUR="red"))
        await until(lambda: stage.said()[-1] == ("preloader.ended", ""))


async def test_it_leaves_with_its_supervisor_and_its_workers_see_to_themselves(tmp_path):
    stage = Stage(tmp_path)
    async with stage.open(), stage.hire() as child:
        await child.ready()
        pid = preloaders()[0].pid
    await ended(pid)
    stage.listener.close()


async def test_a_forked_worker_holds_nothing_but_its_own(stage):
    fds = lambda pid: psutil.Process(pid).num_fds()  # noqa: E731
    async with stage.hire(1) as one, stage.hire(2) as two:
        await one.ready()
        await two.ready()
        await until(lambda: fds(one.pid) == fds(two.pid))
        loader = fds(preloaders()[0].pid)
        async with stage.hire(3) as three:
            await three.ready()
            await until(lambda: fds(three.pid) == fds(one.pid))
        await until(lambda: fds(preloaders()[0].pid) == loader)


async def test_one_that_still_imports_leaves_with_its_supervisor(tmp_path):
    """`kill -9` again and again would otherwise leave a crowd of them, each with a core of its own for seconds."""
    ours, theirs = socket.socketpair()
    path = Launcher(tmp_path)()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(STUB), "STUB_START_DELAY": "300"}
    command = [sys.executable, path, "--preload-fd", str(theirs.fileno())]
    process = await anyio.open_process(command, env=env, pass_fds=[theirs.fileno()], stderr=None)
    theirs.close()
    async with process:
        assert await process.stdout.receive() == b"stub: told to be slow\n"
        ours.close()
        with anyio.fail_after(30):
            assert await process.wait() == 0
