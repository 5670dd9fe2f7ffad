"""That they still fit the code: their numbers are a matter of `make bench`."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _found(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__main__")
)
def test_each_can_be_imported(name):
    assert importlib.import_module(f"benchmarks.{name}") is sys.modules[f"benchmarks.{name}"]


def test_the_page_that_is_scraped_is_of_a_whole_daemon():
    from benchmarks.metrics import page

    text, _ = page().render("")
    assert b'ccproxy_model_healthy{model="model-19"}' in text
    assert b'ccproxy_worker_threads{slot="3"} 20.0' in text


def test_the_log_path_is_measured_whole(tmp_path):
    from benchmarks.logs import LINE, expected_checksum, sink

    size = 2_000_000 // LINE * LINE
    run = sink(tmp_path, size, expected_checksum(size))
    assert run.lost == 0
    assert run.rate > 0
