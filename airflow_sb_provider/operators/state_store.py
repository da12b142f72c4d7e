"""Stores the batch of a task across its deferrals and, from Airflow 3.3 on, across its tries."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.jobs.batch import Batch, Totals
from airflow_sb_provider.jobs.tracked import WAITING, TrackedJob

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider._compat import Context

E = TypeVar("E", bound=TrackedJob[Any])

log = logging.getLogger(__name__)

KEY = "sevenbridges_batch"
VERSION = 1
# As many jobs as one bulk call submits.
PAGE = 100
# One value of the store should have at most 64 KB. An entry grows by its record, its job's id and times, and a message.
PAGE_BYTES = 60_000
GROWTH = 450
SHORT_MESSAGE = 100

# The errors from reading what another backend or version has written.
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)
# The phases of a page: no entry was submitted yet, some entries are open or may go on, all entries have ended.
_NEW, _OPEN, _ENDED = "n", "o", "e"


class StateStore(Generic[E]):
    """Stores a batch in the task state store or, on Airflow before 3.3, in XComs, which survive only deferrals.

    The head, under one key, holds the entries if they fit. Otherwise they are in pages of at most a hundred entries,
    each under its own key, and the head holds the phase of each page, with totals for new and for ended pages. A new
    batch of several pages is written completely, under new keys, before the old one is deleted, so a process that is
    killed in between loses nothing.

    ``is_unreadable`` is true if a batch, or a part of it, was written but cannot be read: by another state backend or a
    later version of the provider, or because a page is missing. Then anything may have been submitted.

    :param context: the task's context.
    :param entry_class: the class of the entries.
    """

    def __init__(self, context: Context, entry_class: type[E]) -> None:
        self._entry_class = entry_class
        self._ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._generation = 0
        self._about: dict[str, Any] = {}
        # None for a page that is not loaded; `_phases` has the phase of every page.
        self._pages: list[list[E] | None] = []
        self._phases: list[str] = []
        self._page_of: dict[int, int] = {}
        self._is_written = False
        self._unloaded = {phase: Totals() for phase in (_NEW, _ENDED)}
        self.is_unreadable = False

    @property
    def has_store(self) -> bool:
        """Whether this Airflow keeps records across tries."""
        return self._store is not None

    def load(self) -> Batch[E] | None:
        """Return the batch that this task instance wrote before, as far as it can be read; None if there is none."""
        return self._read(every_page=True)

    def resume(self) -> Batch[E] | None:
        """Return the same, with only the pages that have open entries; `fill` and `walk` read the others."""
        return self._read(every_page=False)

    def fill(self, batch: Batch[E], count: int) -> None:
        """Keep in memory the open pages and, until ``count`` entries are waiting, new ones; drop all others."""
        waiting = sum(
            entry.state == WAITING
            for page, phase in zip(self._pages, self._phases, strict=True)
            if page and phase == _OPEN
            for entry in page
        )
        is_stale = False
        for number, phase in enumerate(self._phases):
            if phase == _ENDED or (phase == _NEW and waiting >= count):
                self._drop_page(number)
            elif phase == _NEW:
                page = self._pages[number]
                entries = self._load_page(number) if page is None else page
                waiting += len(entries)
                self._phases[number] = _phase_of(entries)
                is_stale = is_stale or self._phases[number] != _NEW
        if is_stale:
            # Correct the head: `resume` skips the pages that the head calls new, and would miss their jobs in flight.
            self._write_head()
        self._show(batch)

    def walk(self) -> Iterator[E]:
        """Yield all entries in the order of the plan; a page that is not in memory is read, and not kept."""
        for number, page in enumerate(self._pages):
            if page is None:
                page = self._read_page(number)
                if self._phases[number] == _ENDED and _phase_of(page) != _ENDED:
                    # An older value of the page hides how its jobs ended.
                    self._warn(ValueError("a page is older than the head"))
            yield from page

    def start(self, batch: Batch[E]) -> None:
        """Write a new batch, and delete the previous one."""
        before, pages_before = self._generation, len(self._pages)
        self.keep(batch)
        if len(self._pages) > 1:
            for number in range(len(self._pages)):
                self._write_page(number)
        self._write_head()
        self._is_written = True
        if pages_before > 1:
            for number in range(pages_before):
                self._delete(f"{KEY}_{before}_{number}")

    def keep(self, batch: Batch[E]) -> None:
        """Use a new batch without writing it: the first `save` does that."""
        self._generation += 1
        self._is_written = self.is_unreadable = False
        self._about = {
            "started_at": batch.started_at,
            "try_number": batch.try_number,
            "max_tries": batch.max_tries,
            "left_out": batch.left_out,
        }
        if batch.left_behind:
            self._about["left_behind"] = [entry.to_json() for entry in batch.left_behind]
        self._unloaded = {phase: Totals() for phase in (_NEW, _ENDED)}
        self._pages = [*_paged(batch.entries)]
        self._page_of = {id(entry): number for number, page in enumerate(self._pages) for entry in page or ()}
        self._phases = [_phase_of(page or []) for page in self._pages]

    def save(self, entries: Sequence[E]) -> None:
        """Write entries that changed."""
        if len(self._pages) == 1:
            self._write_head()
            return
        numbers = sorted({self._page_of[id(entry)] for entry in entries})
        opened = [number for number in numbers if self._phases[number] == _NEW]
        if opened:
            # Before the page, so that a process that resumes does not treat submitted entries as new.
            for number in opened:
                self._phases[number] = _OPEN
            self._write_head()
        for number in numbers:
            self._write_page(number)
        ended = [number for number in numbers if _phase_of(self._pages[number] or []) == _ENDED]
        if any(self._phases[number] != _ENDED for number in ended):
            for number in ended:
                self._phases[number] = _ENDED
            self._write_head()

    def _read(self, *, every_page: bool) -> Batch[E] | None:
        head = self._get(KEY)
        if head is None:
            # A task that resumes after a deferral has written a batch, so it is lost.
            self.is_unreadable = not every_page
            return None
        try:
            if head["version"] != VERSION:
                raise ValueError(f"version {head['version']}")
            self._generation, self._about, self._is_written = head["generation"], head["batch"], True
            if "entries" in head:
                self._pages, self._phases = [[]], [_OPEN]
                self._keep_page(0, self._parsed(head["entries"]))
            else:
                self._phases = list(head["pages"])
                self._pages = [None] * len(self._phases)
                self._unloaded = {phase: Totals(**head["totals"][phase]) for phase in (_NEW, _ENDED)}
                for number, phase in enumerate(self._phases):
                    if every_page or phase == _OPEN:
                        self._load_page(number)
            about = dict(self._about)
            left_behind = [self._entry_class.from_json(item) for item in about.pop("left_behind", ())]
            batch: Batch[E] = Batch(self._entry_class.kind, [], **about, left_behind=left_behind)
            self._show(batch)
            return batch
        except _UNREADABLE as problem:
            self._warn(problem)
            return None

    def _show(self, batch: Batch[E]) -> None:
        batch.entries = [entry for page in self._pages if page for entry in page]
        batch.not_loaded = self._unloaded[_NEW] + self._unloaded[_ENDED]
        batch.is_more_to_come = any(
            page is None and phase == _NEW for page, phase in zip(self._pages, self._phases, strict=True)
        )

    def _load_page(self, number: int) -> list[E]:
        entries = self._read_page(number)
        self._keep_page(number, entries)
        if self._phases[number] != _OPEN:
            self._unloaded[self._phases[number]] -= Totals.of(entries)
        return entries

    def _drop_page(self, number: int) -> None:
        page, phase = self._pages[number], self._phases[number]
        # What is not in the store must stay, also a page that could not be read.
        if page and self._is_written and len(self._pages) > 1:
            self._unloaded[phase] += Totals.of(page)
            self._pages[number] = None
            for entry in page:
                del self._page_of[id(entry)]

    def _read_page(self, number: int) -> list[E]:
        try:
            return self._parsed(self._get(self._page_key(number)))
        except _UNREADABLE as problem:
            # Without this page nobody knows whether its jobs were submitted.
            self._warn(problem)
            return []

    def _warn(self, problem: Exception) -> None:
        self.is_unreadable = True
        log.warning(
            "The record of what this task submitted cannot be read (%r); checking the Platform instead.", problem
        )

    def _parsed(self, page: Any) -> list[E]:
        entries = [self._entry_class.from_json(item) for item in page]
        if not entries:
            raise ValueError("an empty page")
        return entries

    def _keep_page(self, number: int, entries: list[E]) -> None:
        self._pages[number] = entries
        self._page_of.update((id(entry), number) for entry in entries)

    def _write_head(self) -> None:
        head: dict[str, Any] = {"version": VERSION, "generation": self._generation, "batch": self._about}
        if len(self._pages) == 1:
            head["entries"] = [entry.to_json() for entry in self._pages[0] or ()]
        else:
            head["pages"] = "".join(self._phases)
            head["totals"] = {phase: vars(self._totals(phase)) for phase in (_NEW, _ENDED)}
        self._set(KEY, head)

    def _totals(self, phase: str) -> Totals:
        totals = self._unloaded[phase]
        for page, its_phase in zip(self._pages, self._phases, strict=True):
            if page is not None and its_phase == phase:
                totals += Totals.of(page)
        return totals

    def _write_page(self, number: int) -> None:
        entries = [entry.to_json() for entry in self._pages[number] or ()]
        if len(json.dumps(entries)) > PAGE_BYTES:
            # Many entries failed with long messages.
            entries = [
                {**entry, "message": entry["message"][:SHORT_MESSAGE]} if "message" in entry else entry
                for entry in entries
            ]
        self._set(self._page_key(number), entries)

    def _page_key(self, number: int) -> str:
        return f"{KEY}_{self._generation}_{number}"

    def _get(self, key: str) -> Any:
        if self._store is not None:
            return self._store.get(key)
        return self._ti.xcom_pull(task_ids=self._ti.task_id, key=key, map_indexes=self._ti.map_index)

    def _set(self, key: str, value: Any) -> None:
        if self._store is not None:
            self._store.set(key, value)
        else:
            self._ti.xcom_push(key=key, value=value)

    def _delete(self, key: str) -> None:
        if self._store is not None:
            self._store.delete(key)


def _phase_of(page: Sequence[TrackedJob[Any]]) -> str:
    if all(entry.is_new for entry in page):
        return _NEW
    # What may go on must stay in memory, so that an error can name it.
    return _ENDED if all(entry.has_ended and not entry.may_go_on for entry in page) else _OPEN


def _paged(entries: Sequence[E]) -> list[list[E]]:
    pages: list[list[E]] = [[]]
    left = PAGE_BYTES
    for entry in entries:
        size = len(json.dumps(entry.to_json())) + GROWTH
        if pages[-1] and (len(pages[-1]) == PAGE or size > left):
            pages.append([])
            left = PAGE_BYTES
        pages[-1].append(entry)
        left -= size
    return pages
