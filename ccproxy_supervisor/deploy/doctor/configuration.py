"""The files of the home: what they say, who may read them, and the disk under them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ccproxy_supervisor.core.faults import ConfigError
from ccproxy_supervisor.core.units import GiB, MiB
from ccproxy_supervisor.deploy.advisories import advisories
from ccproxy_supervisor.deploy.doctor.finding import Finding, Scene, fail, folder_of, ok, warn
from ccproxy_supervisor.deploy.launchd import out_of_reach, services_of
from ccproxy_supervisor.edge.home import ROTATE, packages, program, weaknesses

ROOM_FOR_LITELLM = 2 * GiB
SHOWN = 5


def settings(scene: Scene) -> Iterator[Finding]:
    plan = scene.plan
    if isinstance(plan, ConfigError):
        for fault in plan.faults:
            message, _, remedy = str(fault).partition("; run: ")
            remedy = remedy or f"edit {scene.home.settings_file}, or what it names"
            yield fail("the configuration cannot be used", message, remedy)
        return
    models = ", ".join(model.name for model in plan.litellm.models)
    yield ok("settings, LiteLLM's config and its variables are usable", f"{scene.home.settings_file}; models: {models}")
    for warning in plan.warnings:
        yield warn("the configuration is doubtful", str(warning), "edit it, then: ccproxy-supervisor reload")


def permissions(scene: Scene) -> Iterator[Finding]:
    faults = scene.home.check_permissions(scene.settings)
    for fault in faults:
        message, _, remedy = str(fault).partition("; run: ")
        yield fail("a private file or folder is not private", message, remedy)
    if not faults:
        yield ok("home, logs and secrets are ours alone", str(scene.home.folder))


def custody(scene: Scene) -> Iterator[Finding]:
    """Whether somebody else could have this program run theirs; of the home and LiteLLM, `settings` tells."""
    weak = weaknesses(program(scene.python))
    for place, why in weak[:SHOWN]:
        message, _, remedy = why.partition("; run: ")
        yield fail("the supervisor's own program could be replaced", f"{place}: {message}", remedy)
    ours = Path(scene.python).parent.parent
    for reason in advisories().denied(packages(ours)):
        yield fail(
            "a package of the supervisor's own is malicious", f"{ours}: {reason}", f"build it anew, and {ROTATE}"
        )
    if not weak:
        yield ok("nobody else can replace the supervisor's own program", scene.python)


def disk(scene: Scene) -> Iterator[Finding]:
    """Logs and LiteLLM's environments, which may be on one volume or on two."""
    logs = scene.settings.logs
    needs: dict[int, tuple[Path, int]] = {}
    for path, need in ((scene.home.folder, ROOM_FOR_LITELLM), (scene.home.path(logs.directory), logs.max_total)):
        volume = folder_of(path).stat().st_dev
        first, other = needs.get(volume, (path, 0))
        needs[volume] = (first, other + need)
    for path, need in needs.values():
        free = shutil.disk_usage(folder_of(path)).free
        evidence = f"{free / GiB:.1f} GiB free for {path}"
        if free < 100 * MiB:
            yield fail("the disk is full", evidence, "make room: du -xh -d 2 ~ | sort -h")
        elif free < need:
            yield warn("the disk is nearly full", f"{evidence}, {need / GiB:.1f} GiB may be needed", "make room")
        else:
            yield ok("there is room on the disk", evidence)


def place(scene: Scene) -> Iterator[Finding]:
    """Where home and programs are: some folders are closed to services, or not there when they start."""
    person, program = Path(scene.environ.get("HOME", "/")), "the supervisor's program"
    found = {scene.home.folder: "the home", Path(scene.python).parent: program}
    for _, _, keys in services_of(scene.home.settings_file, scene.places.values()):
        found.setdefault(Path(str(keys["ProgramArguments"][0])).parent, program)
    for path, what in found.items():
        if why := out_of_reach(path, person):
            remedy = (
                "move it, e.g. to ~/ccproxy" if what != program else "clone it elsewhere, and install it from there"
            )
            yield warn(f"{what} is {why}", str(path), remedy)
