"""The operators that export."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from tenacity import Retrying

from airflow_sb_provider._compat import AIRFLOW_STORES_NONE, DateTimeTrigger, conf
from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob, File
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesConnectionError,
    SevenBridgesError,
    SevenBridgesExportRefused,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.attempt import Attempt, Outcome, Record, attempt_of
from airflow_sb_provider.exports.decide import (
    NOT_EXPORTABLE,
    TAKEN,
    Adopt,
    Done,
    Fail,
    LookAgain,
    Submit,
    decide,
)
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.report import Landing, Report
from airflow_sb_provider.exports.request import ExportRequest, Intent, check_seconds, read_boolean
from airflow_sb_provider.exports.result import describe_export
from airflow_sb_provider.exports.status import file_status, job_status, moment, request_status
from airflow_sb_provider.exports.waiting import POLL_INTERVAL, WEEK, Watch
from airflow_sb_provider.hooks.facts import gather_facts
from airflow_sb_provider.hooks.failures import airflow_failures
from airflow_sb_provider.hooks.retrying import retry_rules
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.hooks.waiting import look_at_object, volume_or_none, wait
from airflow_sb_provider.links.addresses import file_page, folder_page, known_environment, object_page
from airflow_sb_provider.links.export import SevenBridgesDestinationLink, SevenBridgesFileLink, SevenBridgesVolumeLink
from airflow_sb_provider.operators.base import SevenBridgesOperator
from airflow_sb_provider.operators.bulk_export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.task_record import TaskRecord
from airflow_sb_provider.operators.validate import validate_export
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.decide import Decision

_MAX_SETBACKS = 2

__all__ = ["SevenBridgesBulkExportOperator", "SevenBridgesExportOperator"]


class SevenBridgesExportOperator(SevenBridgesOperator):
    """Exports one file of a project to a volume.

    Returns a plain dict: ``export_id``, ``state``, ``file``, ``volume``, ``location``, ``uri``, ``size`` (bytes),
    ``etag``, ``copy_only``, ``overwrite``, ``started_on``, ``finished_on``, ``adopted``, ``result`` (the Platform's
    file object). The XCom ``export_id`` is there as soon as the Platform has answered.

    .. note:: By default an export is a *move*: the project file becomes an alias of the new object. It cannot be
        undone, repeated or cancelled. A retry looks for what an earlier try did before it asks for anything; a task
        that is killed or times out leaves its export running, and says so.

    API page: "Start an export job", https://docs.sevenbridges.com/reference/start-an-export-job-v2

    :param file: id of the file, 24 hexadecimal digits. (templated)
    :param volume: id of the destination volume, ``owner/name``; it must be active and RW. (templated)
    :param location: the object's key on the volume, relative to the volume's prefix. (templated)
    :param overwrite: deletes an object that is at the destination first; as a move this can destroy the only copy
        of another file. (templated)
    :param copy_only: copies, so that the Platform keeps the file. (templated)
    :param properties: ``sse_algorithm`` (``AES256``, ``aws:kms``, None), ``sse_aws_kms_key_id``, ``aws_canned_acl``,
        ``aws_storage_class``; a mapping or its JSON. (templated)
    :param validate_only: checks everything, changes nothing, and returns what would be done. (templated)
    :param sevenbridges_conn_id: the Airflow connection. (templated)
    :param wait_for_completion: false to end with the submission, for a sensor to wait.
    :param deferrable: waits in the triggerer, without a worker slot.
    :param poll_interval: seconds between two looks at the job.
    :param timeout: seconds from the submission, also across retries, after which the task fails; None for never.
    """

    template_fields: Sequence[str] = (
        "file",
        "volume",
        "location",
        "overwrite",
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
    _export_id: str | None = None
    _sent_at: float | None = None

    def __init__(
        self,
        *,
        file: str,
        volume: str,
        location: str,
        overwrite: bool | str = False,
        copy_only: bool | str = False,
        properties: dict[str, str | None] | str | None = None,
        validate_only: bool | str = False,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL,
        timeout: float | None = WEEK,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.volume = volume
        self.location = location
        self.overwrite = overwrite
        self.copy_only = copy_only
        self.properties = properties
        self.validate_only = validate_only
        self.sevenbridges_conn_id = sevenbridges_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        check_seconds(poll_interval=poll_interval, timeout=timeout)

    def execute(self, context: Context) -> dict[str, Any]:
        """Export the file, or take over what an earlier try began."""
        with airflow_failures(), self._shown(context):
            request, validate_only = self._checked()
            if validate_only:
                self._tell_id(context, None)
                told = validate_export(self.hook, request)
                file = {"id": request.file, "name": told["name"], "size": told["size"]}
                self._status.show(state="DRY_RUN", file=file, uri=told["uri"])
                return told
            attempt = self._attempt(context, request)
            self._export_id = attempt.export_id
            return self._export(context, request, attempt)

    def look_again(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on after the pause in which a request in doubt could still have been accepted."""
        with airflow_failures(), self._shown(context, resumed=True):
            request, _ = self._checked()
            attempt = replace(self._attempt(context, request), untroubled=False, looks=1, doubt_until=time.time())
            return self._export(context, request, attempt)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on when the trigger has ended."""
        with airflow_failures(), self._shown(context, resumed=True):
            request, _ = self._checked()
            return self._ended(context, request, event, adopted=bool(event.get("adopted")))

    def on_kill(self) -> None:
        """Say that the export goes on: the API has no cancel."""
        if self._export_id:
            self.log.warning(
                "The task is ended, but export %s goes on at the Platform, which has no cancel. "
                "A retry or a cleared task waits for it instead of starting another.",
                self._export_id,
            )

    def _checked(self) -> tuple[ExportRequest, bool]:
        problems: list[str] = []
        request, validate_only = None, False
        try:
            request = ExportRequest.checked(
                file=self.file,
                volume=self.volume,
                location=self.location,
                overwrite=self.overwrite,
                copy_only=self.copy_only,
                properties=self.properties,
            )
        except SevenBridgesInputError as error:
            problems += error.problems
        try:
            validate_only = read_boolean(self.validate_only)
        except ValueError as problem:
            problems.append(f"validate_only: {problem}")
        problems += self._connection_problems()
        if problems or request is None:
            raise SevenBridgesInputError(problems)
        if self._status["file"] is None:
            self._status.note(**request_status(request))
        return request, validate_only

    @staticmethod
    def _tell_id(context: Context, export_id: str | None) -> None:
        if export_id is not None or AIRFLOW_STORES_NONE:
            context["ti"].xcom_push(key="export_id", value=export_id)

    def _attempt(self, context: Context, request: ExportRequest) -> Attempt:
        ti = context["ti"]
        store = TaskRecord(context)
        return attempt_of(
            request,
            record=store.load(),
            has_store=store.has_store,
            credential=self.hook.settings.credential,
            try_number=ti.try_number,
            max_tries=ti.max_tries,
            retries=self.retries or 0,
            started_at=time.time(),
            gateway_timeout=self.hook.settings.gateway_timeout,
        )

    def _still_out(self, context: Context, request: ExportRequest) -> float | None:
        """Until when a request of this task may still be accepted, although it followed another's job."""
        if not TaskRecord(context).has_store:
            return time.time() + self.hook.settings.gateway_timeout
        return self._attempt(context, request).doubt_until

    def _export(self, context: Context, request: ExportRequest, attempt: Attempt) -> dict[str, Any]:
        """Decide, and act on it, until there is a job to wait for or the export is made."""
        self.log.info("Export wanted: %s.", request)
        self._not_landed(request, attempt.failed.id if attempt.failed else attempt.export_id)
        again = Retrying(**retry_rules(self.log), sleep=time.sleep)
        setbacks = 0
        while True:
            try:
                decision, job = again(self._decide_and_submit, context, request, attempt)
            except SevenBridgesReplyLost as lost:
                setbacks += 1
                if setbacks >= _MAX_SETBACKS:
                    raise
                self.log.warning("%s Looking for it before anything else.", lost)
                now = time.time()
                attempt = Attempt(
                    fresh=False,
                    sent_at=self._sent_at,
                    doubt_until=now + self.hook.settings.gateway_timeout,
                    why="The answer to the first request was lost.",
                )
                continue
            except SevenBridgesApiError as refusal:
                setbacks += 1
                if refusal.code not in (NOT_EXPORTABLE, TAKEN) or setbacks > _MAX_SETBACKS:
                    raise
                self.log.info("The Platform refuses: %s Looking for the cause.", refusal)
                attempt = replace(attempt, untroubled=False, refusal=refusal)
                continue
            if isinstance(decision, Fail):
                raise decision.error from attempt.refusal
            if isinstance(decision, LookAgain):
                self._pause(decision)
                attempt = replace(attempt, looks=1)
                continue
            if isinstance(decision, Done):
                return self._already_done(context, request, decision)
            if isinstance(decision, Adopt):
                return self._follow(context, request, decision.job, attempt, adopted=True)
            assert job is not None
            return self._follow(context, request, job, attempt, adopted=False)

    def _decide_and_submit(
        self, context: Context, request: ExportRequest, attempt: Attempt
    ) -> tuple[Decision, ExportJob | None]:
        # Together, so that a request that has to wait for the rate limit is decided on anew before it is sent.
        self.hook.wait_for_rate_limit()
        decision = self._decide(request, attempt)
        if isinstance(decision, Submit | Adopt | Done) and decision.why:
            self.log.info(decision.why)
            self._status.note(why=decision.why)
        if isinstance(decision, Submit):
            return decision, self._submit(context, request, overwrite=decision.overwrite)
        return decision, None

    def _decide(self, request: ExportRequest, attempt: Attempt) -> Decision:
        if attempt.untroubled and request.intent is not Intent.MOVE_OVERWRITE:
            return Submit(attempt.why, overwrite=request.overwrite)
        return decide([request], gather_facts(self.hook, [request], [attempt]))[0]

    def _pause(self, decision: LookAgain) -> None:
        seconds = decision.at - time.time()
        if seconds <= 0:
            return
        self.log.info("%s Waiting %.0f s for that.", decision.why, seconds)
        self._status.show(why=decision.why, state="LOOKING", look_again_at=moment(decision.at))
        if self.deferrable:
            trigger = DateTimeTrigger(moment=datetime.fromtimestamp(decision.at, UTC))
            self.defer(trigger=trigger, method_name="look_again")
        time.sleep(seconds)

    def _submit(self, context: Context, request: ExportRequest, *, overwrite: bool) -> ExportJob:
        store = TaskRecord(context)
        record = Record(
            fingerprint=request.fingerprint,
            credential=self.hook.settings.credential,
            sent_at=time.time(),
            max_tries=context["ti"].max_tries,
        )
        # The intent is written first: without it nothing is sent, and a try after a crash knows that it must look.
        store.save(record)
        self._sent_at = record.sent_at
        try:
            asked = replace(request, overwrite=overwrite)
            job = self.hook.send(calls.start_export(asked, copy_only=asked.copy_only), again=False)
        except (SevenBridgesApiError, SevenBridgesConnectionError):
            store.save(replace(record, outcome=Outcome.REFUSED))
            raise
        self._export_id = job.id
        context["ti"].xcom_push(key="export_id", value=job.id)
        self.log.info("The Platform accepted it as export %s (%s).", job.id, job.state)
        store.save(replace(record, outcome=Outcome.ACCEPTED, export_id=job.id))
        return job

    def _show(self, request: ExportRequest, job: ExportJob, *, adopted: bool) -> None:
        """Show what is under way; file and volume are looked at only for links, and while there is plenty to spend."""
        file, volume = None, None
        rate = self.hook.rate_limit
        plenty = rate is not None and (rate.remaining or 0) > (rate.limit or 0) / 2
        if plenty and not job.ended and known_environment(self.hook.settings.endpoint):
            with suppress(SevenBridgesError):
                file = self.hook.send(calls.get_file(request.file), again=False)
            with suppress(SevenBridgesError):
                volume = self.hook.get_volume(request.volume, again=False)
        self._link(file, volume, request.location)
        self._status.show(
            **job_status(job),
            **({"file": file_status(file)} if file else {}),
            uri=object_uri(volume, request.location) if volume else None,
            adopted=adopted,
            submitted_at=moment(self._sent_at) if self._sent_at and not adopted else None,
        )
        if page := self.known_links.get(SevenBridgesFileLink().xcom_key):
            self.log.info("The file on the Platform: %s", page)

    def _link(self, file: File | None, volume: Volume | None, location: str | None) -> None:
        endpoint = self.hook.settings.endpoint
        uri = object_uri(volume, location) if volume and location else None
        self._status.link(
            {
                SevenBridgesFileLink: file_page(endpoint, file.project, file.id) if file else None,
                SevenBridgesVolumeLink: folder_page(endpoint, object_uri(volume, "")) if volume else None,
                SevenBridgesDestinationLink: object_page(endpoint, uri),
            }
        )

    def _follow(
        self, context: Context, request: ExportRequest, job: ExportJob, attempt: Attempt, *, adopted: bool
    ) -> dict[str, Any]:
        self._export_id = job.id
        self._not_landed(request, job.id)
        if adopted:
            context["ti"].xcom_push(key="export_id", value=job.id)
        self._show(request, job, adopted=adopted)
        if not self.wait_for_completion:
            return self._describe(request, job, adopted=adopted)
        if job.ended:
            return self._ended(context, request, {"status": "ended", "job": job.to_json()}, adopted=adopted)
        submitted = time.time()
        if adopted:
            started = job.started_on.timestamp() if job.started_on else None
            # The record may tell of a request long ago, which made another job or none.
            known = (attempt.sent_at, started) if job.id == attempt.export_id else (started, attempt.sent_at)
            submitted = next(filter(None, known), submitted)
        end_time = self._end_time(submitted)
        self.log.info(
            "Waiting %s, with a look every %.0f s%s.",
            "without a worker slot" if self.deferrable else "in this worker",
            self.poll_interval,
            f", until {moment(end_time)} at the latest" if end_time else "",
        )
        if self.deferrable:
            self.defer(
                trigger=SevenBridgesExportTrigger(
                    [job.id], self.sevenbridges_conn_id, self.poll_interval, end_time, adopted
                ),
                method_name="execute_complete",
            )
        event = wait(self.hook, Watch([job.id], end_time), self.poll_interval, self._status.follow)
        return self._ended(context, request, event, adopted=adopted)

    def _end_time(self, submitted: float) -> float | None:
        limits = [submitted + self.timeout] if self.timeout is not None else []
        if self.execution_timeout and self.deferrable:
            # Airflow 3 does not apply it to a deferred task.
            limits.append(time.time() + self.execution_timeout.total_seconds())
        return min(limits, default=None)

    def _ended(
        self, context: Context, request: ExportRequest, event: dict[str, Any], *, adopted: bool
    ) -> dict[str, Any]:
        job = ExportJob.from_json(event["job"]) if event.get("job") else None
        export_id = job.id if job else event.get("export_id") or self._export_id
        self._not_landed(request, export_id)
        if event["status"] == "timeout":
            name = f"Export {job.id} is still {job.state}" if job else f"Nothing was heard of export {export_id}"
            raise SevenBridgesExportTimeout(
                f"{name} at the end of the time to wait for it (timeout={self.timeout} s from the submission). "
                "It goes on at the Platform, which has no cancel; "
                "a cleared task with a longer timeout waits for it again."
            )
        if event["status"] != "ended" or job is None:
            raise SevenBridgesInDoubt(
                f"{event.get('message', 'The wait ended without an answer.')} The export may go on; "
                "check the connection's token, which must belong to the user who started it."
            )
        self._export_id = job.id
        self._status.note(**job_status(job))
        if job.failed:
            refusal = job.error or SevenBridgesApiError(0, message="The Platform gave no reason.")
            self.log.info("Export %s failed: %s Looking for the cause.", job.id, refusal)
            # A twin may have been faster, so that the failure tells of an export that is made.
            doubt_until = self._still_out(context, request) if adopted else None
            return self._export(context, request, Attempt(refusal=refusal, failed=job, doubt_until=doubt_until))
        return self._landed(context, self._describe(request, self._verified(request, job, adopted), adopted=adopted))

    def _verified(self, request: ExportRequest, job: ExportJob, adopted: bool) -> ExportJob:
        if not adopted:
            return job
        file = self.hook.get_file(request.file)
        if file.is_alias and request.copy_only:
            self.log.warning("The export that was taken over was a move: the file is now an alias of the object.")
        if not file.is_alias and not request.copy_only:
            raise SevenBridgesExportRefused(
                f"Export {job.id}, which was running already, was a copy: the file is still on the Platform and the "
                f"object is at {request.volume}/{request.location}. To move the file, start a new run with overwrite "
                "or another location."
            )
        return job

    def _describe(self, request: ExportRequest, job: ExportJob, *, adopted: bool) -> dict[str, Any]:
        # The job's own words come first: a template may render anew after a deferral.
        volume, location = job.volume or request.volume, job.location or request.location
        found = None
        file = File.from_json(job.result) if job.result and job.result.get("id") else None
        if job.succeeded:
            job = replace(job, volume=volume, location=location)
            found = look_at_object(self.hook, job, file.size if file else None)
        # An outlet is told of nothing without the address.
        volume_details = volume_or_none(self.hook, volume, needed=bool(self.outlets))
        result = describe_export(
            job,
            file=job.file or request.file,
            volume=volume,
            location=location,
            copy_only=request.copy_only,
            overwrite=request.overwrite,
            adopted=adopted,
            volume_details=volume_details,
            volume_object=found,
        )
        self._link(file, volume_details, location)
        self._show_result(result, file)
        if job.succeeded:
            verb = "Copied" if request.copy_only else "Moved"
            took = (job.finished_on - job.started_on).total_seconds() if job.started_on and job.finished_on else None
            self.log.info(
                "%s to %s (%s bytes%s).",
                verb,
                readable(result["uri"] or f"{volume}/{location}", 1500),
                result["size"],
                "" if took is None else f", {took:.0f} s",
            )
        return result

    def _already_done(self, context: Context, request: ExportRequest, done: Done) -> dict[str, Any]:
        self._tell_id(context, done.job.id if done.job else None)
        volume_details = volume_or_none(self.hook, request.volume, needed=bool(self.outlets))
        result = describe_export(
            done.job,
            file=request.file,
            volume=request.volume,
            location=request.location,
            copy_only=request.copy_only,
            overwrite=request.overwrite,
            adopted=True,
            volume_details=volume_details,
            volume_object=done.object,
        )
        file = File.from_json(result["result"]) if result["result"] and result["result"].get("id") else None
        self._link(file, volume_details, request.location)
        self._show_result(result, file)
        return self._landed(context, result) if self.wait_for_completion else result

    def _not_landed(self, request: ExportRequest, export_id: str | None) -> None:
        volume = self.hook.known_volumes.get(request.volume)
        self._report = Report([Landing.of_request(request, export_id, volume)])

    def _landed(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        self._announce(context, Report([Landing.of_result(result, landed=True)]))
        return result

    def _show_result(self, result: dict[str, Any], file: File | None) -> None:
        told = ("export_id", "state", "started_on", "finished_on", "adopted", "uri", "size", "etag")
        self._status.show(
            **({"file": file_status(file)} if file else {}),
            **{key: result[key] for key in told},
            error=None,
            look_again_at=None,
        )
