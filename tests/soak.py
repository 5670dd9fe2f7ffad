"""Random faults in a real daemon under load; afterwards what serves is what is on disk, and nothing was lost but what was inside
killed workers.

    python tests/soak.py --faults 200 --seconds 3600 --seed 7 [--python LITELLM'S]

With root a small file system of its own is mounted for the home, so that it can be full.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

import faulty
from ccproxy_supervisor.cli.common import NotRunning
from ccproxy_supervisor.core.known import known
from daemon import LITELLM_CONFIG, Daemon
from load import Blow, Load, question

DISK = 96  # MiB of the home's file system
SETTLE = 180.0  # seconds for everything to be as it should after a fault
EVERY = 10  # faults between two looks at the whole
MARK = """
  - model_name: edition-%d
    litellm_params: {model: openai/echo, api_key: none, mock_response: "hi"}"""
Fault = Callable[["Soak"], None]


@dataclass
class Report:
    """What was done, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    raised: Counter[str] = field(default_factory=Counter)  # exceptions, by kind
    blows: list[Blow] = field(default_factory=list)
    looks: int = 0
    requests: int = 0
    lost: int = 0
    unexplained: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    growth: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.faults.values())

    def lines(self) -> Iterator[str]:
        done = ", ".join(f"{number} {name}" for name, number in sorted(self.faults.items()))
        yield f"{self.count} faults in {self.seconds:.0f} s: {done}; exceptions raised: {dict(self.raised)}"
        yield f"{self.requests} requests, {self.lost} lost inside killed workers, {len(self.unexplained)} otherwise"
        yield f"{self.looks} times what serves was compared with what is on disk"
        yield ", ".join(f"{what} {before:g} -> {after:g}" for what, (before, after) in self.growth.items())


class Soak:
    """A daemon, what it should be like, and the means to hurt it. *dice* decide: a seed repeats the faults of a run."""

    def __init__(self, daemon: Daemon, dice: random.Random, *, mounted: bool) -> None:
        self.daemon, self.dice, self.mounted = daemon, dice, mounted
        self.report = Report()
        self.edition = self.config = 0

    @property
    def home(self) -> Path:
        return self.daemon.folder

    def change_settings(self) -> None:
        """Something for the daemon, and something that needs new workers."""
        self.edition += 1
        self.daemon.settings["proxy"]["env"]["EDITION"] = str(self.edition)
        self.daemon.settings["logs"] = {"keep": 4 + self.edition % 5}
        self.write("supervisor.yaml", json.dumps(self.daemon.settings))

    def change_config(self) -> None:
        self.config += 1
        self.write("config.yaml", LITELLM_CONFIG.replace("model_list:", f"model_list:{MARK % self.config}"))

    def write(self, name: str, text: str) -> None:
        """As a good editor does it: whole, or not at all on a full disk."""
        draft = self.home / f".{name}.soak"
        while True:
            try:
                draft.write_text(text)
                draft.replace(self.home / name)
            except OSError:
                time.sleep(0.1)
            else:
                return

    def hang_up(self) -> None:
        assert self.daemon.process
        self.daemon.process.send_signal(signal.SIGHUP)

    def pids(self, state: str = "serving") -> list[int]:
        """Asked where no control socket is needed."""
        with contextlib.suppress(httpx.HTTPError, LookupError, ValueError):
            return self.daemon.pids_by_admin(state)
        return []

    def one(self, state: str = "serving") -> int | None:
        return self.dice.choice(found) if (found := self.pids(state)) else None

    def strike(self, pid: int | None, number: int) -> None:
        before = time.monotonic()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            self.report.blows.append(Blow(before, time.monotonic()))

    def settle(self) -> None:
        """Wait until everything is as it should be; a fault may have hit the last reload, so there is another."""
        deadline = time.monotonic() + SETTLE
        while trouble := self.trouble():
            assert self.daemon.process
            assert self.daemon.process.poll() is None, f"the daemon ended\n{self.daemon.last_words()}"
            assert time.monotonic() < deadline, f"{trouble}\n{self.daemon.last_words()}"
            with contextlib.suppress(click.ClickException, NotRunning):
                self.daemon.order("/reload")
            time.sleep(0.5)
        self.report.looks += 1

    def trouble(self) -> str:
        """What is not as it should be: who there is, what they were born from, what they say."""
        pids = {state: self.pids(state) for state in ("serving", "standby")}
        if [len(found) for found in pids.values()] != [2, 1]:
            return f"who there is: {pids}"
        born = {self.born(pid) for found in pids.values() for pid in found}
        if born != {str(self.edition)}:
            return f"born from {born}, and on disk is edition {self.edition}"
        with contextlib.suppress(httpx.HTTPError, LookupError, ValueError):
            named = [{model["id"] for model in self.daemon.get("/v1/models").json()["data"]} for _ in range(4)]
            wanted = {"echo", f"edition-{self.config}"} if self.config else {"echo"}
            return "" if named == [wanted] * 4 else f"they say {named}, and on disk is {wanted}"
        return "no answer"

    def born(self, pid: int) -> str:
        """Which edition of the settings is in its environment; one that was forked has its preloader's."""
        try:
            return psutil.Process(pid).environ().get("EDITION", "")
        except psutil.Error:
            return ""

    def preloader(self) -> int | None:
        assert self.daemon.process
        family = psutil.Process(self.daemon.process.pid).children()
        found = [child.pid for child in family if "--preload-fd" in known(child.cmdline, [])]
        return self.dice.choice(found) if found else None


