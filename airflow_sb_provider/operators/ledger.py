"""Keeps a batch across a task's deferrals and, from Airflow 3.3 on, across its tries."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.jobs.batch import Batch
from airflow_sb_provider.jobs.tracked import TrackedJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context

E = TypeVar("E", bound=TrackedJob[Any])

log = logging.getLogger(__name__)

KEY = "sevenbridges_batch"
VERSION = 1
PAGE = 50
# What Airflow should keep as one value is 64 KB. An entry grows by its record, its job's id and times, and its message.
PAGE_BYTES = 60_000
GROWTH = 1000


class Ledger(Generic[E]):
    """A batch's entries in the task state store; without one, in XCom, which outlives deferrals only.

    The head, under one key, holds the entries themselves if they fit; else they are in pages of at most fifty, each
    under a key of its own. A new batch of several pages goes under new keys, and the old one is dropped when all of it
    is written, so that a process killed meanwhile forgets nothing.

    ``is_unreadable`` tells that something was written, or a part of it, that cannot be read: by another state backend,
    by a later version of the provider, or since a page is gone. Then anything may have been submitted.

    :param context: the task's context.
    :param entry_class: what its jobs are read as.
    """

    def __init__(self, context: Context, entry_class: type[E]) -> None:
        self._entry_class = entry_class
        self._ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._generation = 0
        self._about: dict[str, Any] = {}
        self._pages: list[list[E]] = []
        self._page_of: dict[int, int] = {}
        self.is_unreadable = False

    @property
    def has_store(self) -> bool:
        """Whether this Airflow keeps records across tries."""
        return self._store is not None

    def load(self) -> Batch[E] | None:
        """Return the batch that this task instance wrote before, as far as it can be read; None if there is none."""
        head = self._get(KEY)
        if head is None:
            return None
        try:
            if head["version"] != VERSION:
                raise ValueError(f"version {head['version']}")
            self._generation, self._about = head["generation"], head["batch"]
            pages = [head["entries"]] if "entries" in head else [self._page(number) for number in range(head["pages"])]
            self._keep([[self._entry_class.from_json(item) for item in page] for page in pages])
            return Batch([entry for page in self._pages for entry in page], **self._about)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            log.warning(
                "The record of what this task submitted cannot be read (%r); checking the Platform instead.", problem
            )
            self.is_unreadable = True
            return None

    def start(self, batch: Batch[E]) -> None:
        """Write a new batch in place of the one before."""
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
        """Take a new batch of which nothing needs to be written before the first `save`."""
        self._generation += 1
        self._about = {
            "started_at": batch.started_at,
            "try_number": batch.try_number,
            "max_tries": batch.max_tries,
        }
        self._keep(_paged(batch.entries))

    def save(self, entries: Sequence[E]) -> None:
        """Write entries that changed."""
        if len(self._pages) == 1:
            self._write_head()
            return
        for number in sorted({self._page_of[id(entry)] for entry in entries}):
            self._write_page(number)

    def _keep(self, pages: list[list[E]]) -> None:
        self._pages = pages
        self._page_of = {id(entry): number for number, page in enumerate(pages) for entry in page}

    def _write_head(self) -> None:
        head: dict[str, Any] = {"version": VERSION, "generation": self._generation, "batch": self._about}
        if len(self._pages) == 1:
            head["entries"] = [entry.to_json() for entry in self._pages[0]]
        else:
            head["pages"] = len(self._pages)
        self._set(KEY, head)

    def _page(self, number: int) -> Any:
        page = self._get(self._page_key(number))
        if not page:
            # Without this page nobody knows whether its exports were submitted.
            self.is_unreadable = True
        return page or []

    def _write_page(self, number: int) -> None:
        self._set(self._page_key(number), [entry.to_json() for entry in self._pages[number]])

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
