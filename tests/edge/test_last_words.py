"""The one file that nobody but us cuts."""

import os

import pytest

from ccproxy_supervisor.edge.last_words import bound


@pytest.fixture
def held(tmp_path):
    """launchd's end of the file: opened for append, and only for writing."""
    descriptor = os.open(tmp_path / "launchd.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    yield descriptor
    os.close(descriptor)


def test_the_end_is_kept_and_what_is_said_next_follows_it(tmp_path, held):
    os.write(held, b"old " * 1000 + b"last words\n")
    bound(held, keep=11)
    os.write(held, b"new ones\n")

    assert (tmp_path / "launchd.log").read_bytes() == b"last words\nnew ones\n"


def test_a_short_one_is_left_alone(tmp_path, held):
    os.write(held, b"short")
    before = (tmp_path / "launchd.log").stat().st_mtime_ns
    bound(held, keep=5)

    assert (tmp_path / "launchd.log").read_bytes() == b"short"
    assert (tmp_path / "launchd.log").stat().st_mtime_ns == before


def test_a_file_that_is_not_launchd_s_is_left_alone(tmp_path):
    with open(tmp_path / "mine.log", "wb") as mine:
        mine.write(b"x" * 100)
        mine.flush()
        bound(mine.fileno(), keep=5)

    assert (tmp_path / "mine.log").stat().st_size == 100


def test_a_pipe_a_closed_descriptor_and_a_file_that_is_gone_are_no_trouble(tmp_path, held):
    reads, writes = os.pipe()
    bound(writes)
    os.close(reads)
    os.close(writes)
    bound(writes)
    (tmp_path / "launchd.log").unlink()
    bound(held)
