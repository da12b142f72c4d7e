"""The base class of the sensors that wait for jobs: modes, flags and deferral. Subclasses add fields and results."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from airflow_sb_provider._compat import (
    AIRFLOW_RENDERS_TRIGGERS,
    HAS_XCOM_BACKEND,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    StartTriggerArgs,
    get_listener_manager,
)
from airflow_sb_provider.api.text import cut, readable
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesInDoubt, SevenBridgesInputError
from airflow_sb_provider.failures import airflow_failure, airflow_failures
from airflow_sb_provider.hooks.polling import poll
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import read_switches
from airflow_sb_provider.jobs import watch as watch_module
from airflow_sb_provider.jobs.ids import is_one_id, read_job_ids
from airflow_sb_provider.jobs.kind import J
from airflow_sb_provider.jobs.report import MAX_LISTED, log_lines, wait_status
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.rendering import RendersAuthorsText
from airflow_sb_provider.task_status import TaskStatus, error_status
from airflow_sb_provider.triggers.ending import needs_worker, plain_result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger


# Airflow itself skips, without a cause, if a sensor with soft_fail times out while it pokes.
_TIMEOUTS = (AirflowSensorTimeout, AirflowTaskTimeout, AirflowSkipException)


class SevenBridgesJobSensor(RendersAuthorsText, BaseSensorOperator, Generic[J]):
    """Wait until jobs of one kind reach a terminal state; fail if one of them failed.

    A subclass names the ids as its kind does, such as ``export_id``: one or a list, also as text, or None. Its
    ``__init__`` stores them and then calls `_start_in_trigger`.

    :param sevenbridges_conn_id: the Airflow connection of the user who submitted the jobs. (templated)
    :param deferrable: whether to wait in the triggerer. ``poke_interval``, ``timeout``, ``soft_fail``, ``silent_fail``
        and ``never_fail`` have the same meaning there.
    :param start_from_trigger: whether to start in the triggerer, so that a worker is needed only at the end.
    :param end_from_trigger: whether to end in the triggerer when all jobs have succeeded, where that loses nothing.
        The result then is what the jobs alone say.
    """

    kind: ClassVar[JobKind[Any]]
    trigger_class: ClassVar[type[SevenBridgesJobTrigger]]
    failure: ClassVar[type[Any]]
    """The error of a failed job; its arguments are the job and a sentence about the other jobs."""

    ui_color = "#e3f1ee"

    def __init__(
        self,
        *,
        sevenbridges_conn_id: str,
        deferrable: bool,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sevenbridges_conn_id = sevenbridges_conn_id
        deferrable, start_from_trigger, end_from_trigger = read_switches(
            deferrable=deferrable, start_from_trigger=start_from_trigger, end_from_trigger=end_from_trigger
        )
        self.deferrable = deferrable or start_from_trigger or end_from_trigger
        # By this name Airflow itself finds the tasks that may end so, and rejects them if there are listeners.
        self.end_from_trigger = end_from_trigger and self._can_end_in_trigger
        self._starts_in_trigger = start_from_trigger and AIRFLOW_RENDERS_TRIGGERS
        self._watch: Watch[J] | None = None
        self._jobs: dict[str, J] = {}

    @property
    def _can_end_in_trigger(self) -> bool:
        """Whether nothing in this Airflow, or in the parameters of this task, needs a worker at the end."""
        hooks = getattr(self, "_pre_execute_hook", None) or getattr(self, "_post_execute_hook", None)
        return bool(
            self.kind.result
            and AIRFLOW_RENDERS_TRIGGERS
            and not (HAS_XCOM_BACKEND or hooks or get_listener_manager().has_listeners)
        )

    @property
    def _ending_arguments(self) -> dict[str, Any]:
        return {"end_from_trigger": True, "do_xcom_push": self.do_xcom_push}

    @property
    def _ends_in_trigger(self) -> bool:
        return self.end_from_trigger and not needs_worker(self)

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that sends all requests of this task."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    def _start_in_trigger(self) -> None:
        """Have Airflow start with the trigger, if this is set and Airflow supports it."""
        if not self._starts_in_trigger:
            return
        key = self.kind.parameter
        given = getattr(self, key)
        if not isinstance(given, str | list | tuple | None):
            raise SevenBridgesInputError(
                f"start_from_trigger: only a worker can resolve the value of {key}, {given!r}; "
                f"use a template, such as {{{{ ti.xcom_pull('{self.kind.name}', key='{self.kind.id_key}') }}}}."
            )
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{self.trigger_class.__module__}.{self.trigger_class.__qualname__}",
            # Airflow renders the arguments that have the name of a templated field of the sensor.
            trigger_kwargs={
                key: given,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": max(self.poke_interval, 1.0),
                "silent_fail": self.silent_fail,
                **(self._ending_arguments if self.end_from_trigger else {}),
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def execute(self, context: Context) -> Any:
        """Wait in the worker or, if deferrable, in the triggerer."""
        with self._reporting(context):
            if not self.deferrable:
                return super().execute(context)
            value = self.poke(context)
            if value.is_done:
                return value.xcom_value
            seconds = self.timeout
            if self.execution_timeout:
                # Airflow 3 does not apply it to a deferred task.
                seconds = min(seconds, self.execution_timeout.total_seconds())
            arguments: dict[str, Any] = {
                self.kind.ids_key: self._ids,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": max(self.poke_interval, 1.0),
                "end_time": time.time() + seconds,
                "silent_fail": self.silent_fail,
            }
            if self._ends_in_trigger:
                arguments |= self._ending_arguments
                if self._is_single:
                    # So that the trigger knows that the result is not a list.
                    arguments |= {self.kind.ids_key: [], self.kind.parameter: self._ids[0]}
            self.defer(trigger=self.trigger_class(**arguments), method_name="execute_complete")

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral; Airflow calls it."""
        with self._reporting(context):
            return super().resume_execution(next_method, next_kwargs, context)

    @contextmanager
    def _reporting(self, context: Context) -> Iterator[None]:
        """Report in log and tab what became of each job, also if the task fails or skips."""
        try:
            with self._apply_fail_flags():
                yield
        except AirflowRescheduleException:
            raise
        except Exception as error:
            self._publish(context, error)
            raise

    @contextmanager
    def _apply_fail_flags(self) -> Iterator[None]:
        """Apply ``soft_fail`` and ``never_fail`` in the same way in every mode and on every Airflow version.

        Airflow itself skips for different failures while poking and after a deferral, and on 2.11 and 3.3.
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
                raise AirflowSkipException(f"Skipping because never_fail is set: {failure}") from failure
            if self.soft_fail and self._is_soft(failure):
                raise AirflowSkipException(f"Skipping because soft_fail is set: {failure}") from failure
            if failure is error:
                raise
            raise failure from failure.__cause__

    def _is_soft(self, failure: BaseException) -> bool:
        """Whether `soft_fail` skips for it. A skip must not hide any other failure, which is an error or a doubt."""
        return isinstance(failure, (self.failure, AirflowSensorTimeout, AirflowTaskTimeout))

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; done when every job is terminal."""
        with airflow_failures():
            ids = self._ids
            if not ids:
                self.log.info("There is no %s id, so there is nothing to wait for.", self.kind.name)
                return PokeReturnValue(True, self._finish(context, {"status": "terminal"}))
            if self._watch is None:
                self._watch = Watch(self.kind, ids, tolerate_rejections=self.silent_fail)
            event = self._poll(self._watch)
            self._jobs = self._watch.jobs
            if self.reschedule and not self.deferrable:
                event = event or self._resolve_rejections(self._watch)
            if event is None:
                return PokeReturnValue(False)
            return PokeReturnValue(True, self._finish(context, event))

    def _resolve_rejections(self, watch: Watch[J]) -> dict[str, Any] | None:
        """Poll while an id is rejected, until the rejection passes or ends the wait; return the event if it ends.

        The next poke of a rescheduled sensor is a new process, which does not know this rejection: it could neither
        tolerate a short one nor end the wait for a lasting one.
        """
        give_up_at = time.monotonic() + self.timeout
        pause = min(self.poke_interval, watch_module.REJECTED_FOR / (watch_module.MAX_CONSECUTIVE_REJECTIONS - 1))
        event = None
        while event is None and watch.has_rejections and time.monotonic() < give_up_at:
            time.sleep(pause)
            event = self._poll(watch)
        return event

    @property
    def _is_single(self) -> bool:
        """Whether the result is that of one job, not a list."""
        return is_one_id(getattr(self, self.kind.parameter))

    @property
    def _ids(self) -> list[str]:
        return read_job_ids(getattr(self, self.kind.parameter), self.kind)

    def _poll(self, watch: Watch[J]) -> dict[str, Any] | None:
        self._check_connection()
        return poll(self.hook, watch)

    def _check_connection(self) -> None:
        """Raise the error of an invalid connection, which a poll would treat as transient."""
        self.hook.settings  # noqa: B018

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the result when the trigger has fired."""
        with airflow_failures():
            if event["status"] == "rejected":
                self._check_connection()
            watch: Watch[J] = Watch(self.kind, self._ids, tolerate_rejections=self.silent_fail)
            self._jobs = watch.jobs
            confirmed_event = self._confirm(watch, event) if event["status"] == "terminal" else event
            if event["status"] == "timeout" and watch.ids:
                # The trigger's event does not say which of several jobs are open.
                self._poll(watch)
            if confirmed_event is not None:
                return self._finish(context, confirmed_event)
        # A template may render to less in the triggerer than in a worker: XComs of a mapped task are missing.
        return self.execute(context)

    def _confirm(self, watch: Watch[J], event: dict[str, Any]) -> dict[str, Any] | None:
        """Check in this worker that the trigger's jobs are terminal; return the event, or None if some are not."""
        ids, job = list(watch.ids), event.get("job")
        # The ids may differ from those that the triggerer rendered: then the event is about another job.
        if job and ids == [job["id"]]:
            watch.update(ids, [self.kind.parse(job)], time.monotonic())
        elif ids:
            watch.update(ids, self._fetch(ids), time.monotonic())
        # The Platform may still reject here what another machine could read: reads are not consistent.
        return watch.event(time.monotonic()) or self._resolve_rejections(watch)

    def _fetch(self, ids: Sequence[str]) -> Sequence[J | SevenBridgesError] | SevenBridgesError:
        try:
            return self.hook.fetch_each(ids, self.kind.get_many)
        except SevenBridgesError as error:
            if not error.permanent:
                raise
            return error

    def _finish(self, context: Context, event: dict[str, Any]) -> Any:
        ids, name = self._ids, self.kind.name
        if not ids:
            self._publish(context)
            return None
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(
                f"{self._describe_open(ids)} Clear the task to wait again (timeout={self.timeout} seconds)."
            )
        if event["status"] != "terminal":
            raise SevenBridgesInDoubt(
                f"{event.get('message', 'The wait ended without a result.')} The {name} may still be running. "
                "Check that the connection's token belongs to the user who submitted it."
            )
        jobs = [self._jobs[job_id] for job_id in ids]
        self._record_jobs(jobs)
        failed = [job for job in jobs if job.failed]
        self._log_jobs(jobs, failed)
        if failed:
            more = f"{len(failed) - 1} more of {len(ids)} failed." if len(failed) > 1 else ""
            error = self.failure(failed[0], more)
            # A failed job stays failed, so a retry of the sensor cannot succeed.
            raise airflow_failure(error, final=True) from error
        if self._ends_in_trigger:
            result = plain_result(self.kind, jobs, single=self._is_single)
        else:
            result = self._results(context, jobs)
        self._publish(context)
        return result

    def _log_jobs(self, jobs: Sequence[J], failed: Sequence[J]) -> None:
        for job in failed:
            self.log.error("%s", self.failure(job, ""))
        for line in log_lines(self.kind, jobs):
            self.log.info("%s", line)

    def _describe_open(self, ids: Sequence[str]) -> str:
        """Return which jobs are not terminal, and their states."""
        states = {job_id: readable(str(job.state)) for job_id, job in self._jobs.items()}
        open_ids = [job_id for job_id in ids if job_id not in self._jobs or not self._jobs[job_id].ended]
        if not open_ids:
            return f"The last {self.kind.name} finished after the time to wait."
        shown = ", ".join(f"{job_id} ({states.get(job_id, 'state unknown')})" for job_id in open_ids[:MAX_LISTED])
        more = " and more" if len(open_ids) > MAX_LISTED else ""
        return (
            f"{len(open_ids)} of {len(ids)} {self.kind.name}s did not finish in time: {shown}{more}. "
            "They continue on the Platform."
        )

    def _publish(self, context: Context, error: Exception | None = None) -> None:
        """Publish for the tab what became of each job, and why the task fails or skips."""
        ids: list[str] = []
        with suppress(SevenBridgesInputError):
            ids = self._ids
        failure = (error.__cause__ if isinstance(error, AirflowSkipException) else error) or error
        if isinstance(failure, _TIMEOUTS) and ids and not self.deferrable:
            # Airflow's own error says only how long it has waited.
            self.log.warning("%s", self._describe_open(ids))
        if context.get("ti") is None:
            return
        status = wait_status(self.kind, ids, self._jobs, _failure_status(failure) if failure else None)
        TaskStatus(context, "sensor").publish(**status)

    def _record_jobs(self, jobs: Sequence[J]) -> None:
        """Store the terminal jobs, before the task fails if one of them failed."""

    def _results(self, context: Context, jobs: Sequence[J]) -> Any:
        """Return the task's result when all jobs have succeeded."""
        raise NotImplementedError


def _failure_status(error: BaseException) -> dict[str, Any]:
    if isinstance(error, SevenBridgesError):
        return error_status(error)
    return {
        "outcome": "TIMEOUT" if isinstance(error, _TIMEOUTS) else "ERROR",
        "reason": cut(str(error)) or type(error).__name__,
    }
