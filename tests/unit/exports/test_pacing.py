from __future__ import annotations

import pytest

from airflow_sb_provider.api.models import RateLimit
from airflow_sb_provider.exports.pacing import seconds_before_next


@pytest.mark.parametrize("rate", [None, RateLimit(), RateLimit(1000, None, 300), RateLimit(1000, 500, None)])
def test_without_headers_nothing_waits(rate):
    assert seconds_before_next(rate, 0.0, 100.0) == 0


def test_as_long_as_what_is_wanted_fits_nothing_waits():
    assert seconds_before_next(RateLimit(1000, 1000, 300), 0.0, 3.0) == 0


def test_what_does_not_fit_is_spread_and_leaves_a_tenth_for_submissions():
    assert seconds_before_next(RateLimit(1000, 1000, 300), 0.0, 10.0) == pytest.approx(300 / 900)
    assert seconds_before_next(RateLimit(1000, 200, 300), 200.0, 10.0) == pytest.approx(1.0)


@pytest.mark.parametrize("remaining", [0, 50, 100])
def test_the_tenth_itself_is_not_touched(remaining):
    assert seconds_before_next(RateLimit(1000, remaining, 300), 250.0, 0.01) == 50


def test_a_window_that_is_over_says_nothing():
    assert seconds_before_next(RateLimit(1000, 0, 300), 301.0, 10.0) == 0
