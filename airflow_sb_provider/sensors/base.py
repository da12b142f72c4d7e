"""What the sensors that wait for jobs have in common: modes, flags, deferral. Each adds its fields and its results."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from airflow_sb_provider._compat import (
    AIRFLOW_RENDERS_TRIGGERS,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    StartTriggerArgs,
)
from airflow_sb_provider.engine.polling import poll
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesInDoubt, SevenBridgesInputError
from airflow_sb_provider.failures import airflow_failure, airflow_failures
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import read_switches
from airflow_sb_provider.jobs import watch as waiting
from airflow_sb_provider.jobs.ids import read_job_ids
from airflow_sb_provider.jobs.kind import J
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.rendering import RendersAuthorsText

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger


class SevenBridgesJobSensor(RendersAuthorsText, BaseSensorOperator, Generic[J]):
    """Waits until jobs of one kind have ended, and fails if one of them failed.

    A subclass names the ids as its kind does, such as ``export_id``: one or a list, also as text, or None. Its
    ``__init__`` takes them, and calls `_start_in_trigger` when they are set.

    :param sevenbridges_conn_id: the Airflow connection; its user must be the one who started the jobs. (templated)
    :param deferrable: waits in the triggerer; ``poke_interval``, ``timeout``, ``soft_fail``, ``silent_fail`` and
        ``never_fail`` mean the same there.
    :param start_from_trigger: begins in the triggerer, so that a worker is needed only at the end.
    """

    kind: ClassVar[JobKind[Any]]
    trigger_class: ClassVar[type[SevenBridgesJobTrigger]]
    failure: ClassVar[type[Any]]
    """The error for a job that failed, made of the job and a sentence on others."""

    ui_color = "#e3f1ee"

    def __init__(
        self, *, sevenbridges_conn_id: str, deferrable: bool, start_from_trigger: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.sevenbridges_conn_id = sevenbridges_conn_id
        deferrable, start_from_trigger = read_switches(deferrable=deferrable, start_from_trigger=start_from_trigger)
        self.deferrable = deferrable or start_from_trigger
        self._is_to_begin_in_trigger = start_from_trigger and AIRFLOW_RENDERS_TRIGGERS
        self._watch: Watch[J] | None = None

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    def _start_in_trigger(self) -> None:
        """Have Airflow begin with the trigger, if that is wanted and this Airflow can."""
        if not self._is_to_begin_in_trigger:
            return
        key = self.kind.id_key
        given = getattr(self, key)
        if not isinstance(given, str | list | tuple | None):
            raise SevenBridgesInputError(
                f"start_from_trigger: {key} is {given!r}, which only a worker can resolve; "
                f"give it as a template, such as {{{{ ti.xcom_pull('{self.kind.name}', key='{key}') }}}}."
            )
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{self.trigger_class.__module__}.{self.trigger_class.__qualname__}",
            # Airflow renders those that are called as the sensor's own templated fields.
            trigger_kwargs={
                key: given,
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
            arguments: dict[str, Any] = {
                self.kind.ids_key: self._ids,
                "sevenbridges_conn_id": self.sevenbridges_conn_id,
                "poll_interval": max(self.poke_interval, 1.0),
                "end_time": time.time() + seconds,
                "silent_fail": self.silent_fail,
            }
            self.defer(trigger=self.trigger_class(**arguments), method_name="execute_complete")

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
            if self.soft_fail and self._is_soft(failure):
                raise AirflowSkipException("Skipping, since soft_fail is set.") from failure
            if failure is error:
                raise
            raise failure from failure.__cause__

    def _is_soft(self, failure: BaseException) -> bool:
        """Whether `soft_fail` skips for it. Anything else is wrong with the sensor or in doubt, which a skip hides."""
        return isinstance(failure, (self.failure, AirflowSensorTimeout, AirflowTaskTimeout))

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; done when every job has ended."""
        with airflow_failures():
            ids = self._ids
            if not ids:
                self.log.info("No %s id was given, so there is nothing to wait for.", self.kind.name)
                return PokeReturnValue(True, None)
            if self._watch is None:
                self._watch = Watch(self.kind, ids, patient=self.silent_fail)
            event = self._poll(self._watch)
            if self.reschedule and not self.deferrable:
                event = event or self._resolve(self._watch)
            if event is None:
                return PokeReturnValue(False)
            return PokeReturnValue(True, self._ended(context, event, list(self._watch.jobs.values())))

    def _resolve(self, watch: Watch[J]) -> dict[str, Any] | None:
        """Poll on while an id is rejected, until that has passed or ends the wait; return the event if it does.

        The next poke of a rescheduled sensor is a new process, which does not know of this rejection: a job that is
        not visible yet would be given up at once, or one that never will be waited for until the time is over.
        """
        give_up_at = time.monotonic() + self.timeout
        pause = min(self.poke_interval, waiting.REJECTED_FOR / (waiting.MAX_CONSECUTIVE_REJECTIONS - 1))
        event = None
        while event is None and watch.has_rejections and time.monotonic() < give_up_at:
            time.sleep(pause)
            event = self._poll(watch)
        return event

    @property
    def _ids(self) -> list[str]:
        return read_job_ids(getattr(self, self.kind.id_key), self.kind)

    def _poll(self, watch: Watch[J]) -> dict[str, Any] | None:
        self._check_connection()
        return poll(self.hook, watch)

    def _check_connection(self) -> None:
        """Raise what is wrong with the connection, which would look like trouble to a poll."""
        self.hook.settings  # noqa: B018

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on when the trigger has ended."""
        with airflow_failures():
            if event["status"] == "rejected":
                self._check_connection()
            watch: Watch[J] = Watch(self.kind, self._ids, patient=self.silent_fail)
            seen = self._confirm(watch, event) if event["status"] == "terminal" else event
            if seen is not None:
                return self._ended(context, seen, list(watch.jobs.values()))
        # Of a template, the triggerer sees less than a worker: what a mapped task pushed is not there.
        return self.execute(context)

    def _confirm(self, watch: Watch[J], event: dict[str, Any]) -> dict[str, Any] | None:
        """Return the event of jobs that a trigger has seen end, as this worker sees them; None if some go on."""
        ids, told = list(watch.ids), event.get("job")
        # The worker may see other ids than the triggerer did: then the event is about another job.
        if told and ids == [told["id"]]:
            watch.update(ids, [self.kind.parse(told)], time.monotonic())
        elif ids:
            watch.update(ids, self._fetch(ids), time.monotonic())
        # What another machine has seen may still be rejected here: reads lag behind.
        return watch.event(time.monotonic()) or self._resolve(watch)

    def _fetch(self, ids: Sequence[str]) -> Sequence[J | SevenBridgesError] | SevenBridgesError:
        try:
            return self.hook.fetch_each(ids, self.kind.get_many)
        except SevenBridgesError as error:
            if not error.permanent:
                raise
            return error

    def _ended(self, context: Context, event: dict[str, Any], jobs: Sequence[J]) -> Any:
        ids, name = self._ids, self.kind.name
        if not ids:
            return None
        if event["status"] == "timeout":
            raise AirflowSensorTimeout(
                f"The {name}s {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''} have not all ended in the time to "
                f"wait for them (timeout={self.timeout} s). They go on at the Platform."
            )
        if event["status"] != "terminal":
            raise SevenBridgesInDoubt(
                f"{event.get('message', 'The wait ended without an answer.')} The {name} may go on; "
                "check the connection's token, which must belong to the user who started it."
            )
        by_id = {job.id: job for job in jobs}
        ended = [by_id[job_id] for job_id in ids]
        self._saw(ended)
        failed = [job for job in ended if job.failed]
        for job in failed:
            self.log.error("%s", self.failure(job, ""))
        if failed:
            more = f"{len(failed) - 1} more of {len(ids)} failed." if len(failed) > 1 else ""
            error = self.failure(failed[0], more)
            # A job that failed stays failed, however often a sensor polls.
            raise airflow_failure(error, final=True) from error
        return self._results(context, ended)

    def _saw(self, jobs: Sequence[J]) -> None:
        """Keep what is known of the jobs when all have ended, before the task fails for those that failed."""

    def _results(self, context: Context, jobs: Sequence[J]) -> Any:
        """Return what the task returns, when all have succeeded."""
        raise NotImplementedError
