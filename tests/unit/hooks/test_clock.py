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


def test_before_the_first_response_the_clock_shows_local_time(clock):
    assert clock.now() == NOW
    assert not clock.has_heard


@pytest.mark.parametrize("ahead", [600.0, -600.0, 86_400.0])
def test_after_a_response_the_clock_shows_platform_time(clock, ahead):
    clock.update(date(ahead))
    assert clock.now() == NOW + ahead
    assert clock.has_heard


@pytest.mark.parametrize("ahead", [0.0, -1.0, 1.0, 2.0])
def test_rounding_and_latency_of_the_date_header_are_ignored(clock, ahead):
    clock.update(date(ahead))
    assert clock.now() == NOW


def test_a_corrected_platform_clock_applies_from_its_next_response(clock):
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
