"""`make cluster` tells what is not as it must be."""

from __future__ import annotations

import pytest

from dev.cluster import misses, table

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


def test_nothing_is_missed_where_all_is_well():
    assert misses(GOOD) == []
    assert "| killed: a worker | worker-1 at 3 s, replaced at 4 s |" in table(GOOD)


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
def test_each_figure_that_is_wrong_is_missed(name, value):
    assert len(misses(GOOD | {name: value})) == 1
