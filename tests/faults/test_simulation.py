"""Twenty thousand schedules of trouble. ``make soak`` runs a million; ``SEEDS=from:to`` replays some."""

from __future__ import annotations

import os

import pytest

from tests.faults.platform import Violation
from tests.faults.simulation import World

pytestmark = pytest.mark.timeout(1800)
FIRST, LAST = (int(part) for part in os.environ.get("SEEDS", "0:20000").split(":"))


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
