"""The sensor that waits for exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import conf
from airflow_sb_provider.api.models import ExportJob, File
from airflow_sb_provider.engine.result import look_at_object, volume_or_none
from airflow_sb_provider.exceptions import SevenBridgesExportFailed
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.exports.report import Landing, Report
from airflow_sb_provider.exports.result import describe_export
from airflow_sb_provider.hooks.connection import DEFAULT_CONN_NAME
from airflow_sb_provider.jobs.ids import is_one_id
from airflow_sb_provider.lineage.outlets import announce
from airflow_sb_provider.lineage.task import TellsLineage
from airflow_sb_provider.sensors.base import SevenBridgesJobSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context


class SevenBridgesExportSensor(TellsLineage, SevenBridgesJobSensor[ExportJob]):
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
        self._begin_in_trigger()

    def _saw(self, jobs: Sequence[ExportJob]) -> None:
        self._report = Report([Landing.of_job(job) for job in jobs], many=not is_one_id(self.export_id))

    def _results(self, context: Context, jobs: Sequence[ExportJob]) -> Any:
        single = is_one_id(self.export_id)
        results = [self._describe(job, single=single) for job in jobs]
        self._report = Report([Landing.of_result(result, landed=True) for result in results], many=not single)
        announce(context, self.outlets, self.hook, self._report)
        return results[0] if single else results

    def _describe(self, job: ExportJob, *, single: bool) -> dict[str, Any]:
        size = File.from_json(job.result).size if job.result and job.result.get("id") else None
        return describe_export(
            job,
            file=job.file,
            volume=job.volume,
            location=job.location,
            copy_only=None,
            overwrite=job.overwrite,
            adopted=False,
            volume_details=volume_or_none(self.hook, job.volume, needed=bool(self.outlets)) if job.volume else None,
            volume_object=look_at_object(self.hook, job, size) if single else None,
        )
