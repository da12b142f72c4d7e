"""Which exports to a volume have completed: what to ask for next, what is new, and what may be forgotten.

The Platform lists completed jobs in no documented order, and the list changes while it is read. A cycle reads its
first and its last page, where a list in order of time puts what is new, and goes on with a sweep of all of it, a few
pages at a time. Times are in whole epoch seconds of the Platform's clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.calls import PAGE_LIMIT, POLL, Call, list_exports
from airflow_sb_provider.api.models import ExportState
from airflow_sb_provider.exports.outcome import ExportOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider.api.models import ExportJob, Page, Volume

# Jobs that two pages of a sweep share, so that a list that shifts between them is noticed.
OVERLAP = 10
SWEEP_PAGES = 4
# What is new goes on beyond the first or the last page: so many more in a cycle.
FOLLOWING_PAGES = 4
MOST_PAGES = 2 + SWEEP_PAGES + FOLLOWING_PAGES
# A sweep that does not find where it was in so many pages begins again.
LOST_PAGES = 20
# How late after it finished a job may come to be listed as completed.
SLACK = 15 * 60
# Exports that are told at a time: 50 KB, since an event is also logged.
TOLD_TOGETHER = 200
# Ids under one key of Airflow's store: 48 KB, of the 64 KB that a value may have.
IDS_TOGETHER = 1000


def completed_exports(volume: str, offset: int) -> Call[tuple[Page[ExportJob], int | None]]:
    """Return the request for a page of the completed exports to a volume; its answer also tells the Platform's time."""
    call = list_exports(volume, [ExportState.COMPLETED], offset=offset)

    def read(body: Any, headers: Mapping[str, str]) -> tuple[Page[ExportJob], int | None]:
        try:
            date = math.floor(parsedate_to_datetime(headers.get("Date", "")).timestamp())
        except (ValueError, OverflowError):
            date = None
        return call.read(body, headers), date

    return Call(call.method, call.path, read, call.query, objects=call.objects, bounds=POLL)


def export_event(job: ExportJob, volume: Volume) -> dict[str, Any]:
    """Return what is told of a completed export; ``size`` and ``uri`` are None where the Platform does not tell."""
    return ExportOutcome.of_job(job, volume).to_event()


