"""The sensor that waits for exports."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sb_provider._compat import (
    AIRFLOW_RENDERS_TRIGGERS,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    StartTriggerArgs,
    conf,
)
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.engine.polling import look_at_object, poll, volume_or_none
from airflow_sb_provider.exceptions import (
    SevenBridgesExportFailed,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
)
from airflow_sb_provider.exports.outcome import ExportOutcome, Report
from airflow_sb_provider.failures import airflow_failure, airflow_failures
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import read_switches
from airflow_sb_provider.jobs.watch import STRIKES, Watch, is_one_id, read_export_ids
from airflow_sb_provider.lineage.outlets import announce
from airflow_sb_provider.lineage.task import TellsLineage
from airflow_sb_provider.rendering import RendersAuthorsText
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider._compat import Context

# What `soft_fail` skips for. Anything else is wrong with the sensor or in doubt, which a skip would hide.
_SOFT = (SevenBridgesExportFailed, AirflowSensorTimeout, AirflowTaskTimeout)


class SevenBridgesExportSensor(RendersAuthorsText, TellsLineage, BaseSensorOperator):
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
    ui_color = "#e3f1ee"
    _report: Report | None = None

    def __init__(
        self,
        *,
        export_id: str | Sequence[str] | None,
        sevenbridges_conn_id: str = SevenBridgesHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.export_id = export_id
        self.sevenbridges_conn_id = sevenbridges_conn_id
        deferrable, start_from_trigger = read_switches(deferrable=deferrable, start_from_trigger=start_from_trigger)
        self.deferrable = deferrable or start_from_trigger
        if start_from_trigger and AIRFLOW_RENDERS_TRIGGERS:
            self._start_from_trigger()
        self._hook: SevenBridgesHook | None = None
        self._watch: Watch | None = None

    @property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        if self._hook is None:
            self._hook = SevenBridgesHook(self.sevenbridges_conn_id)
        return self._hook

    def _start_from_trigger(self) -> None:
        if not isinstance(self.export_id, str | list | tuple | None):
            raise SevenBridgesInputError(
                f"start_from_trigger: export_id is {self.export_id!r}, which only a worker can resolve; "
                "give it as a template, such as {{ ti.xcom_pull('export', key='export_id') }}."
            )
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{SevenBridgesExportTrigger.__module__}.{SevenBridgesExportTrigger.__qualname__}",
            # Airflow renders those that are called as the sensor's own templated fields.
            trigger_kwargs={
                "export_id": self.export_id,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": max(self.poke_interval, 1.0),
                "silent_fail": self.silent_fail,
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute(self, context: Context) -> Any:
        """Wait in the worker or, deferrable, in the triggerer."""
        with self._flags():
            if not self.deferrable:
                return super().execute(context)
            value = self.poke(context)
            if value.is_done:
                return value.xcom_value
            seconds = self.timeout
            if self.execution_timeout:
                # Airflow 3 does not apply it to a deferred task.
                seconds = min(seconds, self.execution_timeout.total_seconds())
            trigger = SevenBridgesExportTrigger(
                read_export_ids(self.export_id),
                self.sevenbridges_conn_id,
                max(self.poke_interval, 1.0),
                time.time() + seconds,
                silent_fail=self.silent_fail,
            )
            self.defer(trigger=trigger, method_name="execute_complete")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a deferral, as Airflow calls it."""
        with self._flags():
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _flags(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` alike in every mode and on every Airflow.

        Airflow itself skips for other failures while it pokes than after a deferral, and 2.11 for others than 3.3.
        """
        try:
            yield
        except AirflowRescheduleException:
            raise
        except Exception as error:
            failure = error.__cause__ if isinstance(error, AirflowSkipException) else error
            if failure is None:
                raise
            if self.never_fail:
                raise AirflowSkipException("Skipping, since never_fail is set.") from failure
            if self.soft_fail and isinstance(failure, _SOFT):
                raise AirflowSkipException("Skipping, since soft_fail is set.") from failure
            if failure is error:
                raise
            raise failure from failure.__cause__

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; done when every export has ended."""
        with airflow_failures():
            ids = read_export_ids(self.export_id)
            if not ids:
                self.log.info("No export id was given, so there is nothing to wait for.")
                return PokeReturnValue(True, None)
            # A sensor that is rescheduled starts anew each time, so that its first rejection counts.
            starts_anew = self.reschedule and not self.deferrable
            if self._watch is None:
                self._watch = self._new_watch(ids, strikes=1 if starts_anew else STRIKES)
            event = self._poll(self._watch)
            if starts_anew and self._watch.unauthorized:
                # The connection is looked up again: its token may have been replaced.
                self._watch = self._new_watch(ids, strikes=1)
                event = self._poll(self._watch)
            if event is None:
                return PokeReturnValue(False)
            return PokeReturnValue(True, self._ended(context, event, list(self._watch.jobs.values())))

    def _new_watch(self, ids: Sequence[str], *, strikes: int) -> Watch:
        return Watch(ids, strikes=strikes, patient=self.silent_fail)

    def _poll(self, watch: Watch) -> dict[str, Any] | None:
        self._check_connection()
        return poll(self.hook, watch)

    def _check_connection(self) -> None:
        """Raise what is wrong with the connection, which would look like trouble to a poll."""
        self.hook.settings  # noqa: B018

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the trigger has ended."""
        with airflow_failures():
            jobs = self._jobs_of(event)
            if event["status"] == "refused":
                self._check_connection()
            if jobs is None or all(job.ended for job in jobs):
                return self._ended(context, event, jobs or [])
        # Of a template, the triggerer sees less than a worker: what a mapped task pushed is not there.
        return self.execute(context)

    def _jobs_of(self, event: dict[str, Any]) -> list[ExportJob] | None:
        """Return the jobs whose wait a trigger has ended, None if it ended otherwise."""
        ids = read_export_ids(self.export_id)
        if event["status"] != "ended":
            return None
        if event.get("job") and ids == [event["job"]["id"]]:
            return [ExportJob.from_json(event["job"])]
        return self._all_jobs(ids) if ids else []

    def _ended(self, context: Context, event: dict[str, Any], jobs: Sequence[ExportJob]) -> Any:
        ids = read_export_ids(self.export_id)
        if not ids:
            return None
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(
                f"The exports {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''} have not all ended in the time to "
                f"wait for them (timeout={self.timeout} s). They go on at the Platform, which has no cancel."
            )
        if event["status"] != "ended":
            raise SevenBridgesInDoubt(
                f"{event.get('message', 'The wait ended without an answer.')} The export may go on; "
                "check the connection's token, which must belong to the user who started it."
            )
        by_id = {job.id: job for job in jobs}
        single = is_one_id(self.export_id)
        self._report = Report([ExportOutcome.of_job(by_id[export_id]) for export_id in ids], many=not single)
        failed = [by_id[export_id] for export_id in ids if by_id[export_id].failed]
        for job in failed:
            self.log.error("%s", SevenBridgesExportFailed(job))
        if failed:
            more = f" {len(failed) - 1} more of {len(ids)} failed." if len(failed) > 1 else ""
            error = SevenBridgesExportFailed(failed[0], more.strip())
            # A job that failed stays failed, however often a sensor polls.
            raise airflow_failure(error, final=True) from error
        outcomes = [self._describe(by_id[export_id], single=single) for export_id in ids]
        self._report = Report(outcomes, many=not single)
        announce(context, self.outlets, self.hook, self._report)
        results = [outcome.to_result() for outcome in outcomes]
        return results[0] if single else results

    def _reported(self) -> Report | None:
        return self._report

    def _all_jobs(self, ids: Sequence[str]) -> list[ExportJob]:
        jobs = []
        for told in self.hook.get_exports(ids):
            if not isinstance(told, ExportJob):
                raise told
            jobs.append(told)
        return jobs

    def _describe(self, job: ExportJob, *, single: bool) -> ExportOutcome:
        file = job.exported_file
        volume = volume_or_none(self.hook, job.volume, needed=bool(self.outlets)) if job.volume else None
        found = look_at_object(self.hook, job, file.size if file else None) if single else None
        return ExportOutcome.of_job(job, volume, found)
