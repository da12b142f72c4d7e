"""Read the Platform's lists of jobs, and detect whether a job may have been missed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from airflow_sb_provider.hooks.sevenbridges import has_next

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.api.models import Page
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


class Listed(Protocol):
    """What a list needs of its items."""

    @property
    def id(self) -> str:
        """The Platform's id."""


J = TypeVar("J", bound=Listed)

MAX_PAGES = 50
_OVERLAP = 10


class JobLists(Generic[J]):
    """The lists of jobs that checks need, cached for the next checks.

    :param hook: sends each request once: the caller retries the whole check.
    :param page_at: the call for a page of the jobs in a state, at an offset.
    :param states: the states in which a job is in flight, in their order.
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
        self._cached: dict[tuple[str, ...], tuple[float, list[J], bool]] = {}

    def in_flight(self, since: float) -> tuple[list[J], bool]:
        """Return the jobs in flight, and whether the list is certainly complete.

        :param since: the list must be newer, in seconds of this process's `time.monotonic`.
        """
        return self._list(tuple(self._states), since)

    def history(self, since: float) -> tuple[list[J], bool]:
        """Return all completed jobs, and whether the list is certainly complete; ``since`` as above.

        All are needed, since only the newest job to a place shows whose object is there.
        """
        return self._list((self._completed,), since)

    def _list(self, states: tuple[str, ...], since: float) -> tuple[list[J], bool]:
        cached = self._cached.get(states)
        if cached is None or cached[0] <= since:
            listed_at = time.monotonic()
            jobs: dict[str, J] = {}
            complete = True
            for state in states:
                # In the order of the states: a job that changes its state meanwhile is found in the later list.
                state_jobs, is_complete = list_jobs(self._hook, self._page_at, state)
                jobs.update((job.id, job) for job in state_jobs)
                complete = complete and is_complete
            self._cached[states] = cached = listed_at, list(jobs.values()), complete
        return cached[1], cached[2]


def list_jobs(hook: SevenBridgesHook, page_at: Callable[[str, int], Call[Page[J]]], state: str) -> tuple[list[J], bool]:
    """Return the jobs in a state, and whether the list is certainly complete.

    Lists have no documented order and change while they are read. One page is complete. Several are complete if each
    continues where the one before ended, or if the number of jobs stayed the same and all were read. A list with fewer
    jobs than its total is incomplete, whatever its links say; so are several pages without a total.
    """
    seen: dict[str, J] = {}
    offset, previous, in_order = 0, list[str](), True
    totals: set[int | None] = set()
    for _ in range(MAX_PAGES):
        page: Page[Any] = hook.send(page_at(state, offset), retry=False)
        ids = [job.id for job in page.items]
        in_order = in_order and (not previous or _is_contiguous(previous, ids))
        previous = ids
        totals.add(page.total)
        # A job may change its state while the list is made, or be listed late: its own state is the newer one.
        seen.update((job.id, job) for job in page.items)
        if not page.items or not has_next(page, hook.settings.endpoint):
            if totals == {None}:
                # Without totals, nothing shows that a job has moved to a page that was read already.
                return list(seen.values()), offset == 0
            all_seen = page.total is None or page.total <= len(seen)
            return list(seen.values()), all_seen and (in_order or totals == {len(seen)})
        # Pages overlap, since a list that shrinks while it is read moves items to earlier pages.
        offset += max(len(page.items) - _OVERLAP, 1)
    return list(seen.values()), False


def _is_contiguous(previous: Sequence[str], ids: Sequence[str]) -> bool:
    """Whether a page begins with the end of the one before it."""
    common = set(previous) & set(ids)
    return bool(common) and list(ids[: len(common)]) == [job_id for job_id in previous if job_id in common]
