"""What is done for an Ollama that is stuck: one step at a time, the mildest first, and only those that its owner allowed."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

CALM = 600.0  # seconds without being stuck before the ladder is begun anew: a step that cured nothing is not repeated


class Step(StrEnum):
    """In the order in which they are taken."""

    UNLOAD = "unload"
    RESTART_RUNNER = "restart_runner"
    RESTART_COMMAND = "restart_command"
    SHOUT = "shout"  # nothing more can be done here


class Help(Protocol):
    """The `ollama.help` settings; *after* in seconds."""

    @property
    def after(self) -> float: ...
    @property
    def unload(self) -> bool: ...
    @property
    def restart_runner(self) -> bool: ...
    @property
    def restart_command(self) -> tuple[str, ...]: ...


def allowed(settings: Help) -> tuple[Step, ...]:
    """The steps that may be taken; there is always the last one."""
    wanted = {
        Step.UNLOAD: settings.unload, Step.RESTART_RUNNER: settings.restart_runner,
        Step.RESTART_COMMAND: bool(settings.restart_command), Step.SHOUT: True,
    }  # fmt: skip
    return tuple(step for step in Step if wanted[step])


class Ladder:
    """Asked at every look; remembers which steps this trouble has seen."""

    def __init__(self) -> None:
        self._taken: list[Step] = []
        self._since: float | None = None  # stuck, or stuck since the last step
        self._well: float | None = None

    @property
    def taken(self) -> tuple[Step, ...]:
        return tuple(self._taken)

    def step(self, now: float, confirmed: float | None, settings: Help) -> Step | None:
        """Return the step that is due now. *confirmed*: when it was last seen to be stuck; None while it is not."""
        if confirmed is None:
            self._well, self._since = now if self._well is None else self._well, None
            if now - self._well >= CALM:
                self._taken.clear()
            return None
        self._well = None
        self._since = now if self._since is None else self._since
        due = next((step for step in allowed(settings) if step not in self._taken), None)
        ripe = now - self._since >= settings.after and (not self._taken or confirmed > self._since)
        if due is None or not (ripe or (due is Step.SHOUT and not self._taken)):
            return None  # with nothing allowed, it is told at once
        self._taken.append(due)
        self._since = now
        return due
