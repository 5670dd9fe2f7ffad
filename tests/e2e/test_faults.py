"""Random faults under load, few enough for every day; `make soak` is the long run. `SOAK_SEED` draws others."""

import os

import pytest

import soak

SEED = int(os.environ.get("SOAK_SEED", "7"))


def check(report, faults):
    print(*report.lines(), sep="\n")
    assert report.count == faults
    assert report.requests > 100
    assert report.unexplained == []
    before, after = report.growth["descriptors"]
    assert after < before + 12  # the pipes of workers that are coming and going


def test_forty_random_faults_lose_nothing_but_what_was_inside_killed_workers():
    check(soak.soak(40, 100, SEED), 40)


@pytest.mark.xdist_group("litellm-2")
def test_the_real_litellm_loses_no_more(litellm):
    check(soak.soak(8, 60, SEED, litellm, rate=5.0), 8)
