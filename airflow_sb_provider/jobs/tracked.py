"""One job of a task: its state, from the plan to its end, and every transition between two states."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from airflow_sb_provider.api.models import error_from_json
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError
from airflow_sb_provider.jobs.decision import CheckAgain, Decision, Fail
from airflow_sb_provider.jobs.record import Request, SubmissionRecord, SubmissionState, SubmissionStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.jobs.kind import JobKind

R = TypeVar("R", bound=Request)

WAITING = "WAITING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
REFUSED = "REFUSED"
IN_DOUBT = "IN_DOUBT"
SKIPPED = "SKIPPED"
BAD = (FAILED, REFUSED, IN_DOUBT)
_NOT_IN_FLIGHT = frozenset({WAITING, COMPLETED, SKIPPED, *BAD})
# Limits for one job in one try, across all deferrals, so that no loop is endless.
MAX_POSTS = 4
MAX_FAILED_SUBMISSIONS = 2
# Of one job, whatever the reasons.
MAX_RECHECKS = 20
MESSAGE_KEPT = 500
_REASON_KEPT = 100
_NOT_KEPT = frozenset({"request", "record", "submission", "job", "proof", "error", "why"})


@dataclass(slots=True, eq=False)
class TrackedJob(Generic[R]):
    """One job that a task requests.

    :param request: the request that creates the job.
    :param state: ``WAITING`` (not submitted yet, or to be checked), the Platform's state while it is in flight,
        ``COMPLETED``, ``FAILED``, ``REFUSED`` (never started), ``SKIPPED`` (left out on purpose) or ``IN_DOUBT`` (its
        result cannot be determined).
    :param job_id: the job to wait for; an adopted one may be from another task.
    :param adopted: whether the job existed already, or its result did.
    :param done_before: whether an earlier run or another task did it: no request of this task can have done it.
    :param retriable: for a job that failed, whether a later try may succeed.
    :param record: the request that this task sent for it.
    :param posts: how many requests this try has sent for it.
    :param failed_submissions: how often its request was rejected or its response lost, or its job had no effect.
    :param is_wanted: false if only an earlier try requested it: this one waits for its end and never submits it.
    :param needs_check: whether the plan already shows that it must be checked before it is submitted.
    :param submission: what this try knows about earlier submissions of it.
    :param job: the job as the Platform last showed it. Like ``proof``, ``error`` and ``why``, it is known only to this
        process and is not stored.
    """

    kind: ClassVar[JobKind[Any]]

    request: R
    name: str | None = None
    size: int | None = None
    state: str = WAITING
    job_id: str | None = None
    adopted: bool = False
    done_before: bool = False
    code: int | None = None
    message: str = ""
    retriable: bool = False
    started_on: str | None = None
    finished_on: str | None = None
    posts: int = 0
    failed_submissions: int = 0
    is_wanted: bool = True
    needs_check: bool = False
    record: SubmissionRecord | None = None
    submission: SubmissionState = SubmissionState()  # noqa: RUF009 - it cannot be changed
    job: Job | None = None
    proof: Any = None
    error: SevenBridgesError | None = None
    why: str = ""

    @property
    def label(self) -> str:
        """Its name in messages, on one line."""
        return readable(self.name or str(self.request), 1000)

    @property
    def bad(self) -> bool:
        """Whether it failed, was refused or is in doubt: this try will not complete it."""
        return self.state in BAD

    @property
    def done(self) -> bool:
        """Whether it is completed."""
        return self.state == COMPLETED

    @property
    def in_flight(self) -> bool:
        """Whether there is a job, and it is not terminal."""
        return self.job_id is not None and self.state not in _NOT_IN_FLIGHT

    @property
    def is_draft(self) -> bool:
        """Whether its job is created and not started."""
        return self.state in self.kind.drafts

    @property
    def is_new(self) -> bool:
        """Whether it waits, and was neither submitted nor checked yet."""
        return self.state == WAITING and self.record is None and not self.posts and self.submission.check_at == 0.0

    @property
    def has_ended(self) -> bool:
        """Whether this try has nothing more to do for it."""
        return self.done or self.bad or self.state == SKIPPED

    @property
    def own_id(self) -> str | None:
        """The job that this task started."""
        return self.record.job_id if self.record else None

    @property
    def is_unanswered(self) -> bool:
        """Whether a request was sent for it whose result is not known."""
        return self.record is not None and self.record.outcome is SubmissionStatus.SENT

    @property
    def is_rejection_unconfirmed(self) -> bool:
        """Whether its request was rejected, and no check has shown yet that it had no effect."""
        return self.state == WAITING and self.submission.refusal is not None and self.submission.job is None

    @property
    def may_go_on(self) -> bool:
        """Whether a job for it may be in flight, or may still be accepted."""
        if self.in_flight or self.state in (COMPLETED, SKIPPED):
            return self.in_flight
        # Until the check, a job of an earlier try may be in flight, and a rejected request may have been accepted.
        is_checked = self.is_rejection_unconfirmed or (
            self.state == WAITING and self.own_id and not self.submission.job
        )
        is_invisible = self.state == IN_DOUBT and self.job_id
        return self.is_unanswered or self.submission.in_doubt or bool(is_checked or is_invisible)

    def believe(self, decision: Decision, now: float, delay: float) -> Decision:
        """Return what to do after a check: instead of a `Fail` that a later check may change, check again.

        :param now: the time of the check, in epoch seconds of the Platform's clock.
        :param delay: after how many seconds the Platform shows the effect of every job.
        """
        if not isinstance(decision, Fail) or self.submission.rechecks >= MAX_RECHECKS:
            return decision
        # What one reason needs must not be used up by another, such as an object's delay by lists that change.
        reason = decision.error.reason[:_REASON_KEPT]
        same = self.submission.same_rechecks if reason == self.submission.recheck_reason else 0
        if same >= decision.rechecks:
            return decision
        return CheckAgain(f"{decision.error} The Platform may show this late.", now + delay, reason=reason)

    def check_again(self, decision: CheckAgain) -> None:
        """Schedule the next check."""
        if decision.doubt_stage is None:
            same = self.submission.same_rechecks if decision.reason == self.submission.recheck_reason else 0
            self.submission = replace(
                self.submission,
                check_at=decision.at,
                rechecks=self.submission.rechecks + 1,
                recheck_reason=decision.reason,
                same_rechecks=same + 1,
                seen=decision.seen or self.submission.seen,
            )
        else:
            self.submission = replace(
                self.submission, check_at=decision.at, doubt_until=decision.at, doubt_stage=decision.doubt_stage
            )

    def sent(self, *, now: float, credential: str, max_tries: int, replaces: str) -> None:
        """Record that a request is about to be sent. A process that finds this record without a result must check.

        :param replaces: describes the object that the Platform is to replace; empty if there is none.
        """
        self.record = SubmissionRecord(
            self.request.fingerprint, credential, now, max_tries, SubmissionStatus.SENT, job_id=None, replaces=replaces
        )
        self.posts += 1
        self.submission = replace(
            self.submission,
            can_submit_unchecked=False,
            in_doubt=True,
            doubt_stage=0,
            doubt_until=0.0,
            rechecks=0,
            same_rechecks=0,
            check_at=0.0,
        )

    def adopt(self, job: Job | None) -> None:
        """Take what a check found: a job that exists, or None if what it is for is done and no job is known."""
        self.adopted = True
        # What this task has sent, or may have sent in a try without a record, is its own doing.
        may_be_own = self.is_unanswered or self.submission.in_doubt or (job is not None and job.id == self.own_id)
        self.done_before = not may_be_own

    def accepted(self, job: Job, now: float) -> None:
        """Record the job that the request has started.

        :param now: the time of the response, in epoch seconds of the Platform's clock, which the first response shows.
        """
        if self.record:
            self.record = replace(self.record, outcome=SubmissionStatus.ACCEPTED, job_id=job.id, sent_at=now)
        self.adopted = self.done_before = False
        self.submission = replace(self.submission, in_doubt=False)

    def not_sent(self, submission: SubmissionState) -> None:
        """Record that the request certainly had no effect; ``submission`` is the state before it was sent."""
        self._note_refused()
        self.submission = submission

    def refused(self, refusal: SevenBridgesApiError) -> bool:
        """Record that the Platform rejected the request; return whether a check should search for the cause."""
        self._note_refused()
        self.failed_submissions += 1
        replaces = self.record.replaces if self.record else ""
        # The work may already be done, by another task or by the same request if it was delivered twice.
        self.wait_again(
            replace(self.submission, can_submit_unchecked=False, in_doubt=False, refusal=refusal, replaces=replaces)
        )
        return self.failed_submissions <= MAX_FAILED_SUBMISSIONS

    def lost(self) -> bool:
        """Record that the response was lost; return whether to submit again if nothing was accepted."""
        self.failed_submissions += 1
        self.submission = SubmissionState(
            is_new_request=False,
            sent_at=self.record.sent_at if self.record else None,
            in_doubt=True,
            replaces=self.record.replaces if self.record else None,
            why="The response to the first request was lost.",
        )
        return self.failed_submissions < MAX_FAILED_SUBMISSIONS

    def follow(self, job: Job) -> None:
        """Apply a job's state and times."""
        self.job, self.job_id, self.state = job, job.id, job.state
        self.started_on = job.started_on.isoformat() if job.started_on else None
        self.finished_on = job.finished_on.isoformat() if job.finished_on else None
        if job.failed:
            self.fail(self.kind.failure(job), FAILED)
        elif job.succeeded:
            self.state = COMPLETED

    def search_cause(self, job: Job, refusal: SevenBridgesApiError | None = None) -> bool:
        """Schedule a check for the cause of a job that ended without effect; return false if the limit is reached."""
        if self.failed_submissions > MAX_FAILED_SUBMISSIONS:
            return False
        self.failed_submissions += 1
        own = job.id == self.own_id
        # The end of a job that was adopted says nothing about this task's own request.
        in_doubt = not own and (self.submission.in_doubt or self.is_unanswered)
        doubt = (self.submission.doubt_stage, self.submission.doubt_until) if in_doubt else (0, 0.0)
        replaces = self.record.replaces if own and self.record else None
        self.wait_again(
            SubmissionState(
                refusal=refusal,
                job=job,
                in_doubt=in_doubt,
                doubt_stage=doubt[0],
                doubt_until=doubt[1],
                replaces=replaces,
            )
        )
        return True

    def wait_again(self, submission: SubmissionState) -> None:
        """Set it to WAITING: it is submitted (again) if a check finds that it is not done."""
        self.state, self.submission, self.job = WAITING, submission, None
        self.code, self.message, self.retriable, self.error = None, "", False, None

    def fail(self, error: SevenBridgesError, state: str) -> None:
        """Set a failed state, with the error as its cause."""
        self.error = error
        self.state, self.retriable = state, not error.permanent
        cause = error.__cause__
        self.code = error.code
        if self.code is None and isinstance(cause, SevenBridgesError):
            # Why a check was made, such as a rejection.
            self.code = cause.code
        self.message = error.summary

    def _note_refused(self) -> None:
        if self.record:
            self.record = replace(self.record, outcome=SubmissionStatus.REFUSED)

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as plain values for Airflow's store.

        A long message is truncated, so that many jobs fit into one value of the store.
        """
        usual = type(self)(self.request)
        data = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in _NOT_KEPT and getattr(self, each.name) != getattr(usual, each.name)
        }
        values = ((each.name, getattr(self.request, each.name)) for each in fields(self.request))
        data["request"] = {name: value for name, value in values if value}
        if len(self.message) > MESSAGE_KEPT:
            data["message"] = self.message[:MESSAGE_KEPT] + "..."
        if self.record:
            data["record"] = self.record.to_json()
        if self.state == WAITING or (self.submission.in_doubt and not self.done):
            data["submission"] = self.submission.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build from what `to_json` returned.

        :raises ValueError: or `KeyError`, `TypeError`, `AttributeError`, if the data has another format.
        """
        own = dict(data)
        request = cls.request_from_json(own.pop("request"))
        if record := own.pop("record", None):
            own["record"] = SubmissionRecord.from_json(record)
        submission = dict(own.pop("submission", {}))
        if refusal := submission.pop("refusal", None):
            submission["refusal"] = error_from_json(refusal, refusal["status"], refusal.get("request_id"))
        if job := submission.pop("job", None):
            submission["job"] = cls.kind.parse(job)
        return cls(request, submission=SubmissionState(**submission), **own)

    @classmethod
    def request_from_json(cls, data: Mapping[str, Any]) -> R:
        """Build the request from its stored fields."""
        raise NotImplementedError
