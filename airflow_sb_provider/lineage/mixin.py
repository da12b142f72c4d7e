"""What Airflow's OpenLineage provider requests of a task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_sb_provider.exports.outcome import Report
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

log = logging.getLogger(__name__)


class OpenLineageMixin:
    """Answers from what the task's process knows of its exports.

    OpenLineage asks after `execute` or the method that ends a deferral, in the same process or in a copy of it.
    """

    def _reported(self) -> Report | None:
        """Return the exports as they stand; None before there are any. It sends no request."""
        return None

    if TYPE_CHECKING:

        @property
        def hook(self) -> SevenBridgesHook:
            """What the task's requests go through."""

    def get_openlineage_facets_on_complete(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which files were exported to which objects."""
        return self._openlineage(failed=False)

    def get_openlineage_facets_on_failure(self, task_instance: object) -> OperatorLineage[Any, Any] | None:
        """Return which files were to be exported, and what is exported nevertheless."""
        return self._openlineage(failed=True)

    def _openlineage(self, *, failed: bool) -> OperatorLineage[Any, Any] | None:
        try:
            report = self._reported()
            if report is None:
                return None
            # Not every Airflow has OpenLineage.
            from airflow_sb_provider.lineage.openlineage import operator_lineage

            return operator_lineage(report, self.hook.settings.endpoint, failed=failed)
        except Exception as error:
            log.warning("OpenLineage is not told of the exports: %s", error)
            return None
