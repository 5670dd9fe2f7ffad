"""The self-test from beginning to end: in the caller, in a job, as a service; then the report."""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from ccproxy_supervisor import __version__
from ccproxy_supervisor.core.known import known
from ccproxy_supervisor.deploy.service import Hands
from ccproxy_supervisor.edge.home import Home
from ccproxy_supervisor.edge.preload import FORKS_LIVE
from ccproxy_supervisor.selftest import job, service
from ccproxy_supervisor.selftest.report import Report
from ccproxy_supervisor.selftest.step import Outcome, Result, alone, judged, noted, unknown
from ccproxy_supervisor.selftest.steps import STEPS
from ccproxy_supervisor.system.files import put


def selftest(hands: Hands, litellm: str | None, environ: Mapping[str, str] = os.environ) -> Report:
    """Run everything; *litellm* is the interpreter of a LiteLLM that may be tried, if there is one."""
    birth = _birth()
    caller = {}
    for step in STEPS:
        caller[step.name] = alone(step, hands.run)
        hands.say(f"{step.name}: {caller[step.name].verdict}")
    inside, about = job.Found(), {"job": unknown("this system has no launchd")}
    if shutil.which("launchctl") is not None:
        with _folder() as folder:
            hands.say("the same in a job of launchd")
            inside = job.look_into(folder, hands, environ)
        about = inside.about | _service(hands, litellm, about=inside.about)
    about["birth-over-a-clock-step"] = _over_a_step(birth, _birth())
    return Report(_machine(), STEPS, caller, inside.steps, about)


def _service(hands: Hands, litellm: str | None, about: Mapping[str, Result]) -> dict[str, Result]:
    if about["job"].verdict is not Outcome.HOLDS:
        return {}
    if litellm is None:
        return {"service": unknown("no LiteLLM is installed that could be tried: ccproxy-supervisor init")}
    with _folder() as folder:
        hands.say("the daemon as a service, with a LiteLLM whose workers are forked")
        return service.try_service(folder, litellm, sys.executable, hands)


def settle_forks(home: Home, report: Report) -> str:
    """Let `proxy.preload: auto` of *home* have workers forked on a Mac where they were seen to live; say what was done."""
    mark, seen = home.folder / FORKS_LIVE, report.about.get("forked-workers")
    bad = [each.get("fork") for each in (report.caller, report.job)]
    if any(each and each.verdict is Outcome.FAILS for each in bad) or (seen and seen.verdict is Outcome.FAILS):
        mark.unlink(missing_ok=True)
        return "proxy.preload: auto stays off here, for forked workers do not live"
    if seen is None or seen.verdict is not Outcome.HOLDS:
        return "proxy.preload: auto is left as it was, for no forked worker was seen"
    if not mark.parent.is_dir():
        return "forked workers live; proxy.preload: auto was not told, for the home is not there yet"
    put(mark, f"{__version__} {platform.release()}\n".encode())
    return "proxy.preload: auto has workers forked from the next start on, for they live"


def private() -> list[str]:
    """Names that a report must not hold: of people, and of this machine."""
    host = socket.gethostname()
    people = [known(getpass.getuser, ""), Path.home().name, os.environ.get("SUDO_USER", "")]
    return [*people, host, host.partition(".")[0], platform.node(), str(Path.home())]


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of our own: short, for a Unix socket's path has 104 bytes, and where macOS lets a service look."""
    folder = Path(tempfile.mkdtemp(prefix="cc-", dir="/tmp")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _machine() -> dict[str, str]:
    system = (
        f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else f"{platform.system()} {platform.release()}"
    )
    memory = known(lambda: f"{psutil.virtual_memory().total >> 30} GiB", "unknown")
    return {
        "version": __version__, "system": f"{system}, {platform.machine()}, {os.cpu_count()} cores, {memory}",
        "python": f"{platform.python_version()} ({'a framework' if 'framework' in sys.base_prefix.lower() else 'plain'} build)",
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
    }  # fmt: skip


def _birth() -> tuple[float, float]:
    return psutil.Process().create_time(), time.time() - time.monotonic()


def _over_a_step(before: tuple[float, float], after: tuple[float, float]) -> Result:
    """Only root may set the clock: whoever sets it while the test runs has the answer."""
    (born, ahead), (still, later) = before, after
    step = later - ahead
    if abs(step) < 2:
        said = "the clock was not set meanwhile; set it by a minute while the test runs to have the answer"
        return noted(f"{said}; read again after the test: {'the same' if born == still else 'another time'}")
    return judged(
        born == still, f"the clock was set by {step:.0f} s, the time of birth changed by {still - born:.0f} s"
    )
