"""What a task knows about its earlier submissions: the stored record, and what is uncertain about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesApiError


GATEWAY_TIMEOUT = 90.0


class SubmissionStatus(StrEnum):
    """The known result of a recorded request; ``SENT`` if there is none yet."""

    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Request(Protocol):
    """A request for a job of any kind: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """A digest of all values of the request: equal requests have the same."""

    @property
    def target(self) -> tuple[str, ...]:
        """The values that identify the request among those of a task; the first is the id of its input."""


@dataclass(frozen=True)
class SubmissionRecord:
    """A submission, as it is written to Airflow's task state store before the request and after the response.

    :param fingerprint: of the request.
    :param credential: a digest that distinguishes tokens.
    :param sent_at: when it was sent or, if known, accepted, in epoch seconds of the Platform's clock.
    :param max_tries: the task instance's maximum number of tries at that time; clearing the task changes it.
    :param replaces: describes the object that the request was to replace; empty if there was none.
    """

    fingerprint: str
    credential: str
    sent_at: float
    max_tries: int
    outcome: SubmissionStatus = SubmissionStatus.SENT
    job_id: str | None = None
    replaces: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values, for the store."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != ""}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SubmissionRecord:
        """Build from what `to_json` returned.

        :raises ValueError: or `KeyError`, `TypeError`, if the data is not a record.
        """
        return cls(
            fingerprint=str(data["fingerprint"]),
            credential=str(data["credential"]),
            sent_at=float(data["sent_at"]),
            max_tries=int(data["max_tries"]),
            outcome=SubmissionStatus(data["outcome"]),
            job_id=data.get("job_id") or None,
            replaces=str(data.get("replaces", "")),
        )


@dataclass(frozen=True, slots=True)
class SubmissionState:
    """What this try knows about earlier submissions of one job. Times are epoch seconds of the Platform's clock.

    :param can_submit_unchecked: nothing was submitted before, so no check is needed.
    :param is_new_request: this is the first try, or the task was cleared: the user wants the job to be made again.
    :param job_id: the job that an earlier try started.
    :param other_job_id: a job that this task started for the same file with other parameters, which may be in flight.
    :param sent_at: when that job, or the request in doubt, was submitted.
    :param in_doubt: a request may have been sent whose result is not known: it may still be accepted.
    :param doubt_stage: how far a request in doubt is checked: 0 before the first check, 1 until it can certainly not be
        accepted any more, 2 until the Platform also shows the effect of jobs that ended in between.
    :param doubt_until: when this stage ends. A check sets it, so it does not depend on another machine's clock.
    :param rechecks: how many checks led to a decision that a later check may change.
    :param recheck_reason: why the last of them was made, and ``same_rechecks`` how many in a row had this reason.
    :param seen: the object at the destination that an earlier check found; empty if there was none.
    :param check_at: the earliest time of the next check.
    :param other_credential: the earlier request was sent with another token, whose jobs this token may not see.
    :param refusal: the error with which the Platform rejected the request, or with which its job failed.
    :param job: the job that failed, or that ended without the requested effect.
    :param replaces: the object that an earlier request for the same job was to replace, empty for none; None if no
        such request was sent.
    :param why: why this try must check, for the log.
    """

    can_submit_unchecked: bool = False
    is_new_request: bool = True
    job_id: str | None = None
    other_job_id: str | None = None
    sent_at: float | None = None
    in_doubt: bool = False
    doubt_stage: int = 0
    doubt_until: float = 0.0
    rechecks: int = 0
    recheck_reason: str = ""
    same_rechecks: int = 0
    seen: str = ""
    check_at: float = 0.0
    other_credential: bool = False
    refusal: SevenBridgesApiError | None = None
    job: Job | None = None
    replaces: str | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from a new state, as plain values for the store."""
        data = {each.name: value for each in fields(self) if (value := getattr(self, each.name)) != each.default}
        if self.refusal is not None:
            data["refusal"] = self.refusal.serialize()
        if self.job is not None:
            # The file in a job's result is long, and no decision needs it.
            data["job"] = {key: value for key, value in self.job.to_json().items() if key != "result"}
        return data


def submission_state(
    request: Request,
    *,
    record: SubmissionRecord | None,
    nothing_sent: bool = False,
    unreadable: bool = False,
    has_store: bool = False,
    credential: str,
    try_number: int,
    max_tries: int,
    retries: int,
    name: str = "job",
) -> SubmissionState:
    """Return the state at the start of a try, from the task's record and its number of tries.

    :param record: what the store holds for this task instance.
    :param nothing_sent: the stored batch of the earlier try shows that it submitted nothing for this job.
    :param unreadable: a part of the stored batch cannot be read, so anything may have been submitted.
    :param has_store: this Airflow keeps records across tries.
    :param try_number: counts from 1 and continues after a clear.
    :param max_tries: of the task instance; ``max_tries - retries`` is the try after which it was cleared.
    :param name: of the kind of job, for the log.
    """
    first = try_number <= 1
    cleared_after = max(max_tries - retries, 0)
    is_new_request = try_number <= cleared_after + 1
    if record is None:
        if first and not unreadable:
            return SubmissionState(can_submit_unchecked=True)
        if nothing_sent:
            return SubmissionState(
                is_new_request=is_new_request, why=f"An earlier try ended before it submitted the {name}."
            )
        # A try without a store leaves no record, not even of a request that may still be accepted.
        what = "This is the first try" if first else "The task was cleared" if is_new_request else "This is a retry"
        which = (
            "the record of what was submitted before cannot be read"
            if unreadable
            else "there is no record of what was submitted before"
        )
        why = f"{what}, and {which}."
        if has_store and not first and is_new_request and not unreadable:
            why += " Airflow 3.4 discards it unless you keep the task state when you clear the task."
        return SubmissionState(is_new_request=is_new_request, in_doubt=True, why=why)

    # The age of the record does not matter: the process that wrote it may have sent the request much later.
    in_doubt = record.outcome is SubmissionStatus.SENT
    if record.fingerprint != request.fingerprint:
        return SubmissionState(
            in_doubt=in_doubt,
            why=f"The record of an earlier try is of another {name} (its parameters differ); it is not adopted.",
        )
    reasons = {
        SubmissionStatus.ACCEPTED: f"An earlier try started {name} {record.job_id}.",
        SubmissionStatus.REFUSED: "The Platform refused an earlier try.",
        SubmissionStatus.SENT: f"An earlier try submitted the {name} and ended before the response came.",
    }
    return SubmissionState(
        is_new_request=record.max_tries != max_tries,
        job_id=record.job_id,
        sent_at=record.sent_at,
        in_doubt=in_doubt,
        other_credential=record.credential != credential and record.outcome is not SubmissionStatus.REFUSED,
        replaces=None if record.max_tries != max_tries else record.replaces,
        why=reasons[record.outcome],
    )
