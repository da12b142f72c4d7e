"""Thousands of schedules of trouble for bulk exports. ``make soak`` runs more; ``SEEDS=from:to`` replays some."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from tests.faults.bulk_simulation import CLOCKED, SMALL, World
from tests.faults.platform import Violation

pytestmark = pytest.mark.timeout(1800)
FIRST, LAST = (int(part) for part in os.environ.get("SEEDS", "0:3000").split(":"))


@pytest.fixture
def clock(monkeypatch):
    """The simulated world's clock, and a small world."""
    clock = SimpleNamespace(world=None)
    fake = SimpleNamespace(
        time=lambda: clock.world.platform.now, sleep=lambda seconds: clock.world.running.sleep(seconds)
    )
    for module in CLOCKED:
        monkeypatch.setattr(f"airflow_sb_provider.{module}.time", fake)
    for name, size in SMALL.items():
        monkeypatch.setattr(f"airflow_sb_provider.{name}", size)
    return clock


def run(seed, clock):
    world = World(seed, clock)
    try:
        world.run()
    except Violation as violation:
        violation.add_note(f"replay with SEEDS={seed}:{seed + 1}")
        violation.add_note("\n".join(world.platform.history))
        raise
    return world


def test_no_schedule_breaks_an_invariant(clock):
    ends = {"success": 0, "failed": 0}
    for seed in range(FIRST, LAST):
        for task in run(seed, clock).tasks:
            ends[task.state] += 1
    print(f"{LAST - FIRST} schedules, tasks ended as {ends}")