# The faults. Each is over, or undone, when it returns; what the daemon makes of it takes longer.


def kill_serving(soak: Soak) -> None:
    soak.strike(soak.one(), signal.SIGKILL)


def kill_standby(soak: Soak) -> None:
    soak.strike(soak.one("standby"), signal.SIGKILL)


def kill_all(soak: Soak) -> None:
    for pid in [*soak.pids(), *soak.pids("standby")]:
        soak.strike(pid, signal.SIGKILL)


def stop_worker(soak: Soak) -> None:
    """It hangs until it is found out and killed, with what it had accepted."""
    soak.strike(soak.one(), signal.SIGSTOP)


def end_worker(soak: Soak) -> None:
    """Politely, by a stranger: it drains."""
    if pid := soak.one():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def kill_preloader(soak: Soak) -> None:
    if pid := soak.preloader():
        os.kill(pid, signal.SIGKILL)


def stop_preloader(soak: Soak) -> None:
    if pid := soak.preloader():
        os.kill(pid, signal.SIGSTOP)
    kill_standby(soak)


def pause_supervisor(soak: Soak) -> None:
    assert soak.daemon.process
    soak.daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(soak.dice.uniform(0.1, 4))
    soak.daemon.process.send_signal(signal.SIGCONT)


def remove_folder(soak: Soak) -> None:
    folder = soak.home / soak.dice.choice(["run", "run", "logs"])
    aside = soak.home / f".removed-{time.monotonic_ns()}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def remove_file(soak: Soak) -> None:
    found = [path for folder in ("run", "logs") for path in sorted((soak.home / folder).glob("*"))]
    if found:
        path = soak.dice.choice(found)
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def block_folder(soak: Soak) -> None:
    """Something else stands where `run/` was."""
    remove_folder(soak)
    folder = soak.home / "run"
    with contextlib.suppress(OSError):
        folder.rename(soak.home / f".removed-{time.monotonic_ns()}")
    with contextlib.suppress(OSError):
        folder.write_text("in the way")
    time.sleep(soak.dice.uniform(0.5, 4))
    with contextlib.suppress(OSError):
        folder.unlink()
    for aside in soak.home.glob(".removed-*"):
        shutil.rmtree(aside, ignore_errors=True)


def fill_disk(soak: Soak) -> None:
    ballast = soak.home / ".ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 20)):
            pass
    soak.dice.choice([kill_serving, kill_standby, Soak.hang_up])(soak)
    time.sleep(soak.dice.uniform(0.5, 4))
    ballast.unlink()


def raise_everywhere(soak: Soak) -> None:
    kind = soak.dice.choice(list(faulty.FAULTS))
    soak.write("arm", kind)
    time.sleep(1)
    soak.hang_up()
    time.sleep(1)
    raised = sum(json.loads((soak.home / "hits").read_text())["hits"].values())
    soak.report.raised[kind] += raised
    soak.write("arm", "")


def reload_nonsense(soak: Soak) -> None:
    name = soak.dice.choice(["supervisor.yaml", "config.yaml"])
    good = (soak.home / name).read_text()
    soak.write(name, soak.dice.choice(["proxy: [", "proxy: {port: none}", "\x00", "model_list: 7", "- a\n- b: {"]))
    soak.hang_up()
    time.sleep(soak.dice.uniform(0, 1))
    soak.write(name, good)


def reload_what_cannot_start(soak: Soak) -> None:
    soak.daemon.settings["proxy"]["env"]["STUB_FAIL"] = "9"
    soak.change_settings()
    soak.hang_up()
    time.sleep(soak.dice.uniform(0, 3))
    del soak.daemon.settings["proxy"]["env"]["STUB_FAIL"]
    soak.change_settings()
    soak.hang_up()


def reload_settings(soak: Soak) -> None:
    soak.change_settings()
    soak.hang_up()


def reload_config(soak: Soak) -> None:
    soak.change_config()
    soak.hang_up()


def burst_of_edits(soak: Soak) -> None:
    for _ in range(soak.dice.randint(2, 20)):
        soak.dice.choice([soak.change_config, soak.change_settings])()
        soak.hang_up()
        time.sleep(0.005)


def restart(soak: Soak) -> None:
    with contextlib.suppress(click.ClickException, NotRunning):
        soak.daemon.order("/restart")


