"""One listener that fails, and the others."""

import pytest

from ccproxy_supervisor.core.model import Note
from ccproxy_supervisor.event_bus import EventBus, each


def test_a_listener_that_raises_keeps_nobody_from_hearing_and_is_noted_once():
    heard, door = [], EventBus()

    def deaf(event):
        raise OSError(28, "No space left on device")

    door.listeners += [deaf, heard.append, deaf]
    for number in range(3):
        door.tell(Note("clock.ticked", fields={"number": number}))
    assert [event.fields["number"] for event in heard if event.event == "clock.ticked"] == [0, 1, 2]
    failed = [event for event in heard if event.event == "listener.failed"]
    assert [event.fields["listener"] for event in failed] == ["function", "function"]  # one for each of them
    assert "No space left on device" in failed[0].fields["reason"]


def test_every_step_is_taken_though_one_fails():
    taken = []

    def fail():
        raise RuntimeError("x")

    with pytest.raises(ExceptionGroup, match="not every step"):
        each([lambda: taken.append(1), fail, lambda: taken.append(2)])
    assert taken == [1, 2]
