"""Waiting for jobs to end: what an answer means and what to do next, for workers, triggers and sensors alike."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.lookup import Apart
    from airflow_sb_provider.jobs.kind import JobKind

POLL_INTERVAL = 30.0
DEFAULT_TIMEOUT = 7 * 24 * 3600.0
# How long the final poll, at the end of the time to wait, may take.
FINAL_POLL_TIMEOUT = 60.0
MAX_CONSECUTIVE_REJECTIONS = 3
# In so many polls in a row the item of one id may be unreadable while the Platform answers otherwise.
MAX_CONSECUTIVE_UNREADABLE = 10
# How long a rejection must last: a new job is 404 by its id, or its permission not known, for up to 30 s.
REJECTED_FOR = 60.0
MAX_IDS = 1000
# Of so many that wait together no single change of state is logged.
MANY = 10


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do but to take answers, until a moment at the latest; None for as long as it takes."""

    until: float | None


@dataclass(frozen=True, slots=True)
class FinalPoll:
    """The time is over: poll these ids once more, at once."""

    ids: list[str]


@dataclass(frozen=True, slots=True)
class Over:
    """The wait is over, with this event for whoever waits."""

    event: dict[str, Any]


@dataclass(slots=True)
class Watch(Generic[J]):
    """The state of a wait for some jobs of one kind. All times are of one clock that never jumps, in seconds.

    Trouble (rate limit, maintenance, no answer, unreadable answers) never ends a wait. A rejection (401, 403, 404) of
    one id in `MAX_CONSECUTIVE_REJECTIONS` polls in a row does, if at least `REJECTED_FOR` has passed since the first of
    them. So does
    ``deadline``, after a final poll. An id whose own item stays missing or unreadable, polled alone, is given up after
    ten polls and the same time.
    ``min_finished`` ends that have been seen end it too, and with ``fail_fast`` the first job that failed.
    ``patient`` has the wait go on through such rejections too, but not with a connection that cannot be used.
    ``unauthorized`` tells that the last poll's token was refused, so that the connection should be looked up again.
    ``apart`` are the ids that are requested each alone (see `api.lookup`).
    """

    kind: JobKind[J]
    ids: Sequence[str]
    deadline: float | None = None
    jobs: dict[str, J] = field(default_factory=dict)
    refused: dict[str, SevenBridgesError] = field(default_factory=dict)
    unauthorized: bool = False
    min_finished: int | None = None
    fail_fast: bool = False
    patient: bool = False
    apart: Apart = field(default_factory=dict)
    # For each id how many polls in a row were rejected, or unreadable, and when the first was.
    _rejections: dict[str, tuple[int, float]] = field(default_factory=dict)
    _unreadable: dict[str, tuple[int, float]] = field(default_factory=dict)
    _in_trouble: bool = False
    _told: int = 0
    _failed: int = 0
    _open: dict[str, None] = field(init=False)
    # From the final poll on: until when its answers are waited for, and the ids without one.
    _final_until: float | None = None
    _unanswered: set[str] | None = None

    def __post_init__(self) -> None:
        self._open = dict.fromkeys(self.ids)

    @property
    def open(self) -> list[str]:
        """The ids that are still to be polled."""
        return list(self._open)

    @property
    def batches(self) -> list[list[str]]:
        """The ids to poll next, at most 100 together."""
        ids = self.open
        return [ids[start : start + BULK_LIMIT] for start in range(0, len(ids), BULK_LIMIT)]

    @property
    def has_rejections(self) -> bool:
        """Whether an id was rejected in the last poll, which ends the wait if it stays so."""
        return bool(self._rejections) and not self.patient

    def update(
        self, asked: Sequence[str], answer: Sequence[J | SevenBridgesError] | SevenBridgesError, now: float
    ) -> list[str]:
        """Take the answer to a poll for some ids, or the error that came instead; return lines worth logging."""
        if self._unanswered:
            self._unanswered.difference_update(asked)
        self.unauthorized = isinstance(answer, SevenBridgesAuthError)
        if isinstance(answer, SevenBridgesError):
            if answer.permanent:
                return [line for job_id in asked for line in self._reject(job_id, answer, now)]
            return self._trouble(answer)
        lines: list[str] = []
        for job_id, told in zip(asked, answer, strict=True):
            lines += self._take_one(job_id, told, now)
        return lines + self._progress()

    def _trouble(self, error: SevenBridgesError) -> list[str]:
        lines = [] if self._in_trouble else [f"The wait goes on in spite of trouble: {error}"]
        self._in_trouble = True
        return lines

    def _take_one(self, job_id: str, told: J | SevenBridgesError, now: float) -> list[str]:
        if isinstance(told, SevenBridgesUnreadableItem):
            return self._strike(self._unreadable, MAX_CONSECUTIVE_UNREADABLE, job_id, told, now)
        if isinstance(told, SevenBridgesError):
            self.unauthorized = self.unauthorized or isinstance(told, SevenBridgesAuthError)
            return self._reject(job_id, told, now) if told.permanent else self._trouble(told)
        lines = ["The Platform answers again."] if self._in_trouble else []
        self._in_trouble = False
        self._rejections.pop(job_id, None)
        self._unreadable.pop(job_id, None)
        before = self.jobs.get(job_id)
        if before is None or told.state != before.state or told.ended:
            # What has not changed is not replaced: ten thousand fresh objects are work for the garbage collector.
            self.jobs[job_id] = told
        if told.ended:
            self._settle(job_id)
            self._failed += told.failed
        is_news = told.state != before.state if before else told.state not in self.kind.fresh_states
        if self._are_many or not is_news:
            return lines
        return [*lines, f"{self.kind.title} {job_id} is {told.state}."]

    @property
    def _are_many(self) -> bool:
        return len(self.ids) > MANY

    def _progress(self) -> list[str]:
        """Return a line each time that another tenth of many has ended."""
        total, ended = len(self.ids), len(self.ids) - len(self._open)
        if not self._are_many or ended * 10 // total == self._told * 10 // total:
            return []
        self._told = ended
        failed = f", {self._failed:,} of them failed" if self._failed else ""
        return [f"{ended:,} of {total:,} {self.kind.name}s have ended{failed}."]

    def _reject(self, job_id: str, error: SevenBridgesError, now: float) -> list[str]:
        if self.patient and isinstance(error, SevenBridgesApiError):
            is_first = job_id not in self._rejections
            self._rejections.setdefault(job_id, (1, now))
            return [f"{self.kind.title} {job_id} cannot be seen; the wait goes on: {error}"] if is_first else []
        return self._strike(self._rejections, MAX_CONSECUTIVE_REJECTIONS, job_id, error, now)

    def _strike(
        self, strikes: dict[str, tuple[int, float]], limit: int, job_id: str, error: SevenBridgesError, now: float
    ) -> list[str]:
        count, since = strikes.get(job_id, (0, now))
        strikes[job_id] = (count + 1, since)
        # Both: polls a second apart all fall into the time in which a new job is not visible yet.
        if count + 1 < limit or now - since < REJECTED_FOR:
            return []
        self.refused[job_id] = error
        self._failed += 1
        self._settle(job_id)
        return [f"{self.kind.title} {job_id} cannot be seen any more: {error}"]

    def _settle(self, job_id: str) -> None:
        self._open.pop(job_id, None)
        self.apart.pop(job_id, None)
        self._rejections.pop(job_id, None)

    @property
    def over(self) -> bool:
        """Whether nothing is left to poll."""
        return not self._open

    @property
    def is_decided(self) -> bool:
        """Whether whoever waits should go on, whatever time it is."""
        return self.over or self._has_enough or self._is_finally_polled

    @property
    def _has_enough(self) -> bool:
        if self.fail_fast and self._failed:
            return True
        return self.min_finished is not None and len(self.ids) - len(self._open) >= self.min_finished

    @property
    def _is_finally_polled(self) -> bool:
        return self._final_until is not None and not self._unanswered

    def settled(self, job_id: str) -> bool:
        """Whether nothing more is to be polled of a job."""
        return job_id not in self._open

    def next_step(self, now: float) -> Wait | FinalPoll | Over:
        """Return what whoever waits should do now: the one place that knows how a deadline is met."""
        if event := self.event(now):
            return Over(event)
        if self._final_until is None and self.deadline is not None and now >= self.deadline:
            # What ended since the last poll, or while no triggerer lived, has ended in time.
            self._final_until = now + FINAL_POLL_TIMEOUT
            self._unanswered = set(self._open)
            return FinalPoll(self.open)
        return Wait(self.deadline if self._final_until is None else self._final_until)

    def event(self, now: float) -> dict[str, Any] | None:
        """Return the trigger's event if the wait is over, else None: plain values only, small, no secrets.

        ``status`` is ``terminal``, ``partial`` (enough of them), ``rejected`` or ``timeout``. If there is only one id,
        it and its ``job`` too.
        """
        if self.over:
            status = "rejected" if self.refused else "terminal"
        elif self._has_enough:
            status = "partial"
        elif self._is_finally_polled or (self._final_until is not None and now >= self._final_until):
            status = "timeout"
        else:
            return None
        event: dict[str, Any] = {"status": status}
        if self.refused:
            job_id, error = next(iter(self.refused.items()))
            event["message"] = f"{self.kind.title} {job_id} cannot be seen: {error}"
        if len(self.ids) == 1:
            event[self.kind.id_key] = self.ids[0]
            if job := self.jobs.get(self.ids[0]):
                event["job"] = job.to_json()
        return event
