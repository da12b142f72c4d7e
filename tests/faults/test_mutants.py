"""That the simulation can fail: every broken rule is noticed, for one export, for many, and for tasks."""

from __future__ import annotations

import pytest

from tests.faults.mutants import MUTANTS
from tests.faults.simulation import run
from tests.faults.task_mutants import TASK_MUTANTS
from tests.faults.task_simulation import TaskWorld

pytestmark = pytest.mark.timeout(600)
# Where the known seed does not notice any more, so many others are tried.
SEARCHED = 3000

CASES = [
    pytest.param(mutant, {"many": bool(place)}, seed, id=f"{name}-{'many' if place else 'one'}")
    for name, mutant in MUTANTS.items()
    for place, seed in enumerate(mutant.seeds)
    if seed is not None
]
CASES += [
    pytest.param(mutant, {"world_class": TaskWorld}, mutant.seeds[0], id=f"{name}-task")
    for name, mutant in TASK_MUTANTS.items()
]


def test_a_rule_that_need_not_be_broken_for_both_says_why():
    assert [mutant.name for mutant in MUTANTS.values() if None in mutant.seeds and not mutant.why] == []


@pytest.mark.parametrize(("mutant", "options", "seed"), CASES)
def test_a_broken_rule_is_noticed(mutant, options, seed, clock, monkeypatch, capsys):
    for tried in (seed, *range(SEARCHED)):
        with monkeypatch.context() as context:
            mutant.patch(context.setattr)
            _, violation = run(tried, clock, only=mutant.needs, **options)
        # What breaks without the mutant too shows nothing.
        if violation and run(tried, clock, only=mutant.needs, **options)[1] is None:
            break
    else:
        pytest.fail(f"{SEARCHED} schedules did not notice that {mutant.name}")
    with capsys.disabled():
        print(f"\n  {mutant.name}: seed {tried}: {str(violation)[:150]}", end="")
