"""LiteLLM under a path of its own rewrites its pages: a copy of them, never its package."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy_supervisor.deploy.inspection import inspect
from real import real


@pytest.mark.xdist_group("litellm-1")
def test_with_a_path_of_its_own_litellm_stays_as_it_was_inspected(litellm):
    before = inspect(Path(litellm).parents[1].resolve())
    with real(proxy={"env": {"SERVER_ROOT_PATH": "/gateway"}}) as daemon:
        daemon.start(seconds=300)
        (pages,) = (daemon.folder / "run" / "ui").iterdir()

        assert "/gateway/" in (pages / "index.html").read_text()
        assert daemon.get("/gateway/ui/").status_code in (200, 307)
    assert inspect(Path(litellm).parents[1].resolve()) == before
