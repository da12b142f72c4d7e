"""That the simulation can fail: every broken rule is noticed within the schedules that ``make test`` runs."""

from __future__ import annotations

import pytest

from tests.faults.airflow import first_violation
from tests.faults.mutants import MUTANTS
from tests.faults.simulation import World

pytestmark = pytest.mark.timeout(600)
SEEDS = 20_000


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name, clock, monkeypatch, capsys):
    MUTANTS[name](monkeypatch.setattr)
    violation = first_violation(World, range(SEEDS), clock)
    assert violation, f"{SEEDS} schedules did not notice that {name}"
    with capsys.disabled():
        print(f"\n  {name}: {violation}", end="")
