"""The methods that Airflow's OpenLineage provider calls on a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_sb_provider.exports.outcome import Report
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.tasks.outcome import TaskReport

log = logging.getLogger(__name__)


class OpenLineageMixin:
    """Build OpenLineage datasets from the task's report.

    OpenLineage calls its methods after `execute` or the method that ends a deferral, in the same process or a fork.
    """

    def _reported(self) -> Report | TaskReport | None:
        """Return the current report; None before there are jobs. It sends no request."""
        return None

    if TYPE_CHECKING:

        @property
        def hook(self) -> SevenBridgesHook:
            """The hook that sends the task's requests."""

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return the files as inputs, and the exported objects or the app's output files as outputs."""
        return self._openlineage(failed=False)

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return the same for a failed task, with the requested objects if none was exported."""
        return self._openlineage(failed=True)

    def _openlineage(self, *, failed: bool) -> OperatorLineage[Any, Any] | None:
        try:
            report = self._reported()
            if report is None:
                return None
            # OpenLineage may not be installed.
            from airflow_sb_provider.lineage.openlineage import operator_lineage

            return operator_lineage(report, self.hook.settings.endpoint, failed=failed)
        except Exception as error:
            log.warning("Could not report the task's lineage to OpenLineage: %s", error)
            return None
