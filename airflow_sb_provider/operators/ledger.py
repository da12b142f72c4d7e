"""Keeps a batch across a task's deferrals and, from Airflow 3.3 on, across its tries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exports.batch import Batch, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context

KEY = "sevenbridges_batch"
# Fifty entries stay well under the 64 KB that Airflow's task state store takes as one value.
PAGE = 50


class Ledger:
    """A batch's entries, a page of fifty under each key, in the task state store; without one, in XCom.

    XCom outlives deferrals only. A new batch goes under new keys, and the old one is dropped when all of it is written,
    so that a process killed meanwhile forgets nothing.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._generation = 0
        self._position: dict[int, int] = {}
        self._batch: Batch | None = None

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
        self._keep(Batch([Entry.from_json(item) for page in pages for item in page], **head["batch"]))
        return self._batch

    def start(self, batch: Batch) -> None:
        """Write a new batch in place of the one before."""
        before, pages_before = self._generation, self._pages
        self._generation += 1
        self._keep(batch)
        for number in range(self._pages):
            self._write(number)
        about = {"started_at": batch.started_at, "max_tries": batch.max_tries}
        self._set(KEY, {"generation": self._generation, "pages": self._pages, "batch": about})
        for number in range(pages_before):
            self._delete(f"{KEY}_{before}_{number}")

    def save(self, entries: Sequence[Entry]) -> None:
        """Write entries that changed."""
        for number in sorted({self._position[id(entry)] // PAGE for entry in entries}):
            self._write(number)

    @property
    def _pages(self) -> int:
        return -(-len(self._batch.entries) // PAGE) if self._batch else 0

    def _keep(self, batch: Batch) -> None:
        self._batch = batch
        self._position = {id(entry): number for number, entry in enumerate(batch.entries)}

    def _write(self, number: int) -> None:
        assert self._batch is not None
        page = self._batch.entries[number * PAGE : (number + 1) * PAGE]
        self._set(self._page_key(number), [entry.to_json() for entry in page])

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
