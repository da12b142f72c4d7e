"""`make cluster` reports the figures that are not as required."""

from __future__ import annotations

import pytest

from dev.cluster import failed_checks, table

GOOD = {
    "mapped tasks": 2,
    "files of the bulk task": 100,
    "tasks that succeeded": 3,
    "tasks": 3,
    "runs": {"mapped": "success", "bulk": "success"},
    "tasks that needed another try": 1,
    "jobs at the Platform": 102,
    "jobs that completed": 102,
    "duplicates": 0,
    "lost": 0,
    "requests": 50,
    "answered 429": 0,
    "killed": {"a worker": ("worker-1", 3, 4)},
}


def test_no_check_fails_when_all_figures_are_right():
    assert failed_checks(GOOD) == []
    assert "| killed: a worker | worker-1 at 3 s, restarted at 4 s |" in table(GOOD)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tasks that succeeded", 2),
        ("tasks", 1),
        ("runs", {"mapped": "success", "bulk": "failed"}),
        ("runs", {"mapped": "success"}),
        ("jobs at the Platform", 103),
        ("jobs that completed", 101),
        ("duplicates", 1),
        ("lost", 1),
        ("answered 429", 1),
        ("killed", {"a worker": ("worker-1", 3, None)}),
        ("killed", {"a worker": ("", None, None)}),
    ],
)
def test_each_wrong_figure_fails_a_check(name, value):
    assert len(failed_checks(GOOD | {name: value})) == 1
