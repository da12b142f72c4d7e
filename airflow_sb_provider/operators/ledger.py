"""Keeps a batch across a task's deferrals and, from Airflow 3.3 on, across its tries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exports.batch import Batch, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context

KEY = "sevenbridges_batch"
PAGE = 50
# What Airflow should keep as one value is 64 KB. An entry grows by its job's id, its times and its message.
PAGE_BYTES = 60_000
GROWTH = 800


class Ledger:
    """A batch's entries, a page of at most fifty under each key, in the task state store; without one, in XCom.

    XCom outlives deferrals only. A new batch goes under new keys, and the old one is dropped when all of it is written,
    so that a process killed meanwhile forgets nothing. ``has_lost`` tells that a page is not there any more, so that
    what was asked for is not known of all files.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._generation = 0
        self._pages: list[list[Entry]] = []
        self._page_of: dict[int, int] = {}
        self.has_lost = False

    @property
    def has_store(self) -> bool:
        """Whether this Airflow keeps records across tries."""
        return self._store is not None

    def load(self) -> Batch | None:
        """Return the batch that this task instance wrote before; None if there is none."""
        head = self._get(KEY)
        if not isinstance(head, dict):
            return None
        self._generation = head["generation"]
        pages = [self._get(self._page_key(number)) or [] for number in range(head["pages"])]
        self.has_lost = not all(pages)
        self._keep([[Entry.from_json(item) for item in page] for page in pages])
        return Batch([entry for page in self._pages for entry in page], **head["batch"])

    def start(self, batch: Batch) -> None:
        """Write a new batch in place of the one before."""
        before, pages_before = self._generation, len(self._pages)
        self._generation += 1
        self._keep(_paged(batch.entries))
        for number in range(len(self._pages)):
            self._write(number)
        about = {"started_at": batch.started_at, "max_tries": batch.max_tries, "left_out": batch.left_out}
        self._set(KEY, {"generation": self._generation, "pages": len(self._pages), "batch": about})
        for number in range(pages_before):
            self._delete(f"{KEY}_{before}_{number}")

    def save(self, entries: Sequence[Entry]) -> None:
        """Write entries that changed."""
        for number in sorted({self._page_of[id(entry)] for entry in entries}):
            self._write(number)

    def _keep(self, pages: list[list[Entry]]) -> None:
        self._pages = pages
        self._page_of = {id(entry): number for number, page in enumerate(pages) for entry in page}

    def _write(self, number: int) -> None:
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


def _paged(entries: Sequence[Entry]) -> list[list[Entry]]:
    pages: list[list[Entry]] = [[]]
    left = PAGE_BYTES
    for entry in entries:
        size = len(json.dumps(entry.to_json())) + GROWTH
        if pages[-1] and (len(pages[-1]) == PAGE or size > left):
            pages.append([])
            left = PAGE_BYTES
        pages[-1].append(entry)
        left -= size
    return pages
