"""When a list of jobs is certainly complete."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_sb_provider.api.models import Page
from airflow_sb_provider.engine.job_lists import list_jobs

ENDPOINT = "https://api.example.com/v2/"
PAGE = 30


class Lists:
    """A Platform that returns its jobs in pages; ``changes`` are made before the page of that number."""

    def __init__(self, count, *, shows_total, changes=None):
        self.jobs = [f"job{n}" for n in range(count)]
        self.shows_total = shows_total
        self.changes = changes or {}
        self.number = 0
        self.settings = SimpleNamespace(endpoint=ENDPOINT)

    def send(self, offset, *, retry):
        self.changes.get(self.number, lambda jobs: None)(self.jobs)
        self.number += 1
        items = [SimpleNamespace(id=job) for job in self.jobs[offset : offset + PAGE]]
        more = f"{ENDPOINT}storage/exports?offset={offset + PAGE}" if offset + PAGE < len(self.jobs) else None
        return Page(items, len(self.jobs) if self.shows_total else None, more)

    def listed(self):
        jobs, is_complete = list_jobs(self, lambda state, offset: offset, "RUNNING")
        return {job.id for job in jobs}, is_complete


def to_the_front(jobs):
    jobs.insert(0, jobs.pop())


def one_ends(jobs):
    del jobs[5]


def one_ends_and_one_moves(jobs):
    one_ends(jobs)
    to_the_front(jobs)


@pytest.mark.parametrize("shows_total", [True, False], ids=["with a total", "without a total"])
def test_one_page_is_complete(shows_total):
    assert Lists(PAGE, shows_total=shows_total).listed() == ({f"job{n}" for n in range(PAGE)}, True)


@pytest.mark.parametrize("change", [None, one_ends])
def test_several_pages_in_order_are_complete_with_their_total(change):
    lists = Lists(75, shows_total=True, changes={1: change} if change else {})
    seen, is_complete = lists.listed()
    assert is_complete
    assert seen >= {*lists.jobs}


@pytest.mark.parametrize(
    ("change", "shows_total"),
    [(to_the_front, True), (to_the_front, False), (one_ends_and_one_moves, False)],
    ids=["with a total", "without a total", "while another ends, without a total"],
)
def test_a_list_in_which_a_job_moves_to_a_page_that_was_read_already_is_not_complete(change, shows_total):
    lists = Lists(75, shows_total=shows_total, changes={1: change})
    seen, is_complete = lists.listed()
    assert not seen >= {*lists.jobs}
    assert not is_complete
