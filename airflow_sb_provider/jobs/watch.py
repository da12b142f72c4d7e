"""The state of a wait: what a poll's response means and what to do next, in workers, triggers and sensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic

from airflow_sb_provider.api.calls import BULK_LIMIT
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesAuthError,
    SevenBridgesError,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.jobs.kind import J
from airflow_sb_provider.jobs.progress import status_of_job

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.jobs.kind import JobKind

POLL_INTERVAL = 30.0
DEFAULT_TIMEOUT = 7 * 24 * 3600.0
# Time limit of the final poll, which starts at the deadline.
FINAL_POLL_TIMEOUT = 60.0
MAX_CONSECUTIVE_REJECTIONS = 3
# In how many polls in a row the item of one id may be unreadable, while the Platform responds normally otherwise.
MAX_CONSECUTIVE_UNREADABLE = 10
# Minimum duration of a rejection: for up to 30 s a new job's id may be 404, or its permission unknown.
REJECTED_FOR = 60.0
MAX_IDS = 1000
# A wait for more jobs than this logs totals, not the state changes of each job.
PER_JOB_LOG_LIMIT = 10


@dataclass(frozen=True, slots=True)
class Wait:
    """Keep polling, until this time at the latest; None for no limit."""

    until: float | None


@dataclass(frozen=True, slots=True)
class FinalPoll:
    """The deadline has passed: poll these ids once more, immediately."""

    ids: list[str]


@dataclass(frozen=True, slots=True)
class Over:
    """The wait is over; ``event`` is its result."""

    event: dict[str, Any]


@dataclass(slots=True)
class _Errors:
    """The errors of polls, by id. ``rejections`` and ``unreadable`` count those in a row and have the first's time."""

    rejected: dict[str, SevenBridgesError] = field(default_factory=dict)
    rejections: dict[str, tuple[int, float]] = field(default_factory=dict)
    unreadable: dict[str, tuple[int, float]] = field(default_factory=dict)
    # The ids whose last poll had a transient error.
    failing: set[str] = field(default_factory=set)
    apart: Apart = field(default_factory=dict)


