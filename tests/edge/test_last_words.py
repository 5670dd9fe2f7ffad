"""The one file that nobody but us cuts."""

import os

from ccproxy_supervisor.edge.last_words import bound


def test_the_end_is_kept_and_whoever_holds_it_open_goes_on_after_it(tmp_path):
    file = tmp_path / "launchd.log"
    held = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(held, b"old " * 1000 + b"last words\n")
    bound(file, keep=11)
    os.write(held, b"new ones\n")
    os.close(held)

    assert file.read_bytes() == b"last words\nnew ones\n"


def test_a_short_one_is_left_alone(tmp_path):
    file = tmp_path / "launchd.log"
    file.write_bytes(b"short")
    before = file.stat().st_mtime_ns
    bound(file, keep=5)

    assert (file.read_bytes(), file.stat().st_mtime_ns) == (b"short", before)


def test_none_a_folder_a_link_and_a_fifo_are_nobody_s_problem(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "victim").write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    os.mkfifo(tmp_path / "fifo")
    for name in ("none", "folder", "link", "fifo"):
        bound(tmp_path / name, keep=5)

    assert (tmp_path / "victim").stat().st_size == 100