@dataclass
class Cursor:
    """What has been announced: everything that finished before ``since``, and of the rest the ids in ``pages``.

    It is kept as values under several keys: a head under the key ``""``, and each page under its number.
    """

    since: int
    pages: dict[int, dict[str, int]] = field(default_factory=dict)
    _next_page: int = 1
    _unsaved: set[int] = field(default_factory=set)
    _dropped: set[int] = field(default_factory=set)
    _head_saved: bool = False

    def __contains__(self, export_id: str) -> bool:
        return any(export_id in page for page in self.pages.values())

    def add(self, announced: Mapping[str, int]) -> None:
        """Remember what has been announced, with when each had finished."""
        for export_id, finished in announced.items():
            number = self._next_page - 1
            if number not in self.pages or len(self.pages[number]) >= IDS_TOGETHER:
                number, self._next_page, self._head_saved = self._next_page, self._next_page + 1, False
                self.pages[number] = {}
            self.pages[number][export_id] = finished
            self._unsaved.add(number)

    def advance(self, since: int) -> None:
        """Forget the ids of what finished before that: all of it has been announced."""
        if since <= self.since:
            return
        self.since, self._head_saved = since, False
        for number, page in list(self.pages.items()):
            if all(finished < since for finished in page.values()):
                del self.pages[number]
                self._unsaved.discard(number)
                self._dropped.add(number)

    def changes(self) -> list[tuple[str, Any]]:
        """Return what to write since the last `saved`, in this order: keys and values, None to delete.

        Whatever is cut short, the cursor that can be read claims nothing that was not announced.
        """
        pages = [(str(number), self.pages[number]) for number in sorted(self._unsaved)]
        head = [] if self._head_saved else [("", {"since": self.since, "pages": sorted(self.pages)})]
        return [*pages, *head, *((str(number), None) for number in sorted(self._dropped))]

    def saved(self) -> None:
        """All `changes` have been written."""
        self._unsaved.clear()
        self._dropped.clear()
        self._head_saved = True

    @staticmethod
    def numbers(head: Any) -> list[int]:
        """Return the numbers of the pages that a head names.

        :raises ValueError: if it is no head.
        """
        try:
            return [int(number) for number in head["pages"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{head!r} is not where a watch has come to") from error

    @classmethod
    def read(cls, head: Any, pages: Mapping[int, Any]) -> Cursor:
        """Return the cursor that was written as these values; a page that is not there is empty.

        :raises ValueError: if they are not such values.
        """
        numbers = cls.numbers(head)
        try:
            known = {
                number: {str(each): int(finished) for each, finished in (pages.get(number) or {}).items()}
                for number in numbers
            }
            return cls(int(head["since"]), known, max(numbers, default=0) + 1, _head_saved=True)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{head!r} is not where a watch has come to") from error


class Sweep:
    """A reading of a whole list, page by page, that notices if it may have missed something.

    Each page must go on where the one before it ended: share jobs with it, in the same order. Then whatever was in the
    list when the sweep began, and still is, has been seen, however the list grew or shrank meanwhile. Where a page does
    not, as in a list whose order is not firm, the sweep goes on, but tells of no whole list.
    """

    def __init__(self) -> None:
        self._begin_again()

    def _begin_again(self) -> None:
        self.at = 0
        """Where its next page begins."""
        self._last: list[str] = []
        self._before: deque[str] = deque(maxlen=10 * PAGE_LIMIT)
        self._lost = 0
        self._is_broken = False

    @property
    def begun(self) -> bool:
        """Whether its first page has been read."""
        return bool(self._last)

    def take(self, offset: int, ids: Sequence[str], *, ends: bool) -> bool:
        """Take a page, whatever it was asked for; return whether the whole list has now been read.

        :param ends: whether nothing follows in the list.
        """
        if not self._last:
            if offset == 0:
                self._go_on(offset, ids)
            return offset == 0 and ends
        common = set(self._last) & set(ids)
        expected = offset == self.at
        if common and self._fits(ids, common):
            if ids[-1] not in common:
                self._go_on(offset, ids)
            elif expected:
                self.at = _after(offset, ids)
        elif not expected:
            return False
        elif common:
            # It is still read to the end, but proves nothing.
            self._is_broken = True
            self._go_on(offset, ids)
        else:
            self._find_again(offset, ids)
            return False
        if ends and self._is_broken:
            self._begin_again()
            return False
        return ends

    def _fits(self, ids: Sequence[str], common: set[str]) -> bool:
        """Whether a page and the last one look like parts of one list of a firm order that changed a little."""
        last_places = [place for place, each in enumerate(self._last) if each in common]
        places = [place for place, each in enumerate(ids) if each in common]
        if [self._last[place] for place in last_places] != [ids[place] for place in places]:
            return False
        end = last_places[-1] if ids[-1] in common else len(self._last) - 1
        strays = (end - last_places[0]) + (places[-1] - places[0]) + 2 - 2 * len(places)
        return strays <= OVERLAP

    def _go_on(self, offset: int, ids: Sequence[str]) -> None:
        self._before.extend(ids)
        self._last = list(ids)
        self._lost = 0
        self.at = _after(offset, ids)

    def _find_again(self, offset: int, ids: Sequence[str]) -> None:
        """Move to where the last page may be now: on, where the list grew before it, else back."""
        self._lost += 1
        behind = not set(self._before).isdisjoint(ids)
        self.at = _after(offset, ids) if behind else max(offset - PAGE_LIMIT // 2, 0)
        if self.at == 0 or self._lost > LOST_PAGES:
            self._begin_again()


class History:
    """The watch of one volume: which page to ask for, and what its answer tells.

    :param volume: its id.
    :param cursor: where the watch has come to.
    """

    def __init__(self, volume: str, cursor: Cursor) -> None:
        self.volume = volume
        self.cursor = cursor
        self.undated: str | None = None
        """A completed job that does not tell when it finished, so that it cannot be announced."""
        self._found: dict[str, ExportJob] = {}
        self._told: dict[str, int] = {}
        self._newest: int | None = None
        self._total: int | None = None
        self._sweep = Sweep()
        self._sweep_since = cursor.since
        self.begin_cycle()

    def begin_cycle(self) -> None:
        """Look at both ends of the list again."""
        self._inwards: deque[tuple[int, int]] = deque([(0, 1)])
        self._last_is_due = True
        self._following = FOLLOWING_PAGES
        self._sweeping = SWEEP_PAGES
        self._asked: set[int] = set()

    @property
    def next_offset(self) -> int | None:
        """Where the next page of this cycle begins; None if the cycle is over."""
        planned = self._next()
        return None if planned is None else planned[0]

    def _next(self) -> tuple[int, int] | None:
        """Return where the next page begins, and to which side what is new may go on from it; 0 for a sweep's page."""
        if self._inwards:
            return self._inwards[0]
        last = max((self._total or 0) - PAGE_LIMIT, 0)
        if self._last_is_due and last:
            return last, -1
        if self._sweeping and self._sweep.begun and self._sweep.at not in self._asked:
            return self._sweep.at, 0
        return None

    def take(self, page: Page[ExportJob], date: int | None) -> None:
        """Take the page at `next_offset`; what was told before has been `recorded`.

        :param date: the Platform's time.
        """
        planned = self._next()
        assert planned
        offset, direction = planned
        self._total = page.total
        self._asked.add(offset)
        fresh = self._new(page.items, date)
        self._found.update(fresh)
        if self._inwards:
            self._inwards.popleft()
        elif direction:
            self._last_is_due = False
        else:
            self._sweeping -= 1
        self._follow(offset, direction, page, fresh)
        self._sweep_on(offset, page)

    def tell(self, most: int = TOLD_TOGETHER) -> list[ExportJob]:
        """Return what is to be announced now of what has been found, the earliest first; the rest waits."""
        jobs = sorted(self._found.values(), key=_finished)[:most]
        for job in jobs:
            self._told[job.id] = _finished(job)
            del self._found[job.id]
        return jobs

    def recorded(self) -> None:
        """All that was told has been announced."""
        self.cursor.add(self._told)
        self._told = {}

    def _new(self, jobs: Sequence[ExportJob], date: int | None) -> dict[str, ExportJob]:
        fresh: dict[str, ExportJob] = {}
        for job in jobs:
            # Whether the API heeds these filters is not documented.
            if job.state != ExportState.COMPLETED or job.volume != self.volume:
                continue
            if job.finished_on is None:
                self.undated = job.id
                continue
            finished = _finished(job)
            # A time to come would end the watch until then.
            self._newest = max(self._newest or 0, finished if date is None else min(finished, date))
            known = job.id in self._found or job.id in self.cursor
            if finished >= self.cursor.since and not known:
                fresh[job.id] = job
        return fresh

    def _follow(self, offset: int, direction: int, page: Page[ExportJob], fresh: Mapping[str, ExportJob]) -> None:
        """Go on inwards from an end as long as all on that side is new."""
        if not (direction and fresh and self._following):
            return
        innermost = page.items[-1 if direction > 0 else 0]
        if direction > 0:
            following, inside = _after(offset, page.items), offset + len(page.items) < (page.total or 0)
        else:
            following, inside = max(offset - PAGE_LIMIT + OVERLAP, 0), True
        if inside and following not in self._asked and innermost.id in fresh:
            self._following -= 1
            self._inwards.append((following, direction))

    def _sweep_on(self, offset: int, page: Page[ExportJob]) -> None:
        begun = self._sweep.begun
        ids = [job.id for job in page.items]
        # A list whose total and links contradict each other is not known to be whole.
        ends = page.next is None and (page.total is None or offset + len(ids) >= page.total)
        whole = self._sweep.take(offset, ids, ends=ends)
        if not begun:
            self._sweep_since = (self._newest or 0) - SLACK
        if whole:
            self.cursor.advance(min([self._sweep_since, *map(_finished, self._found.values())]))
            self._sweep = Sweep()


def _after(offset: int, items: Sequence[object]) -> int:
    return offset + max(len(items) - OVERLAP, 1)


def _finished(job: ExportJob) -> int:
    assert job.finished_on
    return math.floor(job.finished_on.timestamp())