def rotate(soak: Soak) -> None:
    assert soak.daemon.process
    soak.daemon.process.send_signal(signal.SIGUSR1)


def crowd(soak: Soak) -> None:
    """Idle clients, at each door."""
    with contextlib.ExitStack() as stack:
        for _ in range(140):
            for port in (soak.daemon.port, soak.daemon.admin_port):
                with contextlib.suppress(OSError):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
        soak.dice.choice([kill_serving, Soak.hang_up, rotate])(soak)
        time.sleep(soak.dice.uniform(0, 2))


FAULTS: tuple[Fault, ...] = (
    kill_serving, kill_serving, kill_standby, kill_all, kill_preloader, stop_preloader, stop_worker, stop_worker, end_worker, pause_supervisor, remove_folder,
    remove_folder, remove_file, remove_file, block_folder, fill_disk, fill_disk, raise_everywhere, raise_everywhere,
    reload_nonsense, reload_what_cannot_start, reload_settings, reload_config, burst_of_edits, burst_of_edits, restart, rotate, crowd,
)  # fmt: skip


def usable(soak: Soak) -> list[Fault]:
    """Each once at least, in a run that is long enough: the first ones are drawn without putting back."""
    left_out: set[Fault] = set() if soak.mounted else {fill_disk}
    if soak.daemon.real:
        left_out |= {reload_what_cannot_start}  # it is the stub that can be told to fail
    return [fault for fault in FAULTS if fault not in left_out]


def run(soak: Soak, faults: int, seconds: float, rate: float) -> Report:
    """*faults* spread at random over *seconds*, under *rate* requests a second."""
    report, daemon, dice = soak.report, soak.daemon, soak.dice
    begun, deck = time.monotonic(), []
    soak.settle()
    assert daemon.process
    own = psutil.Process(daemon.process.pid)
    before = measured(own)
    more = {} if daemon.real else {"seconds": 0.5}
    load = Load(daemon.port, rate=rate, path="/v1/chat/completions", ask=question("hi", **more))
    with load:
        for number in range(faults):
            if not deck:
                deck = usable(soak)
                dice.shuffle(deck)
            fault = deck.pop()
            report.faults[fault.__name__] += 1
            print(f"{time.monotonic() - begun:7.1f} s  {number + 1:4}  {fault.__name__}", flush=True)
            fault(soak)
            if (number + 1) % EVERY == 0:
                soak.settle()
            pace = begun + seconds * (number + 1) / faults - time.monotonic()
            time.sleep(max(0.0, pace) * dice.uniform(0.5, 1))
        soak.settle()
    report.seconds = time.monotonic() - begun
    report.growth = {name: (before[name], after) for name, after in measured(own).items()}
    judge(report, load)
    return report


def judge(report: Report, load: Load) -> None:
    """Whoever did not get its answer was being answered by a worker that was killed, or stopped and then killed."""
    report.requests, report.lost = len(load.outcomes), len(load.lost)
    for outcome in load.lost:
        if not any(blow.hit(outcome) for blow in report.blows):
            report.unexplained.append(outcome)
    report.lost -= len(report.unexplained)


def measured(own: psutil.Process) -> dict[str, float]:
    return {"descriptors": own.num_fds(), "threads": own.num_threads(), "MiB": own.memory_info().rss >> 20}


@contextlib.contextmanager
def home() -> Iterator[tuple[Path, bool]]:
    """A folder for a home, and whether it is a file system of its own, which can be filled."""
    folder = Path(tempfile.mkdtemp(prefix="cc-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=0700", "ccproxy-soak", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder, mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def soak(faults: int, seconds: float, seed: int, python: str | None = None, rate: float = 10.0) -> Report:
    """Start a daemon, hurt it, and return what came of it; raises AssertionError when it is not as it should be."""
    with home() as (folder, mounted):
        proxy = {"workers": 2, "standby": 1, "hold": "5m", "start_timeout": "2m", "env": {"EDITION": "0"}}
        with Daemon(python, folder=folder, proxy=proxy, health={"interval": "2s", "timeout": "2s"}) as daemon:
            daemon.program = [faulty.__file__, str(folder)]
            daemon.start(seconds=180)
            report = run(Soak(daemon, random.Random(seed), mounted=mounted), faults, seconds, rate)
            assert daemon.end() == 0, daemon.last_words()
            for text in (daemon.folder / "run" / "incidents").glob("*.json"):
                cause = json.loads(text.read_text())["cause"]
                assert cause not in ("crashed", "stuck", "killed"), text.read_text()
            return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--python", help="an interpreter that has LiteLLM; else the stub serves")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    report = soak(options.faults, options.seconds, options.seed, options.python, options.rate)
    print("\n".join(report.lines()))
    for outcome in report.unexplained[:20]:
        print(outcome)
    sys.exit(bool(report.unexplained))


if __name__ == "__main__":
    main()
