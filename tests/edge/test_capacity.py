import shutil

from ccproxy_supervisor.edge.capacity import Capacity
from scraped import samples


def test_the_disk_that_is_left_and_the_limit_of_memory_are_told(tmp_path):
    told = samples(Capacity(lambda: tmp_path, lambda: 2 << 30))

    assert told["ccproxy_worker_memory_limit_bytes"] == 2 << 30
    assert 0 < told["ccproxy_disk_free_bytes{path=logs}"] <= shutil.disk_usage(tmp_path).total


def test_no_limit_and_no_folder_mean_no_sample(tmp_path):
    assert samples(Capacity(lambda: tmp_path / "gone", lambda: None)) == {}
