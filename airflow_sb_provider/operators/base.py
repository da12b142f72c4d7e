"""What the operators that export have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider._compat import BaseOperator
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.lineage.outlets import announce
from airflow_sb_provider.lineage.task import TellsLineage
from airflow_sb_provider.operators.status import TaskStatus
from airflow_sb_provider.rendering import RendersAuthorsText

if TYPE_CHECKING:
    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.exports.report import Report


class SevenBridgesOperator(RendersAuthorsText, TellsLineage, BaseOperator):
    """A task with one connection, one hook, a status that is seen in Airflow, and a report for outlets and lineage."""

    ui_color = "#e3f1ee"
    status_kind: ClassVar[str]
    sevenbridges_conn_id: str
    _status: TaskStatus

    def __init__(self, **kwargs: Any) -> None:
        # Without one of its own, Airflow 3.3.2 gives mapped tasks BaseOperator's as defaults, and no list of inlets.
        super().__init__(**kwargs)

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    @cached_property
    def known_links(self) -> dict[str, str]:
        """The addresses that this process knows for the task's links, by XCom key."""
        return {}

    def _shown(self, context: Context, *, resumed: bool = False) -> TaskStatus:
        self._status = TaskStatus(self, context, self.status_kind, resumed=resumed)
        return self._status

    def _announce(self, context: Context, report: Report) -> None:
        self._report = report
        announce(context, self.outlets, self.hook, report)

    def _connection_problems(self) -> list[str]:
        conn_id: object = self.sevenbridges_conn_id
        if isinstance(conn_id, str) and conn_id.strip():
            return []
        return [f"sevenbridges_conn_id: {conn_id!r} is empty or no text; name an Airflow connection."]
