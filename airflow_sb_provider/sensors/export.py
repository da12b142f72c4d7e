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
from airflow_sb_provider.lineage.mixin import OpenLineageMixin
from airflow_sb_provider.lineage.outlets import emit_asset_events
from airflow_sb_provider.sensors.base import SevenBridgesJobSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context


class SevenBridgesExportSensor(OpenLineageMixin, SevenBridgesJobSensor[ExportJob]):
    """Wait until exports reach a terminal state; fail if one of them failed.

    For one id, the result is the dict that `SevenBridgesExportOperator` returns, with ``copy_only`` None because the
    Platform does not report it. For a list, it is a list of these dicts in the same order. The sensor does not read the
    objects of a list, so their ``etag`` is None.

    :param export_id: one id or a list of at most 1000, also as text. None means that there is nothing to wait for, for
        example because the operator adopted a finished move. (templated)
    :param sevenbridges_conn_id: the Airflow connection of the user who submitted the exports. (templated)
    :param deferrable: whether to wait in the triggerer. ``poke_interval``, ``timeout``, ``soft_fail``, ``silent_fail``
        and ``never_fail`` have the same meaning there.
    :param start_from_trigger: whether to start in the triggerer, so that a worker is needed only at the end. It needs
        Airflow 3.3 (earlier versions only defer) and an id that is text or a template. A mapped sensor (``expand``)
        starts in a worker.
    :param end_from_trigger: whether to end in the triggerer when all exports are completed. The sensor then reads
        neither volume nor object: ``uri`` and ``etag`` are None, and the object's size is not checked. It needs Airflow
        3.3 and has no effect where Airflow needs a worker at the end: with outlets, with callbacks for success or
        execution, with listeners or an XCom backend, and if another task maps over the result.
    :raises AirflowFailException: if an export failed; a retry cannot succeed.
    :raises AirflowSensorTimeout: if an export is not terminal at the end of ``timeout``.
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
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sevenbridges_conn_id=sevenbridges_conn_id,
            deferrable=deferrable,
            start_from_trigger=start_from_trigger,
            end_from_trigger=end_from_trigger,
            **kwargs,
        )
        self.export_id = export_id
        self._start_in_trigger()

    def _record_jobs(self, jobs: Sequence[ExportJob]) -> None:
        self._report = Report([ExportOutcome.of_job(job) for job in jobs], many=not self._is_single)

    def _results(self, context: Context, jobs: Sequence[ExportJob]) -> Any:
        single = self._is_single
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
        volume_object = read_object(self.hook, job, file.size if file else None) if single else None
        return ExportOutcome.of_job(job, volume, volume_object)
