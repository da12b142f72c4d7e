"""A task's record of its export, in the store that Airflow 3.3 and later keep across retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.exports.attempt import Record

if TYPE_CHECKING:
    from airflow_sb_provider._compat import Context

KEY = "sevenbridges_export"


class TaskRecord:
    """Reads and writes one task instance's record; does nothing where Airflow has no store.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def has_store(self) -> bool:
        """Whether this Airflow keeps records."""
        return self._store is not None

    def load(self) -> Record | None:
        """Return what an earlier try wrote."""
        return Record.from_json(self._store.get(KEY)) if self.has_store else None

    def save(self, record: Record) -> None:
        """Write the record. Airflow refuses it to a process whose task has moved on."""
        if self.has_store:
            self._store.set(KEY, record.to_json())
