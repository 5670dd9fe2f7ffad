"""Growth per hour."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_supervisor.core.trend import Trend, slope


def test_a_line_is_measured_exactly():
    assert slope([(0, 100), (1800, 150), (3600, 200)]) == pytest.approx(100)


@pytest.mark.parametrize("samples", [[], [(5, 1)], [(5, 1), (5, 9)]])
def test_no_time_no_slope(samples):
    assert slope(samples) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(-1e6, 1e6))
def test_where_a_line_begins_does_not_matter(start, base, growth):
    samples = [(start + 60 * step, base + growth * step / 60) for step in range(12)]

    assert slope(samples) == pytest.approx(growth, abs=1)


def test_a_start_is_no_trend():
    trend = Trend(spacing=60)
    for step in range(9):
        trend.add(step * 60, 10**8 * step)

    assert trend.slope() is None
    trend.add(540, 9 * 10**8)
    assert trend.slope() == pytest.approx(60 * 10**8)


def test_samples_are_spaced_and_bounded():
    trend = Trend(size=3, spacing=60)
    for at in range(0, 600, 10):
        trend.add(at, at)

    assert trend.samples == ((420, 420), (480, 480), (540, 540))
