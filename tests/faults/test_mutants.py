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

EXPORTS = (("one", {"many": False}), ("many", {"many": True}))
TASKS = (("task", {"world_class": TaskWorld}),)
CASES = [
    pytest.param(mutant, options, seed, id=f"{name}-{which}")
    for mutants, populations in ((MUTANTS, EXPORTS), (TASK_MUTANTS, TASKS))
    for name, mutant in mutants.items()
    for (which, options), seed in zip(populations, mutant.seeds, strict=True)
    if seed is not None
]


def test_a_rule_that_need_not_be_broken_everywhere_says_why():
    assert [
        mutant.name for mutant in [*MUTANTS.values(), *TASK_MUTANTS.values()] if None in mutant.seeds and not mutant.why
    ] == []


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
