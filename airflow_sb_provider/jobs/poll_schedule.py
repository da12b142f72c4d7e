"""When to poll which jobs of one kind, in as few requests as possible."""

from __future__ import annotations

import heapq
from collections import deque

from airflow_sb_provider.api.calls import BULK_LIMIT

FIRST_POLL = 5.0


class PollSchedule:
    """The polled ids and when each is due next. Times are seconds of one clock.

    A request with free space also takes new ids, then ids that are due within half of their interval. New ids wait for
    at least `FIRST_POLL` seconds, because Airflow 3.3 may lose an event that comes right after a deferral
    (apache/airflow#72716).
    """

    def __init__(self) -> None:
        self._intervals: dict[str, float] = {}
        # When each id is due; an entry of the two queues with another time than this is outdated.
        self._due: dict[str, float] = {}
        self._new: deque[tuple[float, float, str]] = deque()
        self._planned: list[tuple[float, str]] = []
        self.ids_per_second = 0.0
        """How many ids need a poll per second."""
        self.observed_interval = 0.0
        """The time between the last two polls of the first id of the latest request."""

    def add(self, job_id: str, interval: float, now: float) -> None:
        """Poll an id from now on, at the shortest of the intervals it was added with.

        New jobs get an early first poll because short jobs finish quickly. While few jobs are polled this may cost an
        extra request; otherwise new ids only fill up requests that are sent anyway.
        """
        before = self._intervals.get(job_id)
        if before is not None and before <= interval:
            return
        self._intervals[job_id] = interval
        self.ids_per_second += 1 / interval - (1 / before if before else 0)
        if before is None:
            early = min(FIRST_POLL, interval)
            # A little later than `early`, so that jobs added one after another share a request.
            latest = 1.25 * early if len(self._intervals) <= BULK_LIMIT else interval
            self._due[job_id] = now + early
            self._new.append((now + early, now + max(early, latest), job_id))

    def mark_polled(self, job_id: str, when: float) -> None:
        """Plan the next poll of an id that was polled at ``when``."""
        self._plan(job_id, when + self._intervals[job_id])

    def poll_now(self, job_id: str, now: float) -> None:
        """Make an id due immediately, unless its request is under way."""
        if job_id in self._due:
            self._plan(job_id, now)

    def drop(self, job_id: str) -> None:
        """Stop polling an id."""
        self._due.pop(job_id, None)
        if interval := self._intervals.pop(job_id, None):
            self.ids_per_second = self.ids_per_second - 1 / interval if self._intervals else 0.0

    @property
    def next_at(self) -> float | None:
        """When the next request is due; None if nothing is planned."""
        self._drop_outdated()
        times = [self._planned[0][0]] if self._planned else []
        if self._new:
            times.append(self._new[0][1])
        return min(times, default=None)

    def next_batch(self, now: float) -> list[str]:
        """Return at most a hundred ids to poll now; each is left out until `mark_polled` plans it again."""
        batch: list[str] = []
        while len(batch) < BULK_LIMIT:
            self._drop_outdated()
            is_due = bool(self._planned) and self._planned[0][0] <= now
            if self._new and self._new[0][0] <= now and not (is_due and self._planned[0][0] < self._new[0][1]):
                job_id = self._new.popleft()[2]
            elif self._planned and self._planned[0][0] <= now + self._intervals[self._planned[0][1]] / 2:
                due, job_id = heapq.heappop(self._planned)
                self.observed_interval = self.observed_interval if batch else now - due + self._intervals[job_id]
            else:
                break
            del self._due[job_id]
            batch.append(job_id)
        return batch

    def _plan(self, job_id: str, due: float) -> None:
        self._due[job_id] = due
        heapq.heappush(self._planned, (due, job_id))

    def _drop_outdated(self) -> None:
        while self._new and self._due.get(self._new[0][2]) != self._new[0][0]:
            self._new.popleft()
        while self._planned and self._due.get(self._planned[0][1]) != self._planned[0][0]:
            heapq.heappop(self._planned)
