"""The sensor that waits for exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import conf
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.engine.result import read_object, volume_or_none
from airflow_sb_provider.exceptions import SevenBridgesExportFailed
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.exports.outcome import ExportOutcome, Report
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.jobs.ids import is_one_id
from airflow_sb_provider.lineage.mixin import OpenLineageMixin
from airflow_sb_provider.lineage.outlets import emit_asset_events
from airflow_sb_provider.sensors.base import SevenBridgesJobSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context


class SevenBridgesExportSensor(OpenLineageMixin, SevenBridgesJobSensor[ExportJob]):
    """Waits until exports have ended, and fails if one of them failed.

    Returns for one id the dict that `SevenBridgesExportOperator` returns (``copy_only`` is None, since the Platform
    does not tell), for a list a list of them, in order. The objects of a list are not looked at (``etag`` is None).

    :param export_id: one id or a list of at most 1000, also as text. None means that there is nothing to wait for, as
        when the operator took over a finished move. (templated)
    :param sevenbridges_conn_id: the Airflow connection; its user must be the one who started the exports. (templated)
    :param deferrable: waits in the triggerer; ``poke_interval``, ``timeout``, ``soft_fail``, ``silent_fail`` and
        ``never_fail`` mean the same there.
    :param start_from_trigger: begins in the triggerer, so that a worker is needed only at the end. Needs Airflow 3.3
        (before, it only defers) and an id that is text or a template; a mapped sensor (``expand``) begins in a worker.
    """

    template_fields: Sequence[str] = ("export_id", "sevenbridges_conn_id")
    kind = EXPORT
    trigger_class = SevenBridgesExportTrigger
    failure = SevenBridgesExportFailed
    _report: Report | None = None

    def __init__(
        self,
        *,
        export_id: str | Sequence[str] | None,
        sevenbridges_conn_id: str = DEFAULT_CONN_NAME,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sevenbridges_conn_id=sevenbridges_conn_id,
            deferrable=deferrable,
            start_from_trigger=start_from_trigger,
            **kwargs,
        )
        self.export_id = export_id
        self._start_in_trigger()

    def _saw(self, jobs: Sequence[ExportJob]) -> None:
        self._report = Report([ExportOutcome.of_job(job) for job in jobs], many=not is_one_id(self.export_id))

    def _results(self, context: Context, jobs: Sequence[ExportJob]) -> Any:
        single = is_one_id(self.export_id)
        outcomes = [self._describe(job, single=single) for job in jobs]
        self._report = Report(outcomes, many=not single)
        emit_asset_events(context, self.outlets, self.hook, self._report)
        results = [outcome.to_result() for outcome in outcomes]
        return results[0] if single else results

    def _reported(self) -> Report | None:
        return self._report

    def _describe(self, job: ExportJob, *, single: bool) -> ExportOutcome:
        file = job.exported_file
        volume = volume_or_none(self.hook, job.volume, needed=bool(self.outlets)) if job.volume else None
        found = read_object(self.hook, job, file.size if file else None) if single else None
        return ExportOutcome.of_job(job, volume, found)
