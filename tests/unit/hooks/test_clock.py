from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from airflow_sb_provider.hooks.clock import PlatformClock

NOW = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch):
    """A clock on a machine whose own time stands still."""
    monkeypatch.setattr("airflow_sb_provider.hooks.clock.time.time", lambda: NOW)
    return PlatformClock()


def date(seconds):
    return {"Date": format_datetime(datetime.fromtimestamp(NOW + seconds, UTC), usegmt=True)}


def test_before_the_first_response_it_is_this_machines_time(clock):
    assert clock.now() == NOW
    assert not clock.has_heard


@pytest.mark.parametrize("ahead", [600.0, -600.0, 86_400.0])
def test_it_is_the_platforms_time_after_a_response(clock, ahead):
    clock.update(date(ahead))
    assert clock.now() == NOW + ahead
    assert clock.has_heard


@pytest.mark.parametrize("ahead", [0.0, -1.0, 1.0, 2.0])
def test_whole_seconds_and_the_time_on_the_way_make_no_difference(clock, ahead):
    clock.update(date(ahead))
    assert clock.now() == NOW


def test_a_clock_that_is_set_right_counts_from_then_on(clock):
    clock.update(date(600))
    clock.update(date(599))
    assert clock.now() == NOW + 600
    clock.update(date(0))
    assert clock.now() == NOW


@pytest.mark.parametrize("headers", [{}, {"Date": ""}, {"Date": "soon"}, {"Date": "Thu, 99 Nov 2026 14:00:00 GMT"}])
def test_a_response_without_a_date_changes_nothing(clock, headers):
    clock.update(date(600))
    clock.update(headers)
    assert clock.now() == NOW + 600
