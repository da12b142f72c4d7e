"""The feed of completed exports of a volume: which page to fetch next, which exports are new, which ids to keep.

The Platform lists completed jobs in no documented order, and the list changes while it is read. Each cycle reads both
ends of the list, where a list in order of time has its new jobs, and a few more pages of a scan of the whole list. The
ids of announced exports are kept for a day. Times are whole epoch seconds of the Platform's clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_sb_provider.api.calls import PAGE_LIMIT, POLL, Call, list_exports
from airflow_sb_provider.api.models import ExportState
from airflow_sb_provider.api.times import parse_http_date
from airflow_sb_provider.exports.outcome import ExportOutcome

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from airflow_sb_provider.api.models import ExportJob, Page, Volume

    T = TypeVar("T")
    _Pages = Generator[int, tuple[Page[ExportJob], int], T]
    """Yields offsets of pages, and receives each page with the time."""

# Jobs that two pages of a scan share, so that no job is missed if the list shifts between them.
OVERLAP = 10
SCAN_PAGES = 4
# Additional pages per cycle if a first or last page has only new jobs.
FOLLOWING_PAGES = 4
MOST_PAGES = 2 + SCAN_PAGES + FOLLOWING_PAGES
# How many seconds after its finish time a job may first appear in the list.
WINDOW = 86400
# 50 KB, since an event is also logged.
EXPORTS_PER_EVENT = 200
# Ids under one key of Airflow's store: 48 KB, of at most 64 KB.
IDS_PER_PAGE = 1000


def completed_exports(volume: str, offset: int) -> Call[tuple[Page[ExportJob], int | None]]:
    """Return the call for a page of the completed exports to a volume; its result includes the Platform's time."""
    call = list_exports(volume, [ExportState.COMPLETED], offset=offset)

    def read(body: Any, headers: Mapping[str, str]) -> tuple[Page[ExportJob], int | None]:
        date = parse_http_date(headers.get("Date", ""))
        return call.read(body, headers), None if date is None else math.floor(date)

    return Call(call.method, call.path, read, call.query, objects=call.objects, bounds=POLL)


def export_event(job: ExportJob, volume: Volume) -> dict[str, Any]:
    """Return the event of a completed export; ``size`` and ``uri`` are None where the Platform does not give them."""
    return ExportOutcome.of_job(job, volume).to_event()


