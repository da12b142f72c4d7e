"""Operators that export files of a project to a volume, and the one that verifies exports."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider._compat import AIRFLOW_STORES_NONE, conf
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.api.times import in_words, isoformat_utc, parse_time
from airflow_sb_provider.engine.export_policy import ExportPolicy
from airflow_sb_provider.engine.result import read_object, volume_or_none
from airflow_sb_provider.exceptions import (
    SevenBridgesError,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
)
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.outcome import ExportOutcome, Report
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.selection import EXPORT_FIELDS
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import Problems, check_seconds, read_boolean, read_switches
from airflow_sb_provider.jobs.tracked import IN_DOUBT
from airflow_sb_provider.jobs.watch import DEFAULT_TIMEOUT, POLL_INTERVAL
from airflow_sb_provider.links.export import SevenBridgesDestinationLink, SevenBridgesFileLink, SevenBridgesVolumeLink
from airflow_sb_provider.links.urls import file_page, folder_page, known_environment, object_page
from airflow_sb_provider.operators.base import SevenBridgesOperator
from airflow_sb_provider.operators.bulk_export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.validate import validate_export
from airflow_sb_provider.operators.verify import SevenBridgesVerifyExportsOperator
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.models import ExportJob, Volume
    from airflow_sb_provider.jobs.batch import Batch

__all__ = ["SevenBridgesBulkExportOperator", "SevenBridgesExportOperator", "SevenBridgesVerifyExportsOperator"]


class SevenBridgesExportOperator(SevenBridgesOperator[TrackedExport]):
    """Export one file of a project to a volume.

    Returns a plain dict: ``export_id``, ``state``, ``file``, ``volume``, ``location``, ``uri``, ``size`` (bytes),
    ``etag``, ``copy_only``, ``overwrite``, ``started_on``, ``finished_on``, ``adopted``, ``result`` (the Platform's
    file object). The operator pushes the XCom ``export_id`` as soon as the Platform accepts the export.

    .. note:: By default an export is a *move*: the project file becomes an alias of the new object. It cannot be
        undone, repeated or canceled. A retry checks the Platform for the export of an earlier try before it submits.
        If the task is killed or times out, the export continues, and the task's log names it.

    .. seealso:: `Start an export job <https://docs.sevenbridges.com/reference/start-an-export-job-v2>`__

    :param file: ID of the file, 24 hexadecimal digits. (templated)
    :param volume: ID of the destination volume, ``owner/name``. It must be active and writable. (templated)
    :param location: the key of the object on the volume, relative to the volume's prefix. (templated)
    :param overwrite: whether to delete an object that is at the destination. If you move the file, this can destroy
        the only copy of another file. (templated)
    :param overwrite_aliased: whether ``overwrite`` may delete an object that another file is an alias of, as far as the
        task can see. That file loses its bytes. (templated)
    :param copy_only: whether to copy the file, so that the Platform keeps it. (templated)
    :param properties: ``sse_algorithm`` (``AES256``, ``aws:kms``, None), ``sse_aws_kms_key_id``, ``aws_canned_acl``,
        ``aws_storage_class``; a mapping or its JSON. (templated)
    :param validate_only: whether to check all parameters and return what the task would do, without changing
        anything. (templated)
    :param sevenbridges_conn_id: ID of the Airflow connection. (templated)
    :param wait_for_completion: whether to wait for the export. If false, the task ends after the submission; use a
        sensor to wait.
    :param deferrable: whether to wait in the triggerer, without a worker slot.
    :param poll_interval: seconds between two polls of the job.
    :param timeout: seconds from the submission, across retries, after which the task fails; None for no limit.
    """

    template_fields: Sequence[str] = (
        "file",
        "volume",
        "location",
        "overwrite",
        "overwrite_aliased",
        "copy_only",
        "properties",
        "validate_only",
        "sevenbridges_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"properties": "json"}
    operator_extra_links: Sequence[BaseOperatorLink] = (
        SevenBridgesFileLink(),
        SevenBridgesVolumeLink(),
        SevenBridgesDestinationLink(),
    )
    status_kind = "export"
    entry_class = TrackedExport
    trigger_class = SevenBridgesExportTrigger
    single = True

    def __init__(
        self,
        *,
        file: str,
        volume: str,
        location: str,
        overwrite: bool | str = False,
        overwrite_aliased: bool | str = False,
        copy_only: bool | str = False,
        properties: dict[str, str | None] | str | None = None,
        validate_only: bool | str = False,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.volume = volume
        self.location = location
        self.overwrite = overwrite
        self.overwrite_aliased = overwrite_aliased
        self.copy_only = copy_only
        self.properties = properties
        self.validate_only = validate_only
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.wait_for_completion, self.deferrable = read_switches(
            wait_for_completion=wait_for_completion, deferrable=deferrable
        )
        self.poll_interval = poll_interval
        self.timeout = timeout
        check_seconds(poll_interval=poll_interval, timeout=timeout)

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the file, or adopt the export of an earlier try."""
        with self._reporting(context):
            request, validate_only = self._checked()
            if validate_only:
                self._publish_id(context, None)
                checked = validate_export(self.hook, request, overwrite_aliased=read_boolean(self.overwrite_aliased))
                file = {"id": request.file, "name": checked["name"], "size": checked["size"]}
                self._status.publish(state="DRY_RUN", file=file, uri=checked["uri"])
                return checked
            self.log.info("Requested: %s.", request.with_properties)
            return self._submit(context, [TrackedExport(request)])

    def _policy(self) -> ExportPolicy:
        return ExportPolicy(self.hook, single=True, overwrite_aliased=read_boolean(self.overwrite_aliased))

    def _checked(self) -> tuple[ExportRequest, bool]:
        problems = Problems()
        values = {name: getattr(self, name) for name in EXPORT_FIELDS}
        request = problems.read("", lambda values: ExportRequest.checked(**values), values, None)
        validate_only = problems.read("validate_only", read_boolean, self.validate_only, False)
        problems.read("overwrite_aliased", read_boolean, self.overwrite_aliased, False)
        problems.texts += self._connection_problems()
        problems.raise_if_any()
        assert request is not None
        if self._status["file"] is None:
            wanted = ExportOutcome.of_entry(TrackedExport(request)).to_request_status()
            self._status.stage(**wanted, properties=request.properties)
        return request, validate_only

    @staticmethod
    def _publish_id(context: Context, export_id: str | None) -> None:
        if export_id is not None or AIRFLOW_STORES_NONE:
            context["ti"].xcom_push(key="export_id", value=export_id)

    def _submitted(self, context: Context, batch: Batch[TrackedExport]) -> None:
        [entry] = batch.entries
        if entry.why:
            self._status.stage(why=entry.why)
        if entry.job:
            self._publish_id(context, entry.job_id)

    def _show_progress(self, batch: Batch[TrackedExport]) -> None:
        [entry] = batch.entries
        if entry.job and entry.in_flight:
            self._show(entry, entry.job)

    def _is_over(self, batch: Batch[TrackedExport]) -> bool:
        return super()._is_over(batch) or (not self.wait_for_completion and not batch.waiting)

    def _started_at(self, batch: Batch[TrackedExport]) -> float:
        [entry] = batch.entries
        # The record may belong to an older request, which started another job or none.
        if entry.record and entry.job_id == entry.own_id:
            return entry.record.sent_at
        started = parse_time(entry.started_on)
        return started.timestamp() if started else batch.started_at

    def _show(self, entry: TrackedExport, job: ExportJob) -> None:
        """Show the job; fetch file and volume for its links only if half of the rate limit is left."""
        request, file, volume = entry.request, None, None
        rate = self.hook.rate_limit
        plenty = rate is not None and (rate.remaining or 0) > (rate.limit or 0) / 2
        if plenty and not job.ended and known_environment(self.hook.settings.endpoint):
            with suppress(SevenBridgesError):
                file = self.hook.send(calls.get_file(request.file), retry=False)
            with suppress(SevenBridgesError):
                volume = self.hook.get_volume(request.volume, retry=False)
        if file:
            entry.name, entry.size, entry.project = file.name, file.size, file.project
        outcome = ExportOutcome.of_entry(entry, volume)
        self._link(outcome, volume)
        self._status.publish(
            **outcome.to_status(),
            submitted_at=isoformat_utc(entry.record.sent_at) if entry.record and not entry.adopted else None,
        )
        if page := self.known_links.get(SevenBridgesFileLink().xcom_key):
            self.log.info("The file on the Platform: %s", page)

    def _link(self, outcome: ExportOutcome, volume: Volume | None) -> None:
        endpoint = self.hook.settings.endpoint
        self._status.publish_links(
            {
                SevenBridgesFileLink: file_page(endpoint, outcome.project, outcome.file),
                SevenBridgesVolumeLink: folder_page(endpoint, object_uri(volume, "")) if volume else None,
                SevenBridgesDestinationLink: object_page(endpoint, outcome.uri),
            }
        )

    def _finish(self, context: Context, batch: Batch[TrackedExport], timed_out: bool) -> dict[str, Any]:
        [entry] = batch.entries
        if timed_out:
            export_id = entry.job_id
            state = (
                f"Export {export_id} is still {entry.job.state}"
                if entry.job
                else f"Export {export_id} has not been polled successfully"
            )
            raise SevenBridgesExportTimeout(
                f"{state} at the end of the time to wait for it (timeout={self.timeout} seconds from the submission). "
                "The export continues: the Platform cannot cancel it. To wait for it again, increase timeout and clear "
                "the task."
            )
        if entry.bad:
            raise entry.error or SevenBridgesInDoubt(entry.message)
        result = self._describe(context, entry).to_result()
        if self.wait_for_completion:
            self._emit_asset_events(context)
        return result

    def _reported(self) -> Report | None:
        return Report.of_batch(self._batch, self.hook.known_volumes) if self._batch else None

    def _describe(self, context: Context, entry: TrackedExport) -> ExportOutcome:
        """Fetch the object, and publish the outcome."""
        job, adopted_object = entry.job, entry.proof
        if job and job.succeeded and adopted_object is None:
            self._check_object(entry, job)
        known = ExportOutcome.of_entry(entry)
        # An asset event needs the URI.
        volume = volume_or_none(self.hook, known.volume or "", needed=bool(self.outlets))
        outcome = ExportOutcome.of_entry(entry, volume)
        if job is None:
            self._publish_id(context, None)
        self._link(outcome, volume)
        self._status.publish(**outcome.to_status(), error=None, check_again_at=None)
        if job and job.ended and not adopted_object:
            verb = "Copied" if outcome.copy_only else "Moved"
            took = (job.finished_on - job.started_on).total_seconds() if job.started_on and job.finished_on else None
            self.log.info(
                "%s to %s (%s bytes)%s.",
                verb,
                readable(outcome.uri or f"{outcome.volume}/{outcome.location}", 1500),
                outcome.size,
                "" if took is None else f" in {in_words(took)}",
            )
        return outcome

    def _check_object(self, entry: TrackedExport, job: ExportJob) -> None:
        file, request = job.exported_file, entry.request
        # The job's values take precedence over the request's.
        job = replace(job, volume=job.volume or request.volume, location=job.location or request.location)
        try:
            entry.proof = read_object(self.hook, job, file.size if file else None)
        except SevenBridgesInDoubt as doubt:
            # No asset event and no lineage: a completed job does not prove that its object is correct.
            entry.fail(doubt, IN_DOUBT)
            raise
