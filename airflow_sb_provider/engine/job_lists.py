"""The Platform's lists of jobs, read so that a job that is missed is noticed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.api.job import Job
from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

J = TypeVar("J", bound=Job)

MAX_PAGES = 50
_OVERLAP = 10


class JobLists(Generic[J]):
    """The lists of jobs that checks need, kept for the checks that follow.

    :param hook: sends each request once: whoever checks repeats the whole check.
    :param page_at: the call for a page of the jobs in a state, at an offset.
    :param states: the states in which a job is in flight, in the order in which jobs travel.
    :param completed: the state of a job that succeeded.
    """

    def __init__(
        self,
        hook: SevenBridgesHook,
        page_at: Callable[[str, int], Call[Page[J]]],
        states: Sequence[str],
        completed: str,
    ) -> None:
        self._hook = hook
        self._page_at = page_at
        self._states = states
        self._completed = completed
        self._kept: dict[tuple[str, ...], tuple[float, list[J], bool]] = {}

    def in_flight(self, since: float) -> tuple[list[J], bool]:
        """Return the jobs in flight, and whether none can have been missed.

        :param since: the list must be younger, in seconds of this process's `time.monotonic`.
        """
        return self._list(tuple(self._states), since)

    def history(self, since: float) -> tuple[list[J], bool]:
        """Return the completed jobs, and whether none can have been missed; ``since`` as above.

        All of them, since only the newest job to a place tells whose object is there.
        """
        return self._list((self._completed,), since)

    def _list(self, states: tuple[str, ...], since: float) -> tuple[list[J], bool]:
        kept = self._kept.get(states)
        if kept is None or kept[0] <= since:
            listed_at = time.monotonic()
            jobs: dict[str, J] = {}
            complete = True
            for state in states:
                # In the order in which jobs travel: one that moves on meanwhile is in the later list.
                found, all_of_them = list_jobs(self._hook, self._page_at, state)
                jobs.update((job.id, job) for job in found)
                complete = complete and all_of_them
            self._kept[states] = kept = listed_at, list(jobs.values()), complete
        return kept[1], kept[2]


def list_jobs(hook: SevenBridgesHook, page_at: Callable[[str, int], Call[Page[J]]], state: str) -> tuple[list[J], bool]:
    """Return the jobs in a state, and whether none can have been missed.

    Lists are in no documented order and change while they are read. One page misses nothing. Several miss nothing if
    each goes on where the one before ended, or if the number of jobs stayed the same and all were seen. A list that
    shows fewer jobs than its total says is incomplete, whatever its links say.
    """
    seen: dict[str, J] = {}
    offset, previous, in_order = 0, list[str](), True
    totals: set[int | None] = set()
    for _ in range(MAX_PAGES):
        page: Page[Any] = hook.send(page_at(state, offset), retry=False)
        ids = [job.id for job in page.items]
        in_order = in_order and (not previous or _goes_on(previous, ids))
        previous = ids
        totals.add(page.total)
        # A job may move on while the list is made, or be listed late: its own state is the newer one.
        seen.update((job.id, job) for job in page.items)
        if not page.items or not has_next(page, hook.settings.endpoint):
            all_seen = page.total is None or page.total <= len(seen)
            return list(seen.values()), all_seen and (in_order or totals == {len(seen)})
        # Pages overlap, since a list that shrinks while it is read moves items to earlier pages.
        offset += max(len(page.items) - _OVERLAP, 1)
    return list(seen.values()), False


def _goes_on(previous: Sequence[str], ids: Sequence[str]) -> bool:
    """Whether a page begins with the end of the one before it."""
    common = set(previous) & set(ids)
    return bool(common) and list(ids[: len(common)]) == [each for each in previous if each in common]