@dataclass
class Checkpoint:
    """The announced exports: all that finished before ``since``, and the ids in ``pages``.

    It is stored under several keys: a head under the key ``""``, and each page under its number.
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
        """Add announced exports, with the times at which they finished."""
        for export_id, finished in announced.items():
            number = self._next_page - 1
            if number not in self.pages or len(self.pages[number]) >= IDS_PER_PAGE:
                number, self._next_page, self._head_saved = self._next_page, self._next_page + 1, False
                self.pages[number] = {}
            self.pages[number][export_id] = finished
            self._unsaved.add(number)

    def advance(self, since: int) -> None:
        """Drop the ids of exports that finished before that time: all of them have been announced."""
        if since <= self.since:
            return
        self.since, self._head_saved = since, False
        for number, page in list(self.pages.items()):
            if all(finished < since for finished in page.values()):
                del self.pages[number]
                self._unsaved.discard(number)
                self._dropped.add(number)

    def changes(self) -> list[tuple[str, Any]]:
        """Return the changes since the last `mark_saved`, in this order: keys and values, None to delete.

        If writing stops early, the stored checkpoint still contains only announced exports.
        """
        pages = [(str(number), self.pages[number]) for number in sorted(self._unsaved)]
        head = [] if self._head_saved else [("", {"since": self.since, "pages": sorted(self.pages)})]
        return [*pages, *head, *((str(number), None) for number in sorted(self._dropped))]

    def mark_saved(self) -> None:
        """Note that all `changes` have been written."""
        self._unsaved.clear()
        self._dropped.clear()
        self._head_saved = True

    @staticmethod
    def numbers(head: Any) -> list[int]:
        """Return the numbers of the pages in a head.

        :raises ValueError: if it is not a head.
        """
        try:
            return [int(number) for number in head["pages"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{head!r} is not a checkpoint") from error

    @classmethod
    def read(cls, head: Any, pages: Mapping[int, Any]) -> Checkpoint:
        """Return the checkpoint with these stored values; a missing page is empty.

        :raises ValueError: if they are not valid.
        """
        numbers = cls.numbers(head)
        try:
            known = {
                number: {str(export_id): int(finished) for export_id, finished in (pages.get(number) or {}).items()}
                for number in numbers
            }
            return cls(int(head["since"]), known, max(numbers, default=0) + 1, _head_saved=True)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{head!r} is not a checkpoint") from error


class CompletedFeed:
    """The completed exports of one volume, read page by page.

    :param volume: its id.
    :param checkpoint: the exports announced so far.
    """

    def __init__(self, volume: str, checkpoint: Checkpoint) -> None:
        self.volume = volume
        self.checkpoint = checkpoint
        self.undated: str | None = None
        """A completed job without a finish time, which cannot be announced."""
        self.next_offset: int | None = None
        """The offset of the next page of this cycle; None if the cycle is over."""
        self._new_jobs: dict[str, ExportJob] = {}
        self._unconfirmed: dict[str, int] = {}
        self._newest = 0
        self._total = 0
        self._scan = _FullScan()
        self._cycle = self._read_cycle()
        self.begin_cycle()

    def begin_cycle(self) -> None:
        """Start a new cycle, which first reads both ends of the list again."""
        self._cycle = self._read_cycle()
        self.next_offset = next(self._cycle)

    def take(self, page: Page[ExportJob], now: int) -> None:
        """Process the page that was fetched at `next_offset`.

        :param now: the Platform's time, or this machine's if the Platform does not send it.
        """
        try:
            self.next_offset = self._cycle.send((page, now))
        except StopIteration:
            self.next_offset = None

    def next_batch(self, most: int = EXPORTS_PER_EVENT) -> list[ExportJob]:
        """Return the new exports to announce now, the earliest first; the next call returns further ones."""
        jobs = sorted(self._new_jobs.values(), key=_finished)[:most]
        for job in jobs:
            self._unconfirmed[job.id] = _finished(job)
            del self._new_jobs[job.id]
        return jobs

    def mark_announced(self) -> None:
        """Note that all exports of the batches so far have been announced."""
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
        """Read a page at one end of the list, and the next one inwards while the innermost job of a page is new."""
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
        """Read a page; return it and the ids of its new jobs."""
        page, now = yield offset
        read.add(offset)
        self._total = page.total or 0
        fresh = self._unknown(page.items, now)
        self._new_jobs.update(fresh)
        if self._scan.take(offset, page, self._newest):
            # `since` must not pass a job that is not announced yet: after a restart the job would never be announced.
            self.checkpoint.advance(min([self._scan.began - WINDOW, *map(_finished, self._new_jobs.values())]))
        return page, set(fresh)

    def _unknown(self, jobs: Sequence[ExportJob], now: int) -> dict[str, ExportJob]:
        fresh: dict[str, ExportJob] = {}
        for job in jobs:
            # Whether the API applies these filters is not documented.
            if job.state != ExportState.COMPLETED or job.volume != self.volume:
                continue
            if job.finished_on is None:
                self.undated = job.id
                continue
            finished = _finished(job)
            # A finish time in the future would move `since` ahead, and the feed would ignore all jobs until then.
            self._newest = max(self._newest, min(finished, now))
            known = job.id in self._new_jobs or job.id in self.checkpoint
            if finished >= self.checkpoint.since and not known:
                fresh[job.id] = job
        return fresh


class _FullScan:
    """A repeated scan of the whole list, which uses every page that continues the previous one."""

    def __init__(self) -> None:
        self.at = 0
        """The offset of its next page."""
        self.began = 0
        """The finish time of the newest job that was known when it began."""
        self._last: list[str] = []
        self._is_whole = True

    def take(self, offset: int, page: Page[ExportJob], newest: int) -> bool:
        """Process any page; return whether the whole list has now been read.

        :param newest: the finish time of the newest job.
        """
        if not offset <= self.at < _after(offset, page.items):
            return False
        ids = [job.id for job in page.items]
        if self.at == 0:
            self.began, self._is_whole = newest, True
        elif not _is_contiguous(self._last, ids):
            # The list has shrunk before this page, or has no stable order: jobs may have been missed.
            self._is_whole = False
        # A list whose total and links contradict each other may be incomplete.
        ends = page.next is None and (page.total is None or offset + len(page.items) >= page.total)
        self._last = ids
        self.at = 0 if ends or not ids else _after(offset, page.items)
        return ends and self._is_whole


def _is_contiguous(last: Sequence[str], ids: Sequence[str]) -> bool:
    """Whether a page shares jobs with the page before it, in the same order, with few other jobs between them."""
    shared = set(last) & set(ids)
    tail = [index for index, export_id in enumerate(last) if export_id in shared]
    head = [index for index, export_id in enumerate(ids) if export_id in shared]
    if not shared or [last[index] for index in tail] != [ids[index] for index in head]:
        return False
    strays = (len(last) - tail[0] - len(tail)) + (head[-1] + 1 - len(head))
    return strays <= OVERLAP


def _after(offset: int, items: Sequence[object]) -> int:
    return offset + max(len(items) - OVERLAP, 1)


def _finished(job: ExportJob) -> int:
    assert job.finished_on
    return math.floor(job.finished_on.timestamp())
