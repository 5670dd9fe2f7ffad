"""The one way in which files are replaced."""

import os
import stat

import pytest

from ccproxy_supervisor.system import files
from ccproxy_supervisor.system.files import put


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_with_its_mode_whatever_the_umask(tmp_path, durable):
    before = os.umask(0o077)
    try:
        put(tmp_path / "a", b"one", 0o644, durable=durable)
        put(tmp_path / "a", b"two", 0o644, durable=durable)
    finally:
        os.umask(before)
    assert (tmp_path / "a").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / "a").symlink_to("other")
    (tmp_path / f".a.{os.getpid()}").symlink_to("other")
    put(tmp_path / "a", b"ours")
    assert (tmp_path / "other").read_bytes() == b"theirs"
    assert (tmp_path / "a").read_bytes() == b"ours"


@pytest.mark.parametrize("at", ["fchmod", "fsync"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, at):
    put(tmp_path / "a", b"old")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, at, fails)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path / "a", b"new", durable=True)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]
