"""Twenty thousand simulated schedules. ``make soak`` runs a million; ``SEEDS=from:to`` selects some.

``OFF`` lists weakenings to disable, separated by commas.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.network import DELIVERIES
from tests.faults.simulation import add, format_figures, run, survey, trace
from tests.faults.weakenings import WEAKENINGS

FIRST, LAST = (int(part) for part in os.environ.get("SEEDS", "0:20000").split(":"))
OFF = frozenset(filter(None, os.environ.get("OFF", "").split(",")))
# Parts that several processes can share.
STEP = min(max((LAST - FIRST) // 8, 1), 10_000)
PAGE = Path(__file__).parents[2] / "docs" / "assumptions.md"

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def totals():
    """The figures of all parts that this process runs, printed at the end."""
    figures: Counter[str] = Counter()
    yield figures
    print(f"\nseeds {FIRST}:{LAST}: {format_figures(figures)}")


@pytest.mark.parametrize("first", range(FIRST, LAST, STEP))
def test_no_schedule_violates_an_invariant(first, clock, totals):
    last = min(first + STEP, LAST)
    figures, violation = survey(range(first, last), clock, off=OFF)
    print(f"\nseeds {first}:{last}: {format_figures(figures)}", flush=True)
    add(totals, figures)
    if violation:
        raise violation


def test_a_schedule_is_a_function_of_its_seed(clock):
    for seed in range(20):
        assert trace(run(seed, clock)[0]) == trace(run(seed, clock)[0])


def test_the_docs_have_a_row_for_each_weakening():
    rows = re.findall(r"^\| \*\*(.+?)\*\*", PAGE.read_text(), re.MULTILINE)
    assert rows == list(WEAKENINGS)


def test_what_is_named_is_a_weakening():
    assert {*OFF, *DELIVERIES} <= {*WEAKENINGS}
