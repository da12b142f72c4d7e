"""The base class of the operators that submit jobs, one or many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import pendulum

from airflow_sb_provider._compat import BaseOperator, DateTimeTrigger
from airflow_sb_provider.api.times import in_words, isoformat_utc
from airflow_sb_provider.engine.submitter import Submitter
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesInDoubt
from airflow_sb_provider.failures import airflow_failures
from airflow_sb_provider.hooks.polling import deadline_of, wait
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.batch import Batch
from airflow_sb_provider.jobs.record import submission_state
from airflow_sb_provider.jobs.tracked import WAITING, TrackedJob
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.lineage.mixin import OpenLineageMixin
from airflow_sb_provider.lineage.outlets import emit_asset_events
from airflow_sb_provider.operators.state_store import StateStore
from airflow_sb_provider.rendering import RendersAuthorsText
from airflow_sb_provider.task_status import TaskStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.engine.policy import Policy
    from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger

E = TypeVar("E", bound=TrackedJob[Any])

OnError = Literal["fail_at_end", "fail_fast", "report"]


class SevenBridgesOperator(RendersAuthorsText, OpenLineageMixin, BaseOperator, Generic[E]):
    """Base of the operators: plan a batch, submit it, wait in the worker or deferred, and finish.

    A single job is a batch of one. Each job is submitted once, whatever interrupts the task: `exports.decision` has the
    rules, `engine.submitter` applies them, and the `StateStore` keeps what was submitted across deferrals and tries.

    Subclasses create the entries, call `_submit` from ``execute``, and implement `_show_progress` and `_finish`.
    """

    ui_color = "#e3f1ee"
    status_kind: ClassVar[str]
    trigger_class: ClassVar[Callable[..., SevenBridgesJobTrigger]]
    entry_class: type[E]
    single: ClassVar[bool] = False
    sevenbridges_conn_id: str
    deferrable: bool
    poll_interval: float
    timeout: float | None
    on_error: OnError = "fail_at_end"
    max_active: int = 1
    # Set by each `execute` and `resume`; afterwards Airflow reads links and lineage from the operator.
    _status: TaskStatus
    _batch: Batch[E] | None = None
    # The same batch, once anything may be submitted. Until then, the record of an earlier try is more complete.
    _under_way: Batch[E] | None = None
    _has_paused = False

    def __init__(self, **kwargs: Any) -> None:
        # Without an own __init__, Airflow 3.3.2 takes the defaults of mapped tasks from BaseOperator, without inlets.
        super().__init__(**kwargs)

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    @property
    def known_links(self) -> dict[str, str]:
        """The URLs of the task's links that this process knows, by XCom key."""
        return self._status.links if hasattr(self, "_status") else {}

    def resume(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Resume after a trigger has fired: jobs are terminal, or a submission in doubt can be checked again."""
        ledger = StateStore(context, self.entry_class)
        batch, try_number = ledger.resume(), context["ti"].try_number
        if try_number > 1 and (batch is None or batch.try_number != try_number):
            # Airflow 3.0 runs this method again in a retry. Start again: the earlier try may have submitted more.
            result: dict[str, Any] = self.execute(context)
            return result
        with self._reporting(context, resumed=True):
            self._check_readable(ledger)
            assert batch is not None
            return self._run(context, batch, ledger, self._policy(), event)

    def on_kill(self) -> None:
        """Log which jobs continue: the API cannot cancel them."""
        if self._under_way and (outstanding := self._under_way.outstanding()):
            self.log.warning("The task is stopped, but the Platform cannot cancel what it submitted. %s", outstanding)

    @contextmanager
    def _reporting(self, context: Context, *, resumed: bool = False) -> Iterator[None]:
        """Publish the task's status; convert an error to Airflow's, and name in it the jobs that continue."""
        with airflow_failures(), self._status_context(context, resumed=resumed):
            try:
                yield
            except Exception as error:
                self._add_outstanding(context, error)
                raise

    def _add_outstanding(self, context: Context, error: Exception) -> None:
        batch, whose = self._under_way, ""
        if batch is None and context["ti"].try_number > 1:
            # A retry that fails before it submits anything must not hide what an earlier try has submitted.
            with suppress(Exception):
                batch, whose = StateStore(context, self.entry_class).load(), "As an earlier try recorded: "
        text = batch.outstanding() if batch else ""
        if not text or text in str(error):
            return
        if isinstance(error, SevenBridgesError):
            error.outstanding = f"{whose}{text}"
        else:
            error.add_note(f"{whose}{text}")
            self.log.error("%s%s", whose, text)

    def _status_context(self, context: Context, *, resumed: bool = False) -> TaskStatus:
        self._batch = self._under_way = None
        self._status = TaskStatus(context, self.status_kind, self.entry_class.kind, resumed=resumed)
        return self._status

    def _emit_asset_events(self, context: Context) -> None:
        if report := self._reported():
            emit_asset_events(context, self.outlets, self.hook, report)

    def _connection_problems(self) -> list[str]:
        conn_id: object = self.sevenbridges_conn_id
        if isinstance(conn_id, str) and conn_id.strip():
            return []
        return [f"sevenbridges_conn_id: {conn_id!r} is empty or not text; enter the ID of an Airflow connection."]

    def _begin(self, context: Context, entries: list[E], left_out: Sequence[E], ledger: StateStore[E]) -> Batch[E]:
        """Return the batch of this try, including the jobs that earlier tries have submitted.

        :param left_out: jobs that earlier runs, or an earlier try of this run, have done.
        """
        ti = context["ti"]
        # Only from the store: on Airflow 3.0 XComs may survive a try, but may be older than its end.
        before = ledger.load() if ledger.has_store else None
        earlier_entries = [*before.left_behind, *before.entries] if before else []
        same = {entry.request.fingerprint: entry for entry in earlier_entries}
        known = {entry.request.target: entry for entry in earlier_entries}
        # A try in between that has no record may have run without a store.
        is_complete = before is not None and not ledger.is_unreadable and before.try_number >= ti.try_number - 1
        own = [entry for entry in left_out if entry.request.fingerprint in same or entry.request.target in known]
        if left_out and ti.try_number > 1 and not is_complete:
            own = self._done_in_this_run(context, left_out)
        entries = [*entries, *own]
        planned = {entry.request.fingerprint for entry in entries}
        going_on = [entry for key, entry in same.items() if key not in planned and entry.may_go_on]
        others = {entry.request.target[0]: entry.job_id for entry in going_on if entry.in_flight}
        unclear = {entry.request.target[0] for entry in going_on if not entry.in_flight}
        for entry in entries:
            if entry.state != WAITING:
                continue
            earlier = same.get(entry.request.fingerprint) or known.get(entry.request.target)
            if earlier is None and self.single and before and before.entries:
                [earlier] = before.entries
            submission = submission_state(
                entry.request,
                record=earlier.record if earlier else None,
                nothing_sent=is_complete,
                unreadable=ledger.is_unreadable,
                has_store=ledger.has_store,
                credential=self.hook.settings.credential,
                try_number=ti.try_number,
                max_tries=ti.max_tries,
                retries=self.retries or 0,
                name=entry.kind.name,
            )
            # The request of an earlier try to another destination may still be accepted. So may one that was rejected,
            # until a check has confirmed that.
            in_doubt = (
                submission.in_doubt
                or entry.request.target[0] in unclear
                or bool(earlier and (earlier.submission.in_doubt or earlier.is_rejection_unconfirmed))
            )
            if earlier and earlier.request.fingerprint == entry.request.fingerprint:
                entry.record = earlier.record
            other_job_id = others.get(entry.request.target[0])
            needs_check = entry.needs_check or in_doubt or other_job_id is not None
            entry.submission = replace(
                submission,
                in_doubt=in_doubt,
                other_job_id=other_job_id,
                can_submit_unchecked=submission.can_submit_unchecked and not needs_check,
            )
        is_retry = before is not None and before.max_tries == ti.max_tries
        started_at = before.started_at if before and is_retry else self.hook.clock.now()
        batch = Batch(self.entry_class.kind, entries, started_at, ti.try_number, ti.max_tries)
        batch.left_out = len(left_out) - len(own)
        if going_on:
            self._keep(batch, going_on)
        return batch

    def _keep(self, batch: Batch[E], going_on: list[E]) -> None:
        """Keep in a batch the jobs that earlier tries submitted and that this try does not request."""
        outstanding = Batch(self.entry_class.kind, going_on, 0.0, 0, 0).outstanding()
        self.log.warning("An earlier try submitted jobs that this try does not request. %s", outstanding)
        # Not waited for, only named if the task fails: the earlier jobs of a single operator, which returns one job,
        # and jobs with a requested target, which the new request adopts.
        targets = {entry.request.target for entry in batch.entries}
        batch.left_behind = [entry for entry in going_on if self.single or entry.request.target in targets]
        followed = [entry for entry in going_on if not self.single and entry.request.target not in targets]
        for entry in followed:
            entry.is_wanted = False
            if not entry.in_flight:
                entry.wait_again(
                    replace(entry.submission, in_doubt=True, doubt_stage=0, check_at=0.0, rechecks=0, same_rechecks=0)
                )
        batch.entries = [*batch.entries, *followed]

    def _submit(self, context: Context, entries: list[E], left_out: Sequence[E] = ()) -> dict[str, Any]:
        """Start a try: submit the jobs that are not done yet, wait for them, and return the result.

        :param left_out: jobs that are done already: they are only counted, unless this task did them.
        """
        ledger, policy = StateStore(context, self.entry_class), self._policy()
        self._batch = batch = self._begin(context, entries, left_out, ledger)
        self._planned(context, batch)
        has_nothing_to_do = all(entry.has_ended for entry in batch.entries) and not batch.left_behind
        if has_nothing_to_do or (self.single and not policy.needs_check(entries[0])):
            # The submitter writes the intent before its first request.
            ledger.keep(batch)
        else:
            ledger.start(batch)
        return self._run(context, batch, ledger, policy)

    def _run(
        self, context: Context, batch: Batch[E], ledger: StateStore[E], policy: Policy[E], event: Any = None
    ) -> dict[str, Any]:
        """Submit jobs, wait for half of those in flight, submit more, until all are done or have failed."""
        self._batch = self._under_way = batch

        def save(entries: Sequence[E]) -> None:
            self._submitted(context, batch)
            ledger.save(entries)

        submitter = Submitter(policy, save, max_tries=batch.max_tries, stop_on_failure=self.on_error == "fail_fast")
        timed_out = False
        # The event of `DateTimeTrigger` is a time, not a mapping: the task resumes after a pause.
        self._has_paused = event is not None and not isinstance(event, Mapping)
        try:
            if batch.in_flight:
                timed_out = self._take(submitter, batch, ledger, event)
            while not timed_out:
                ledger.fill(batch, self.max_active)
                self._check_readable(ledger)
                check_at = submitter.submit(batch, self.max_active)
                self._show_progress(batch)
                if self._is_over(batch):
                    break
                if batch.in_flight:
                    timed_out = self._take(submitter, batch, ledger, self._wait(batch))
                elif check_at:
                    self._pause(batch, check_at)
        except Exception:
            self._failed(context, batch, ledger.walk())
            raise
        timed_out = timed_out and not self._is_over(batch)
        self._review(context, batch, ledger.walk())
        self._check_readable(ledger)
        return self._finish(context, batch, timed_out)

    def _check_readable(self, ledger: StateStore[E]) -> None:
        if ledger.is_unreadable:
            raise SevenBridgesInDoubt(
                "Airflow's database does not have the complete record of what this task submitted. Its "
                f"{self.entry_class.kind.name}s continue; a retry checks for them before it submits anything."
            )

    def _is_over(self, batch: Batch[E]) -> bool:
        return (self.on_error == "fail_fast" and batch.has_failed) or not (
            batch.in_flight or batch.waiting or batch.is_more_to_come
        )

    def _take(self, submitter: Submitter[E], batch: Batch[E], ledger: StateStore[E], event: Any) -> bool:
        """Apply the result of a wait, and return whether the timeout was reached."""
        in_flight = batch.in_flight
        event = event if isinstance(event, Mapping) else {}
        if event.get("job") and len(in_flight) == 1 and event["job"].get("id") == in_flight[0].job_id:
            answers: Sequence[Any] = [self.entry_class.kind.parse(event["job"])]
        elif self.single and event.get("status") == "timeout":
            return True
        else:
            answers = submitter.fetch(in_flight)
        # A wait ends as rejected only after repeated rejections.
        submitter.take(in_flight, answers, are_final=event.get("status") == "rejected")
        if not self._is_over(batch):
            ledger.save(in_flight)
        return bool(event.get("status") == "timeout")

    def _wait(self, batch: Batch[E]) -> dict[str, Any]:
        """Wait for half of the jobs in flight or, if none are left to submit, for all; return the event of the wait."""
        ids = [entry.job_id or "" for entry in batch.in_flight]
        half = -(-len(ids) // 2) if batch.waiting or batch.is_more_to_come else None
        end_time = self._end_time(batch)
        fail_fast = self.on_error == "fail_fast"
        if self.single:
            self.log.info(
                "Waiting %s, polling every %s%s.",
                "without a worker slot" if self.deferrable else "in this worker",
                in_words(self.poll_interval),
                f", until {isoformat_utc(end_time)} at the latest" if end_time else "",
            )
        if self.deferrable:
            trigger = self.trigger_class(
                ids,
                self.sevenbridges_conn_id,
                self.poll_interval,
                end_time,
                min_finished=half,
                fail_fast=fail_fast,
                **self._trigger_options,
            )
            self.defer(trigger=trigger, method_name="resume")
        watch = Watch(self.entry_class.kind, ids, deadline_of(end_time), min_finished=half, fail_fast=fail_fast)
        return wait(self.hook, watch, self.poll_interval, self._status.publish_progress)

    @property
    def _trigger_options(self) -> dict[str, Any]:
        """More arguments of the trigger."""
        return {}

    def _end_time(self, batch: Batch[E]) -> float | None:
        """Return when the wait ends at the latest, in epoch seconds; None for no limit."""
        limits = []
        if self.timeout is not None:
            # The record has times of the Platform's clock; the trigger's end time is of this machine's clock.
            limits.append(time.time() + self._started_at(batch) + self.timeout - self.hook.clock.now())
        if self.execution_timeout and self.deferrable:
            # Airflow 3 does not apply it to a deferred task.
            limits.append(time.time() + self.execution_timeout.total_seconds())
        return min(limits, default=None)

    def _started_at(self, batch: Batch[E]) -> float:
        """Return when ``timeout`` begins to count, in epoch seconds of the Platform's clock."""
        return batch.started_at

    def _pause(self, batch: Batch[E], until: float) -> None:
        """Wait for the next check.

        :param until: in epoch seconds of the Platform's clock.
        """
        seconds = max(0.0, until - self.hook.clock.now())
        why = next((entry.why for entry in batch.waiting if entry.why), "")
        self.log.info(
            "%s Checking again in %s.", why or "The state of submissions is not known yet.", in_words(seconds)
        )
        at = time.time() + seconds
        if self.single:
            self._status.publish(why=why, state="CHECKING", check_again_at=isoformat_utc(at))
        # A triggerer whose clock is ahead ends the pause early: sleep for the rest here instead of deferring again.
        if self.deferrable and seconds > 0 and not self._has_paused:
            self.defer(trigger=DateTimeTrigger(moment=pendulum.from_timestamp(at)), method_name="resume")
        self._has_paused = False
        time.sleep(seconds)

    def _policy(self) -> Policy[E]:
        """Return how the jobs are checked and submitted."""
        raise NotImplementedError

    def _planned(self, context: Context, batch: Batch[E]) -> None:
        """Prepare the try before anything is submitted; an error ends the task."""

    def _submitted(self, context: Context, batch: Batch[E]) -> None:
        """Publish a submission, before it is recorded."""

    def _done_in_this_run(self, context: Context, entries: Sequence[E]) -> list[E]:
        """Return which of the entries an earlier try of this run may have done, if there is no record of it."""
        return list(entries)

    def _show_progress(self, batch: Batch[E]) -> None:
        """Publish the progress."""
        raise NotImplementedError

    def _failed(self, context: Context, batch: Batch[E], entries: Iterator[E]) -> None:
        """Publish the results so far when an error ends the task.

        :param entries: all jobs of the task; of many, only some are in memory at a time.
        """

    def _review(self, context: Context, batch: Batch[E], entries: Iterator[E]) -> None:
        """Record how the jobs ended, and keep in the batch only those that the result is about.

        :param entries: as for `_failed`.
        """

    def _finish(self, context: Context, batch: Batch[E], timed_out: bool) -> dict[str, Any]:
        """Return the task's result, or raise the error with which it fails."""
        raise NotImplementedError
