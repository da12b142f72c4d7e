"""What Airflow's OpenLineage provider asks a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_sb_provider.exports.report import Report
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

log = logging.getLogger(__name__)


class TellsLineage:
    """Answers from ``_report``, which a task keeps up to date with what its own process knows.

    OpenLineage asks after `execute` or the method that ends a deferral, in the same process or in a copy of it.
    """

    _report: Report | None = None

    if TYPE_CHECKING:

        @property
        def hook(self) -> SevenBridgesHook:
            """What the task's requests go through."""

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which files were exported to which objects."""
        return self._openlineage()

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which files were to be exported, and what has landed nevertheless."""
        return self._openlineage()

    def _openlineage(self) -> OperatorLineage[Any, Any] | None:
        if self._report is None:
            return None
        try:
            # Not every Airflow has OpenLineage.
            from airflow_sb_provider.lineage.openlineage import operator_lineage

            return operator_lineage(self._report, self.hook.settings.endpoint)
        except Exception as error:
            log.warning("OpenLineage is not told of the exports: %s", error)
            return None
