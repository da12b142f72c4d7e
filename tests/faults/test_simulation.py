"""Twenty thousand schedules of trouble. ``make soak`` runs a million; ``SEEDS=from:to`` replays some."""

from __future__ import annotations

import os

import pytest

from tests.faults.airflow import count_ends
from tests.faults.simulation import World

pytestmark = pytest.mark.timeout(1800)
FIRST, LAST = (int(part) for part in os.environ.get("SEEDS", "0:20000").split(":"))


def test_no_schedule_breaks_an_invariant(clock):
    ends = count_ends(World, range(FIRST, LAST), clock)
    print(f"{LAST - FIRST} schedules, tasks ended as {ends}")
