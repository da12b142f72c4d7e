"""Which exports to a volume have completed: what to ask for next, what is new, and what may be forgotten.

The Platform lists completed jobs in no documented order, and the list changes while it is read. A cycle reads its
first and its last page, where a list in order of time puts what is new, and goes on with a scan of all of it, a few
pages at a time. What was told of the last day is remembered. Times are in whole epoch seconds of the Platform's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider.api.calls import PAGE_LIMIT, POLL, Call, list_exports
from airflow_sb_provider.api.models import ExportState
from airflow_sb_provider.exports.outcome import ExportOutcome

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from airflow_sb_provider.api.models import ExportJob, Page, Volume

    T = TypeVar("T")
    _Pages = Generator[int, tuple[Page[ExportJob], int], T]
    """Yields where pages begin, and gets each page with the time."""

# Jobs that two pages of a scan share, so that a list that shifts between them hides nothing.
OVERLAP = 10
SCAN_PAGES = 4
# What is new goes on beyond the first or the last page: so many more in a cycle.
FOLLOWING_PAGES = 4
MOST_PAGES = 2 + SCAN_PAGES + FOLLOWING_PAGES
# How late after it finished a job may come to be seen.
WINDOW = 86400
# Exports that are told at a time: 50 KB, since an event is also logged.
EXPORTS_PER_EVENT = 200
# Ids under one key of Airflow's store: 48 KB, of the 64 KB that a value may have.
IDS_PER_PAGE = 1000


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
class Checkpoint:
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
            if number not in self.pages or len(self.pages[number]) >= IDS_PER_PAGE:
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
        """Return what to write since the last `mark_saved`, in this order: keys and values, None to delete.

        Whatever is cut short, the cursor that can be read claims nothing that was not announced.
        """
        pages = [(str(number), self.pages[number]) for number in sorted(self._unsaved)]
        head = [] if self._head_saved else [("", {"since": self.since, "pages": sorted(self.pages)})]
        return [*pages, *head, *((str(number), None) for number in sorted(self._dropped))]

    def mark_saved(self) -> None:
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
    def read(cls, head: Any, pages: Mapping[int, Any]) -> Checkpoint:
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


class CompletedFeed:
    """The watch of one volume: which page to ask for, and what its answer tells.

    :param volume: its id.
    :param cursor: where the watch has come to.
    """

    def __init__(self, volume: str, checkpoint: Checkpoint) -> None:
        self.volume = volume
        self.checkpoint = checkpoint
        self.undated: str | None = None
        """A completed job that does not tell when it finished, so that it cannot be announced."""
        self.next_offset: int | None = None
        """Where the next page of this cycle begins; None if the cycle is over."""
        self._found: dict[str, ExportJob] = {}
        self._unconfirmed: dict[str, int] = {}
        self._newest = 0
        self._total = 0
        self._scan = _FullScan()
        self._cycle = self._read_cycle()
        self.begin_cycle()

    def begin_cycle(self) -> None:
        """Look at both ends of the list again."""
        self._cycle = self._read_cycle()
        self.next_offset = next(self._cycle)

    def take(self, page: Page[ExportJob], now: int) -> None:
        """Take the page at `next_offset`; what was told before has been `mark_announced`.

        :param now: the Platform's time, or this machine's where the Platform does not tell it.
        """
        try:
            self.next_offset = self._cycle.send((page, now))
        except StopIteration:
            self.next_offset = None

    def next_batch(self, most: int = EXPORTS_PER_EVENT) -> list[ExportJob]:
        """Return what is to be announced now of what has been found, the earliest first; the rest waits."""
        jobs = sorted(self._found.values(), key=_finished)[:most]
        for job in jobs:
            self._unconfirmed[job.id] = _finished(job)
            del self._found[job.id]
        return jobs

    def mark_announced(self) -> None:
        """All that was told has been announced."""
        self.checkpoint.add(self._unconfirmed)
        self._unconfirmed = {}

    def _read_cycle(self) -> _Pages[None]:
        read: set[int] = set()
        yield from self._read_end(0, read, most=1 + FOLLOWING_PAGES)
        if self._total > PAGE_LIMIT:
            yield from self._read_end(self._total - PAGE_LIMIT, read, most=2 + FOLLOWING_PAGES)
        for _ in range(SCAN_PAGES):
            if self._scan.at in read:
                return
            yield from self._read(self._scan.at, read)

    def _read_end(self, offset: int, read: set[int], most: int) -> _Pages[None]:
        """Read a page at an end of the list, and go on inwards as long as all on that side is new."""
        is_first = offset == 0
        while offset not in read and len(read) < most:
            page, fresh = yield from self._read(offset, read)
            if not fresh or page.items[-1 if is_first else 0].id not in fresh:
                return
            if not is_first:
                offset = max(offset - PAGE_LIMIT + OVERLAP, 0)
            elif offset + len(page.items) < self._total:
                offset = _after(offset, page.items)

    def _read(self, offset: int, read: set[int]) -> _Pages[tuple[Page[ExportJob], set[str]]]:
        """Ask for a page; return it, and which of its jobs are new."""
        page, now = yield offset
        read.add(offset)
        self._total = page.total or 0
        fresh = self._new(page.items, now)
        self._found.update(fresh)
        if self._scan.take(offset, page, self._newest):
            # What has been found and not told yet must not be forgotten.
            self.checkpoint.advance(min([self._scan.began - WINDOW, *map(_finished, self._found.values())]))
        return page, set(fresh)

    def _new(self, jobs: Sequence[ExportJob], now: int) -> dict[str, ExportJob]:
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
            self._newest = max(self._newest, min(finished, now))
            known = job.id in self._found or job.id in self.checkpoint
            if finished >= self.checkpoint.since and not known:
                fresh[job.id] = job
        return fresh


class _FullScan:
    """A reading of the whole list over and over, by whatever pages go on where the last one ended."""

    def __init__(self) -> None:
        self.at = 0
        """Where its next page begins."""
        self.began = 0
        """When the newest job had finished that was known as it began."""
        self._last: list[str] = []
        self._is_whole = True

    def take(self, offset: int, page: Page[ExportJob], newest: int) -> bool:
        """Take any page; return whether the list has now been read from end to end.

        :param newest: when the newest job finished.
        """
        if not offset <= self.at < _after(offset, page.items):
            return False
        ids = [job.id for job in page.items]
        if self.at == 0:
            self.began, self._is_whole = newest, True
        elif not _goes_on(self._last, ids):
            # The list has shrunk before this page, or is in no firm order: jobs may have slipped by.
            self._is_whole = False
        # A list whose total and links contradict each other is not known to be whole.
        ends = page.next is None and (page.total is None or offset + len(page.items) >= page.total)
        self._last = ids
        self.at = 0 if ends or not ids else _after(offset, page.items)
        return ends and self._is_whole


def _goes_on(last: Sequence[str], ids: Sequence[str]) -> bool:
    """Whether a page shares jobs with the last one, in the same order, and few others stand between them."""
    shared = set(last) & set(ids)
    tail = [place for place, each in enumerate(last) if each in shared]
    head = [place for place, each in enumerate(ids) if each in shared]
    if not shared or [last[place] for place in tail] != [ids[place] for place in head]:
        return False
    strays = (len(last) - tail[0] - len(tail)) + (head[-1] + 1 - len(head))
    return strays <= OVERLAP


def _after(offset: int, items: Sequence[object]) -> int:
    return offset + max(len(items) - OVERLAP, 1)


def _finished(job: ExportJob) -> int:
    assert job.finished_on
    return math.floor(job.finished_on.timestamp())
