"""Stores the batch of a task across its deferrals and, from Airflow 3.3 on, across its tries."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.jobs.batch import Batch, Totals
from airflow_sb_provider.jobs.tracked import TrackedJob

if TYPE_CHECKING:
    from collections.abc import Sequence

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
# The phases of a page: no entry was submitted yet, some entries are open, all entries have ended.
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
        """Return the same, with only the pages that have open entries; `fill` and `complete` load the others."""
        return self._read(every_page=False)

    def fill(self, batch: Batch[E], count: int) -> None:
        """Load new pages until ``count`` entries are waiting, or no new page is left."""
        waiting = len(batch.waiting)
        is_stale = False
        for number, page in enumerate(self._pages):
            if waiting >= count:
                break
            if page is None and self._phases[number] == _NEW:
                entries = self._load_page(number)
                waiting += len(entries)
                self._phases[number] = _phase_of(entries)
                is_stale = is_stale or self._phases[number] != _NEW
        if is_stale:
            # Correct the head: `resume` skips the pages that the head calls new, and would miss their jobs in flight.
            self._write_head()
        self._show(batch)

    def complete(self, batch: Batch[E]) -> None:
        """Load every page, for the report at the end."""
        for number, page in enumerate(self._pages):
            if page is None:
                entries = self._load_page(number)
                if self._phases[number] == _ENDED and _phase_of(entries) != _ENDED:
                    # An older value of the page hides how its jobs ended.
                    self._warn(ValueError("a page is older than the head"))
        self._show(batch)

    def start(self, batch: Batch[E]) -> None:
        """Write a new batch, and delete the previous one."""
        before, pages_before = self._generation, len(self._pages)
        self.keep(batch)
        if len(self._pages) > 1:
            for number in range(len(self._pages)):
                self._write_page(number)
        self._write_head()
        if pages_before > 1:
            for number in range(pages_before):
                self._delete(f"{KEY}_{before}_{number}")

    def keep(self, batch: Batch[E]) -> None:
        """Use a new batch without writing it: the first `save` does that."""
        self._generation += 1
        self.is_unreadable = False
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
            self._generation, self._about = head["generation"], head["batch"]
            if "entries" in head:
                self._pages, self._phases = [[]], [_OPEN]
                self._take_page(0, head["entries"])
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
        try:
            entries = self._take_page(number, self._get(self._page_key(number)))
        except _UNREADABLE as problem:
            # Without this page nobody knows whether its jobs were submitted.
            self._warn(problem)
            entries = self._pages[number] = []
        if self._phases[number] != _OPEN:
            self._unloaded[self._phases[number]] -= Totals.of(entries)
        return entries

    def _warn(self, problem: Exception) -> None:
        self.is_unreadable = True
        log.warning(
            "The record of what this task submitted cannot be read (%r); checking the Platform instead.", problem
        )

    def _take_page(self, number: int, page: Any) -> list[E]:
        entries = [self._entry_class.from_json(item) for item in page]
        if not entries:
            raise ValueError("an empty page")
        self._pages[number] = entries
        self._page_of.update((id(entry), number) for entry in entries)
        return entries

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
    return _ENDED if all(entry.has_ended for entry in page) else _OPEN


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
