"""What is held back in quiet hours, and told as one notice when they end."""

from __future__ import annotations

from dataclasses import dataclass, field

from ccproxy_supervisor.core.notices import Notice

MOST = 100  # notices of one night that are remembered


@dataclass(slots=True)
class Outbox:
    """Of one target. *urgent*: that nobody is served is told at once, and when that is over."""

    urgent: bool
    _held: list[tuple[str, Notice]] = field(default_factory=list)  # with the time of day, as people write it
    _awake: set[int] = field(default_factory=set)  # incidents somebody was woken for

    def put(self, notice: Notice, at: str, *, quiet: bool) -> list[Notice]:
        """Return what to send now."""
        wakes = self.urgent and (notice.grave or notice.incident in self._awake)
        if not quiet or wakes or notice.event == "test":
            (self._awake.add if notice.event == "began" else self._awake.discard)(notice.incident)
            return [*self.end(), notice] if not quiet else [notice]
        self._held = [*self._held, (at, notice)][-MOST:]
        return []

    def end(self) -> list[Notice]:
        """The quiet hours are over: return one notice of all that was held back."""
        held, self._held = self._held, []
        if not held:
            return []
        over = {notice.incident: notice for _, notice in held if notice.event == "over"}
        lines = [_line(at, notice, over) for at, notice in held if notice.event == "began"]
        begun = {notice.incident for _, notice in held if notice.event == "began"}
        lines += [
            f"{at} {notice.title}" for at, notice in held if notice.event == "over" and notice.incident not in begun
        ]
        left = len(begun - over.keys())
        title = f"While it was quiet: {len(lines)} incident{'s' * (len(lines) > 1)}, {left or 'none'} of them not over"
        return [Notice("digest", 0, title, tuple(lines), any(notice.grave for _, notice in held))]


def _line(at: str, notice: Notice, over: dict[int, Notice]) -> str:
    ended = over.get(notice.incident)
    return f"{at} {notice.title}" + (f" ({ended.title.partition(':')[0]})" if ended else " (not over)")
