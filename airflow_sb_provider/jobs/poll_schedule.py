"""When to poll which jobs of one kind, so that all that wait share as few requests as can be."""

from __future__ import annotations

import heapq
from collections import deque

from airflow_sb_provider.api.calls import BULK_LIMIT

FIRST_POLL = 5.0


class PollSchedule:
    """The ids that are waited for, and when each is to be asked for next. Times are of one clock, in seconds.

    A request that has room takes new ids along, then those that would be due in the next half of their interval. New
    ones must wait for `FIRST_POLL` seconds, since Airflow 3.3 may lose an event that comes right after a deferral
    (apache/airflow#72716).
    """

    def __init__(self) -> None:
        self._intervals: dict[str, float] = {}
        # What the queues say of an id that is another time than this is outdated.
        self._due: dict[str, float] = {}
        self._new: deque[tuple[float, float, str]] = deque()
        self._known: list[tuple[float, str]] = []
        self.wanted = 0.0
        """How many ids are to be asked for in a second."""
        self.cycle = 0.0
        """How long before the latest request its first id had been asked for."""

    def add(self, job_id: str, interval: float, now: float) -> None:
        """Poll an id from now on; one that is there already, once in the shorter of the intervals.

        A young job is polled sooner than after a whole interval, since short ones end then: by a request of its
        own as long as few wait, else as soon as a request has room, so that this costs none.
        """
        before = self._intervals.get(job_id)
        if before is not None and before <= interval:
            return
        self._intervals[job_id] = interval
        self.wanted += 1 / interval - (1 / before if before else 0)
        if before is None:
            early = min(FIRST_POLL, interval)
            # A little later than early, so that those that come one after another share a request.
            latest = 1.25 * early if len(self._intervals) <= BULK_LIMIT else interval
            self._due[job_id] = now + early
            self._new.append((now + early, now + max(early, latest), job_id))

    def asked(self, job_id: str, when: float) -> None:
        """Plan an id again that was asked for at ``when``."""
        self._plan(job_id, when + self._intervals[job_id])

    def hurry(self, job_id: str, now: float) -> None:
        """Ask for an id at once, unless it is being asked for."""
        if job_id in self._due:
            self._plan(job_id, now)

    def drop(self, job_id: str) -> None:
        """Ask for an id no more."""
        self._due.pop(job_id, None)
        if interval := self._intervals.pop(job_id, None):
            self.wanted = self.wanted - 1 / interval if self._intervals else 0.0

    @property
    def next_at(self) -> float | None:
        """When the next request is due; None if nothing is planned."""
        self._forget_outdated()
        times = [self._known[0][0]] if self._known else []
        if self._new:
            times.append(self._new[0][1])
        return min(times, default=None)

    def take(self, now: float) -> list[str]:
        """Return at most a hundred ids to ask for now; each is away until it is planned again."""
        taken: list[str] = []
        while len(taken) < BULK_LIMIT:
            self._forget_outdated()
            is_due = bool(self._known) and self._known[0][0] <= now
            if self._new and self._new[0][0] <= now and not (is_due and self._known[0][0] < self._new[0][1]):
                job_id = self._new.popleft()[2]
            elif self._known and self._known[0][0] <= now + self._intervals[self._known[0][1]] / 2:
                due, job_id = heapq.heappop(self._known)
                self.cycle = self.cycle if taken else now - due + self._intervals[job_id]
            else:
                break
            del self._due[job_id]
            taken.append(job_id)
        return taken

    def _plan(self, job_id: str, due: float) -> None:
        self._due[job_id] = due
        heapq.heappush(self._known, (due, job_id))

    def _forget_outdated(self) -> None:
        while self._new and self._due.get(self._new[0][2]) != self._new[0][0]:
            self._new.popleft()
        while self._known and self._due.get(self._known[0][1]) != self._known[0][0]:
            heapq.heappop(self._known)
