"""Sleep, a paused process and a set clock are three different things."""

import anyio
import pytest

from ccproxy_supervisor.edge.wake import Clocks, Wake, read_clocks


class Machine:
    """A machine whose three clocks a test pushes."""

    def __init__(self):
        self.clocks = Clocks(100.0, 100.0, 1e9)
        self.notes = []
        self.wake = Wake(self.notes.append, every=5.0, settle=30.0, clocks=lambda: self.clocks)

    def run(self, seconds):
        self.clocks = Clocks(*(clock + seconds for clock in self.clocks))

    def sleep(self, seconds):
        self.clocks = self.clocks._replace(through=self.clocks.through + seconds, wall=self.clocks.wall + seconds)

    def told(self):
        return [(note.event, note.fields["seconds"]) for note in self.notes]


@pytest.fixture
def machine():
    return Machine()


def test_a_machine_that_runs_gives_no_grace(machine):
    machine.run(5)

    assert (machine.wake.observe(), machine.wake.grace(), machine.told()) == (0, False, [])


def test_a_sleep_is_measured_told_and_gives_grace_at_once(machine):
    machine.run(2)
    machine.sleep(3600)

    assert machine.wake.grace()
    assert machine.told() == [("host.woke", 3600)]


def test_the_grace_ends_after_so_many_seconds_awake(machine):
    machine.sleep(3600)
    machine.wake.observe()
    for _ in range(6):
        machine.run(4.9)
        assert machine.wake.grace()
    machine.run(1)

    assert not machine.wake.grace()


def test_a_sleep_within_the_grace_prolongs_it(machine):
    machine.sleep(60)
    machine.wake.observe()
    for _ in range(5):
        machine.run(5)
        machine.wake.observe()
    machine.sleep(60)
    machine.wake.observe()
    machine.run(5)
    machine.wake.observe()
    machine.run(5)

    assert machine.wake.grace()


@pytest.mark.parametrize("step", [7200.0, -7200.0])
def test_a_clock_that_is_set_is_told_and_is_no_sleep(machine, step):
    machine.run(5)
    machine.clocks = machine.clocks._replace(wall=machine.clocks.wall + step)

    assert not machine.wake.grace()
    assert machine.told() == [("clock.stepped", step)]


def test_a_process_that_was_stopped_gets_grace_too(machine):
    machine.run(65)

    assert machine.wake.grace()
    assert machine.told() == [("supervisor.paused", 60)]


def test_the_clocks_of_this_system_agree_while_it_is_awake():
    notes = []
    wake = Wake(notes.append, every=5.0)

    assert wake.observe() < 1
    assert (wake.grace(), notes) == (False, [])
    assert read_clocks().through >= read_clocks().awake - 1


@pytest.mark.parametrize(("before", "during", "told"), [(0, 0, "well"), (60, 0, None), (0, 60, None)])
def test_nobody_is_asked_in_a_grace_and_an_answer_that_came_through_a_sleep_is_none(machine, before, during, told):
    asked = []

    async def ask(model):
        asked.append(model)
        machine.sleep(during)
        return "well"

    machine.sleep(before)

    assert anyio.run(machine.wake.sparing(ask), "echo") == told
    assert asked == ([] if before else ["echo"])
