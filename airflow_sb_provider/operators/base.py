"""What the operators that export have in common: one engine for one export and for many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_sb_provider._compat import BaseOperator, DateTimeTrigger
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.engine.polling import deadline_of, wait
from airflow_sb_provider.engine.submitter import BatchSubmitter, needs_check
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesInDoubt
from airflow_sb_provider.exports.batch import WAITING, Batch
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.exports.status import moment
from airflow_sb_provider.failures import airflow_failures
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.inputs import read_boolean
from airflow_sb_provider.jobs.record import Outcome, attempt_of
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.lineage.outlets import announce
from airflow_sb_provider.lineage.task import TellsLineage
from airflow_sb_provider.operators.ledger import Ledger
from airflow_sb_provider.operators.status import TaskStatus
from airflow_sb_provider.rendering import RendersAuthorsText
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider._compat import Context
    from airflow_sb_provider.exports.batch import Entry
    from airflow_sb_provider.exports.report import Report

_SHOWN = 10

OnError = Literal["fail_at_end", "fail_fast", "report"]


class SevenBridgesOperator(RendersAuthorsText, TellsLineage, BaseOperator):
    """A task that exports: plans a batch, submits it, waits in its worker or deferred, and finishes.

    A single export is a batch of one. Each exports once, whatever ends the task in between: `exports.decision` has the
    rules, `engine.submitter` applies them, the `Ledger` carries what was submitted across deferrals and tries.

    Subclasses make the entries, call `_run` from ``execute``, and implement `_show_progress` and `_finish`.
    """

    ui_color = "#e3f1ee"
    status_kind: ClassVar[str]
    single: ClassVar[bool] = False
    sevenbridges_conn_id: str
    deferrable: bool
    poll_interval: float
    timeout: float | None
    on_error: OnError = "fail_at_end"
    max_active: int = 1
    skip_not_exportable: bool | str = False
    _status: TaskStatus
    _batch: Batch | None = None

    def __init__(self, **kwargs: Any) -> None:
        # Without one of its own, Airflow 3.3.2 gives mapped tasks BaseOperator's as defaults, and no list of inlets.
        super().__init__(**kwargs)

    @cached_property
    def hook(self) -> SevenBridgesHook:
        """The hook that all requests of this task go through."""
        return SevenBridgesHook(self.sevenbridges_conn_id)

    @cached_property
    def known_links(self) -> dict[str, str]:
        """The addresses that this process knows for the task's links, by XCom key."""
        return {}

    def resume(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on when a trigger has fired: exports have ended, or one in doubt can be checked again."""
        ledger = Ledger(context)
        batch = ledger.load()
        if batch is not None and batch.try_number != context["ti"].try_number:
            # Airflow 3.0 runs this method again in a retry. What the earlier try did after it resumed is not known.
            result: dict[str, Any] = self.execute(context)
            return result
        with airflow_failures(), self._shown(context, resumed=True):
            if batch is None or ledger.is_unreadable:
                raise SevenBridgesInDoubt(
                    "What this task has submitted is not, or not all, in Airflow's database any more. The exports go "
                    "on; a retry checks for them before it submits anything."
                )
            return self._run(context, batch, ledger, event)

    def on_kill(self) -> None:
        """Say that the exports go on: the API has no cancel."""
        if self._batch and (in_flight := self._batch.in_flight):
            what = f"export {in_flight[0].export_id} goes" if len(in_flight) == 1 else f"{len(in_flight)} exports go"
            self.log.warning(
                "The task is ended, but %s on at the Platform, which has no cancel. "
                "A retry or a cleared task adopts what is in flight instead of submitting it again.",
                what,
            )

    def _shown(self, context: Context, *, resumed: bool = False) -> TaskStatus:
        self._status = TaskStatus(self, context, self.status_kind, resumed=resumed)
        return self._status

    def _announce(self, context: Context, report: Report) -> None:
        self._report = report
        announce(context, self.outlets, self.hook, report)

    def _connection_problems(self) -> list[str]:
        conn_id: object = self.sevenbridges_conn_id
        if isinstance(conn_id, str) and conn_id.strip():
            return []
        return [f"sevenbridges_conn_id: {conn_id!r} is empty or no text; name an Airflow connection."]

    def _begin(self, context: Context, entries: list[Entry], ledger: Ledger) -> Batch:
        """Return the batch of this try, with what earlier ones have done."""
        ti, now = context["ti"], time.time()
        # XCom may have outlived a try on Airflow 3.0: what it holds is older than the end of that try.
        before = ledger.load() if ledger.has_store else None
        gateway_timeout = self.hook.settings.gateway_timeout
        known = {entry.request.target: entry for entry in before.entries} if before else {}
        left_out = dict(before.left_out) if before else {}
        # A try in between that wrote nothing may have run without a store.
        is_complete = before is not None and not ledger.is_unreadable and before.try_number >= ti.try_number - 1
        wanted = {entry.request.target: entry for entry in entries if entry.state == WAITING}
        # A file that is to go elsewhere now may still be exported to where an earlier try wanted it.
        unwanted = {entry.request.file: entry for target, entry in known.items() if target not in wanted}
        for entry in unwanted.values():
            if until := entry.doubt_until(gateway_timeout):
                left_out[entry.request.file] = max(until, left_out.get(entry.request.file, until))
        for target, entry in wanted.items():
            earlier = known.get(target) or unwanted.get(entry.request.file)
            attempt = attempt_of(
                entry.request,
                record=earlier.record if earlier else None,
                nothing_sent=is_complete,
                unreadable=ledger.is_unreadable,
                credential=self.hook.settings.credential,
                try_number=ti.try_number,
                max_tries=ti.max_tries,
                retries=self.retries or 0,
                started_at=now,
                gateway_timeout=gateway_timeout,
            )
            doubts = [left_out.get(entry.request.file), earlier.doubt_until(gateway_timeout) if earlier else None]
            doubt = max(filter(None, doubts), default=attempt.doubt_until)
            if earlier and earlier.request.fingerprint == entry.request.fingerprint:
                entry.remember(earlier)
            entry.attempt = replace(
                attempt, doubt_until=doubt, untroubled=attempt.untroubled and not (entry.needs_look or doubt)
            )
        for entry in wanted.values():
            left_out.pop(entry.request.file, None)
        is_retry = before is not None and before.max_tries == ti.max_tries
        started_at = before.started_at if before and is_retry else now
        return Batch(entries, started_at, ti.try_number, ti.max_tries, left_out)

    def _export(self, context: Context, entries: list[Entry]) -> dict[str, Any]:
        """Export what is not exported yet, from the start of a try."""
        ledger = Ledger(context)
        batch = self._begin(context, entries, ledger)
        self._planned(context, batch)
        if self.single and not needs_check(entries[0]):
            # The intent is written in a moment, before the first request.
            ledger.keep(batch)
        else:
            ledger.start(batch)
        return self._run(context, batch, ledger)

    def _run(self, context: Context, batch: Batch, ledger: Ledger, event: Any = None) -> dict[str, Any]:
        """Submit, wait for half of what is in flight, submit more, until all are exported or bad."""
        self._batch = batch

        def save(entries: Sequence[Entry]) -> None:
            self._submitted(context, batch)
            ledger.save(entries)

        submitter = BatchSubmitter(
            self.hook,
            save,
            max_tries=batch.max_tries,
            single=self.single,
            fail_fast=self.on_error == "fail_fast",
            skip_not_exportable=read_boolean(self.skip_not_exportable),
        )
        timed_out = False
        try:
            if batch.in_flight:
                timed_out = self._take(submitter, batch, ledger, event)
            while not timed_out:
                check_at = submitter.submit(batch, self.max_active)
                self._show_progress(batch)
                if self._is_over(batch):
                    break
                if batch.in_flight:
                    timed_out = self._take(submitter, batch, ledger, self._wait(batch))
                elif check_at:
                    self._pause(batch, check_at)
        except Exception:
            self._log_outstanding(batch)
            self._failed(context, batch)
            raise
        return self._finish(context, batch, timed_out and not self._is_over(batch))

    def _log_outstanding(self, batch: Batch) -> None:
        """Say what goes on at the Platform, or may, when an error ends the task before it knows."""
        in_flight = [entry.export_id or "" for entry in batch.in_flight]
        unanswered = [entry.request.file for entry in batch.waiting if entry.outcome is Outcome.SENT]
        for what, ids in (("in flight: exports", in_flight), ("submitted without a response: files", unanswered)):
            if ids:
                more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
                self.log.error(
                    "Still %s %s%s. A retry checks the Platform and adopts what goes on there.",
                    what,
                    ", ".join(ids[:_SHOWN]),
                    more,
                )

    def _is_over(self, batch: Batch) -> bool:
        return (self.on_error == "fail_fast" and bool(batch.bad)) or not (batch.in_flight or batch.waiting)

    def _take(self, submitter: BatchSubmitter, batch: Batch, ledger: Ledger, event: Any) -> bool:
        """Apply what a wait has seen, and return whether the time is over."""
        in_flight = batch.in_flight
        # Airflow's own trigger for a moment yields that moment.
        event = event if isinstance(event, Mapping) else {}
        if event.get("job") and len(in_flight) == 1 and event["job"].get("id") == in_flight[0].export_id:
            answers: Sequence[Any] = [ExportJob.from_json(event["job"])]
        elif self.single and event.get("status") == "timeout":
            return True
        else:
            answers = self._fetch(in_flight)
        submitter.take(in_flight, answers)
        if not self._is_over(batch):
            ledger.save(in_flight)
        return bool(event.get("status") == "timeout")

    def _fetch(self, in_flight: Sequence[Entry]) -> Sequence[ExportJob | SevenBridgesApiError]:
        try:
            return self.hook.get_exports([entry.export_id or "" for entry in in_flight])
        except SevenBridgesApiError as error:
            if not error.permanent:
                raise
            ids = ", ".join(entry.export_id or "" for entry in in_flight[:3]) + (", ..." if in_flight[3:] else "")
            raise SevenBridgesInDoubt(
                f"{len(in_flight)} exports in flight ({ids}) cannot be seen: {error} They may go on; check the "
                "connection's token, which must belong to the user who started them."
            ) from error

    def _wait(self, batch: Batch) -> dict[str, Any]:
        """Wait for half of what is in flight, or for all if no more is to come, and return what was seen."""
        ids = [entry.export_id or "" for entry in batch.in_flight]
        enough = -(-len(ids) // 2) if batch.waiting else None
        end_time = self._end_time(batch)
        fail_fast = self.on_error == "fail_fast"
        if self.single:
            self.log.info(
                "Waiting %s, with a poll every %.0f s%s.",
                "without a worker slot" if self.deferrable else "in this worker",
                self.poll_interval,
                f", until {moment(end_time)} at the latest" if end_time else "",
            )
        if self.deferrable:
            trigger = SevenBridgesExportTrigger(
                ids, self.sevenbridges_conn_id, self.poll_interval, end_time, enough=enough, fail_fast=fail_fast
            )
            self.defer(trigger=trigger, method_name="resume")
        watch = Watch(EXPORT, ids, deadline_of(end_time), enough=enough, fail_fast=fail_fast)
        return wait(self.hook, watch, self.poll_interval, self._status.follow)

    def _end_time(self, batch: Batch) -> float | None:
        """Return when waiting ends at the latest, in epoch seconds; None for never."""
        limits = [self._started_at(batch) + self.timeout] if self.timeout is not None else []
        if self.execution_timeout and self.deferrable:
            # Airflow 3 does not apply it to a deferred task.
            limits.append(time.time() + self.execution_timeout.total_seconds())
        return min(limits, default=None)

    def _started_at(self, batch: Batch) -> float:
        """Return from when the time to wait counts, in epoch seconds."""
        return batch.started_at

    def _pause(self, batch: Batch, until: float) -> None:
        seconds = max(0.0, until - time.time())
        why = next((entry.why for entry in batch.waiting if entry.why), "")
        self.log.info("%s Checking again in %.0f s.", why or "The state of exports is not clear yet.", seconds)
        if self.single:
            self._status.show(why=why, state="LOOKING", look_again_at=moment(until))
        if self.deferrable and seconds > 0:
            self.defer(trigger=DateTimeTrigger(moment=datetime.fromtimestamp(until, UTC)), method_name="resume")
        time.sleep(seconds)

    def _planned(self, context: Context, batch: Batch) -> None:
        """Do what must succeed before anything is submitted."""

    def _submitted(self, context: Context, batch: Batch) -> None:
        """Publish what is known of a submission, before it is recorded."""

    def _show_progress(self, batch: Batch) -> None:
        """Show how far it is."""
        raise NotImplementedError

    def _failed(self, context: Context, batch: Batch) -> None:
        """Keep what is known when an error ends the task."""

    def _finish(self, context: Context, batch: Batch, timed_out: bool) -> dict[str, Any]:
        """Return what the task returns, or raise why it fails."""
        raise NotImplementedError
