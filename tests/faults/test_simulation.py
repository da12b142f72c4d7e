"""Twenty thousand simulated schedules of exports, and two thousand of tasks. ``make soak`` runs a million of both.

``SEEDS=from:to`` selects some of both kinds.

``OFF`` lists weakenings to disable, separated by commas.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.deliveries import DELIVERIES
from tests.faults.simulation import World, add, format_figures, run, survey, trace
from tests.faults.task_simulation import TaskWorld
from tests.faults.weakenings import TASK_WEAKENINGS, WEAKENINGS

WORLDS = {"exports": (World, "0:20000"), "tasks": (TaskWorld, "0:2000")}
"""each kind of job, with the seeds that run by default"""
OFF = frozenset(filter(None, os.environ.get("OFF", "").split(",")))
PAGE = Path(__file__).parents[2] / "docs" / "assumptions.md"

pytestmark = pytest.mark.timeout(1800)


def _parts():
    """Return the schedules of each kind in parts that several processes can share."""
    for name, (_, seeds) in WORLDS.items():
        first, last = (int(part) for part in os.environ.get("SEEDS", seeds).split(":"))
        step = min(max((last - first) // 8, 1), 10_000)
        for start in range(first, last, step):
            yield pytest.param(name, start, min(start + step, last), id=f"{name}-{start}")


@pytest.fixture(scope="module")
def totals():
    """The figures of all parts that this process runs, by kind, printed at the end."""
    figures = {name: Counter() for name in WORLDS}
    yield figures
    for name, counts in figures.items():
        print(f"\n{name}: {format_figures(counts)}")


@pytest.mark.parametrize(("name", "first", "last"), [*_parts()])
def test_no_schedule_violates_an_invariant(name, first, last, clock, totals):
    figures, violation = survey(range(first, last), clock, off=OFF, world_class=WORLDS[name][0])
    print(f"\n{name}, seeds {first}:{last}: {format_figures(figures)}", flush=True)
    add(totals[name], figures)
    if violation:
        raise violation


@pytest.mark.parametrize("name", WORLDS)
def test_a_schedule_is_a_function_of_its_seed(name, clock):
    world = WORLDS[name][0]
    for seed in range(20):
        first, second = (run(seed, clock, world_class=world)[0] for _ in range(2))
        assert trace(first) == trace(second)


def test_the_docs_have_a_row_for_each_weakening():
    rows = re.findall(r"^\| \*\*(.+?)\*\*", PAGE.read_text(), re.MULTILINE)
    assert rows == [*WEAKENINGS, *(name for name in TASK_WEAKENINGS if name not in WEAKENINGS)]


def test_what_is_named_is_a_weakening():
    assert {*DELIVERIES} <= {*WEAKENINGS}
    assert {*OFF} <= {*WEAKENINGS, *TASK_WEAKENINGS}
