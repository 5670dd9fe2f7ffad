"""What a person at the terminal sees, and cannot hold up."""

import os

import pytest

from ccproxy_supervisor.edge.terminal import ROOM, Terminal


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in filter(None, ends):
        os.close(end)


def test_lines_are_shown_in_order_and_the_last_ones_too(pipe):
    terminal = Terminal(pipe[1])
    for number in range(100):
        terminal.show(b"line %d" % number)
    terminal.close()

    assert os.read(pipe[0], 1 << 16).splitlines() == [b"line %d" % number for number in range(100)]


def test_a_terminal_that_is_gone_costs_nothing(pipe):
    os.close(pipe[0])
    pipe[0] = None
    terminal = Terminal(pipe[1])
    for _ in range(3):
        terminal.show(b"anybody there?")
    terminal.close()


def test_a_paused_terminal_holds_up_nobody_and_loses_only_what_is_too_much(pipe):
    terminal = Terminal(pipe[1])
    for _ in range(3 * ROOM):
        terminal.show(b"x" * 999)
    os.set_blocking(pipe[0], False)
    terminal.close()

    seen = os.read(pipe[0], 1 << 20)
    assert len(seen) >= 4096
    assert set(seen.splitlines()[:-1]) == {b"x" * 999}