@dataclass(slots=True)
class Watch(Generic[J]):
    """The state of a wait for jobs of one kind. All times are seconds of one monotonic clock.

    Transient errors (rate limit, maintenance, no response, unreadable response) never end a wait. It ends when all jobs
    are terminal, rejected or unreadable, and earlier if a limit below is reached. An id counts as rejected (401, 403,
    404) after `MAX_CONSECUTIVE_REJECTIONS` polls in a row and at least `REJECTED_FOR` seconds, as unreadable after
    `MAX_CONSECUTIVE_UNREADABLE` polls and the same time.

    :param deadline: ends the wait, after a final poll.
    :param min_finished: how many jobs must be terminal (or given up) to end the wait; None for all.
    :param fail_fast: the first failed job ends the wait.
    :param tolerate_rejections: rejections do not end the wait; an unusable connection does.
    :param unauthorized: the last poll's token was rejected, so the connection should be read again.
    :param forgotten: the last status of a single job that `forget_job` has dropped.
    """

    kind: JobKind[J]
    ids: Sequence[str]
    deadline: float | None = None
    jobs: dict[str, J] = field(default_factory=dict)
    unauthorized: bool = False
    min_finished: int | None = None
    fail_fast: bool = False
    tolerate_rejections: bool = False
    # Only if there was one: a garbage collection stops ten thousand waits for as long as it visits what they have.
    _errors: _Errors | None = None
    _logged: int = 0
    _failed: int = 0
    _open: dict[str, None] = field(init=False)
    forgotten: dict[str, Any] | None = field(default=None, init=False)
    # Of the final poll: when to stop waiting for its responses, and the ids that have none.
    _final_until: float | None = None
    _unanswered: set[str] | None = None

    def __post_init__(self) -> None:
        self._open = dict.fromkeys(self.ids)

    @property
    def open(self) -> list[str]:
        """The ids that still need polling."""
        return list(self._open)

    @property
    def batches(self) -> list[list[str]]:
        """The ids to poll next, at most 100 together."""
        ids = self.open
        return [ids[start : start + BULK_LIMIT] for start in range(0, len(ids), BULK_LIMIT)]

    @property
    def rejected(self) -> Mapping[str, SevenBridgesError]:
        """The ids that were given up, with their errors."""
        return self._errors.rejected if self._errors else {}

    @property
    def apart(self) -> Apart:
        """The ids that are requested one by one (see `api.lookup`)."""
        return self._noted_errors.apart

    @property
    def has_rejections(self) -> bool:
        """Whether an id was rejected in the last poll; if that persists, the wait ends."""
        return bool(self._errors and self._errors.rejections) and not self.tolerate_rejections

    @property
    def _noted_errors(self) -> _Errors:
        self._errors = self._errors or _Errors()
        return self._errors

    def update(
        self, ids: Sequence[str], response: Sequence[J | SevenBridgesError] | SevenBridgesError, now: float
    ) -> list[str]:
        """Apply the response to a poll for some ids, or its error; return the lines to log."""
        if self._unanswered:
            self._unanswered.difference_update(ids)
        self.unauthorized = isinstance(response, SevenBridgesAuthError)
        if isinstance(response, SevenBridgesError):
            if response.permanent:
                return [line for job_id in ids for line in self._record_rejection(job_id, response, now)]
            return self._record_transient_error(ids, response)
        lines: list[str] = []
        for job_id, result in zip(ids, response, strict=True):
            lines += self._update_job(job_id, result, now)
        return lines + self._progress_lines()

    def _record_transient_error(self, ids: Sequence[str], error: SevenBridgesError) -> list[str]:
        failing = self._noted_errors.failing
        lines = [] if failing else [f"Polling failed; still waiting: {error}"]
        failing.update(ids)
        return lines

    def _record_recovery(self, job_id: str) -> list[str]:
        failing = self._errors.failing if self._errors else set()
        if job_id not in failing:
            return []
        failing.discard(job_id)
        return [] if failing else ["Polling recovered."]

    def _update_job(self, job_id: str, job: J | SevenBridgesError, now: float) -> list[str]:
        if isinstance(job, SevenBridgesUnreadableItem):
            lines = self._record_recovery(job_id)
            return lines + self._count_error(
                self._noted_errors.unreadable, MAX_CONSECUTIVE_UNREADABLE, job_id, job, now
            )
        if isinstance(job, SevenBridgesError):
            self.unauthorized = self.unauthorized or isinstance(job, SevenBridgesAuthError)
            return (
                self._record_rejection(job_id, job, now)
                if job.permanent
                else self._record_transient_error([job_id], job)
            )
        lines = self._record_recovery(job_id)
        if self._errors:
            self._errors.rejections.pop(job_id, None)
            self._errors.unreadable.pop(job_id, None)
        before = self.jobs[job_id].state if job_id in self.jobs else (self.forgotten or {}).get("state")
        if job.state != before or job.ended or self._final_until is not None:
            # An unchanged job is kept: ten thousand new objects per poll are work for the garbage collector.
            self.jobs[job_id] = job
        if job.ended:
            self._close(job_id)
            self._failed += job.failed
        is_new_state = job.state != before if before else job.state not in self.kind.initial_states
        if self._logs_totals_only or not is_new_state:
            return lines
        return [*lines, f"{self.kind.title} {job_id} is {job.state}."]

    def forget_job(self) -> None:
        """Keep of a single job only its status until the final poll, so that thousands of waits hold fewer objects."""
        if len(self.ids) == 1 and self._final_until is None and (job := self.jobs.get(self.ids[0])):
            # A garbage collection visits a dict that has held an object, but not one of texts.
            self.forgotten, self.jobs = status_of_job(self.kind, job), {}

    @property
    def _logs_totals_only(self) -> bool:
        return len(self.ids) > PER_JOB_LOG_LIMIT

    def _progress_lines(self) -> list[str]:
        """Return a line each time that another tenth of the jobs has finished."""
        total, finished = len(self.ids), len(self.ids) - len(self._open)
        if not self._logs_totals_only or finished * 10 // total == self._logged * 10 // total:
            return []
        self._logged = finished
        failed = f", {self._failed:,} of them failed" if self._failed else ""
        return [f"{finished:,} of {total:,} {self.kind.name}s have finished{failed}."]

    def _record_rejection(self, job_id: str, error: SevenBridgesError, now: float) -> list[str]:
        if self.tolerate_rejections and isinstance(error, SevenBridgesApiError):
            rejections = self._noted_errors.rejections
            is_first = job_id not in rejections
            rejections.setdefault(job_id, (1, now))
            return [f"{self.kind.title} {job_id} cannot be polled; still waiting: {error}"] if is_first else []
        return self._count_error(self._noted_errors.rejections, MAX_CONSECUTIVE_REJECTIONS, job_id, error, now)

    def _count_error(
        self, counts: dict[str, tuple[int, float]], limit: int, job_id: str, error: SevenBridgesError, now: float
    ) -> list[str]:
        count, since = counts.get(job_id, (0, now))
        counts[job_id] = (count + 1, since)
        # Both limits: polls one second apart would all fall into the time in which a new job is not visible.
        if count + 1 < limit or now - since < REJECTED_FOR:
            return []
        self._noted_errors.rejected[job_id] = error
        self._failed += 1
        self._close(job_id)
        return [f"{self.kind.title} {job_id} cannot be polled; no longer waiting for it: {error}"]

    def _close(self, job_id: str) -> None:
        self._open.pop(job_id, None)
        if self._errors:
            self._errors.apart.pop(job_id, None)
            self._errors.rejections.pop(job_id, None)
            self._errors.failing.discard(job_id)

    @property
    def over(self) -> bool:
        """Whether no id needs polling."""
        return not self._open

    @property
    def is_decided(self) -> bool:
        """Whether the wait is over, whatever the time."""
        return self.over or self._has_min_finished or self._final_poll_is_done

    @property
    def _has_min_finished(self) -> bool:
        if self.fail_fast and self._failed:
            return True
        return self.min_finished is not None and len(self.ids) - len(self._open) >= self.min_finished

    @property
    def _final_poll_is_done(self) -> bool:
        return self._final_until is not None and not self._unanswered

    def is_closed(self, job_id: str) -> bool:
        """Whether a job needs no more polls."""
        return job_id not in self._open

    def next_step(self, now: float) -> Wait | FinalPoll | Over:
        """Return what to do now. Only this method decides how a deadline is met."""
        if event := self.event(now):
            return Over(event)
        if self._final_until is None and self.deadline is not None and now >= self.deadline:
            # A job that finished since the last poll, or while no triggerer was running, finished in time.
            self._final_until = now + FINAL_POLL_TIMEOUT
            self._unanswered = set(self._open)
            return FinalPoll(self.open)
        return Wait(self.deadline if self._final_until is None else self._final_until)

    def event(self, now: float) -> dict[str, Any] | None:
        """Return the trigger's event if the wait is over, else None: small plain values, no secrets.

        ``status`` is ``terminal``, ``partial`` (by `min_finished` or `fail_fast`), ``rejected`` or ``timeout``. For
        a single id, the event has the id and its ``job`` too.
        """
        if self.over:
            status = "rejected" if self.rejected else "terminal"
        elif self._has_min_finished:
            status = "partial"
        elif self._final_poll_is_done or (self._final_until is not None and now >= self._final_until):
            status = "timeout"
        else:
            return None
        event: dict[str, Any] = {"status": status}
        if self.rejected:
            job_id, error = next(iter(self.rejected.items()))
            event["message"] = f"{self.kind.title} {job_id} cannot be polled: {error}"
        if len(self.ids) == 1:
            event[self.kind.id_key] = self.ids[0]
            if job := self.jobs.get(self.ids[0]):
                event["job"] = job.to_json()
        return event
