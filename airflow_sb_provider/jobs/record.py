"""What a task knows of its own past: the record of a submission, and what that leaves open."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesApiError


GATEWAY_TIMEOUT = 90.0


class SubmissionStatus(StrEnum):
    """What became of the request that a record is about."""

    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Request(Protocol):
    """What is wanted, of any kind of job."""

    @property
    def fingerprint(self) -> str:
        """A digest of all that makes this request the one it is."""

    @property
    def target(self) -> tuple[str, ...]:
        """What distinguishes this request from the others of a task."""


@dataclass(frozen=True)
class SubmissionRecord:
    """A submission, as it is written to Airflow's task state store before the request and after the response.

    :param fingerprint: of the request.
    :param credential: a digest that distinguishes tokens.
    :param sent_at: when it was sent, in epoch seconds of the Platform's clock.
    :param max_tries: the task instance's at that time, which a clear changes.
    :param replaces: what the request was to replace, empty for nothing.
    """

    fingerprint: str
    credential: str
    sent_at: float
    max_tries: int
    outcome: SubmissionStatus = SubmissionStatus.SENT
    job_id: str | None = None
    replaces: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as the store takes it."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != ""}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SubmissionRecord:
        """Build from what `to_json` returned.

        :raises ValueError: or `KeyError`, `TypeError`, if it was written by something else.
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


@dataclass(frozen=True)
class SubmissionState:
    """Where a try stands with one job.

    :param untroubled: nothing was submitted before, so that no check is needed.
    :param fresh: the job is wanted anew: a first try, or the task was cleared.
    :param job_id: the job that an earlier try started.
    :param other_job_id: a job that this task started for the same file with other parameters, which may be in flight.
    :param sent_at: when that job, or the request in doubt, was submitted (epoch seconds, the Platform's clock).
    :param in_doubt: a request that may still be accepted may be out.
    :param doubt_stage: how far a request in doubt is cleared up: 0 before the first check, 1 until no request can be
        accepted any more, 2 until what ended in between is shown too.
    :param doubt_until: until when its stage lasts (epoch seconds, the Platform's clock). A check sets it, so that no
        other process's clock has a part in it.
    :param rechecks: how many checks gave a verdict that a later check may change.
    :param seen: what an earlier check has seen in the way of the request.
    :param check_at: before this time no check is worthwhile (epoch seconds, the Platform's clock).
    :param other_credential: the earlier request was made with another token, whose jobs may be invisible.
    :param refusal: how the Platform refused the request, or how its job failed.
    :param job: the job that failed, or that ended without the wanted effect.
    :param replaces: what an earlier request for the same was to replace, empty for nothing; None if none was sent.
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
    seen: str = ""
    check_at: float = 0.0
    other_credential: bool = False
    refusal: SevenBridgesApiError | None = None
    job: Job | None = None
    replaces: str | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what differs from a new state, as Airflow keeps it; ``job`` and ``refusal`` as plain values."""
        usual = SubmissionState()
        data = {name: value for name, value in vars(self).items() if value != getattr(usual, name)}
        if self.refusal is not None:
            data["refusal"] = self.refusal.serialize()
        if self.job is not None:
            # What a completed job shows of its file is long, and not needed to decide.
            data["job"] = {key: value for key, value in self.job.to_json().items() if key != "result"}
        return data


def submission_state(
    request: Request,
    *,
    record: SubmissionRecord | None,
    nothing_sent: bool = False,
    unreadable: bool = False,
    credential: str,
    try_number: int,
    max_tries: int,
    retries: int,
    name: str = "job",
) -> SubmissionState:
    """Return where a task stands when it starts, from its record and its number of tries.

    :param record: what the store holds for this task instance.
    :param nothing_sent: the earlier try's own state shows that it submitted nothing for this job.
    :param unreadable: there is a state, but not one that can be read, so that anything may have been submitted.
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
        # A try without a store leaves no record, also of a request that is still on its way.
        what = "This is the first try" if first else "The task was cleared" if is_new_request else "This is a retry"
        which = (
            "the record of what was submitted before cannot be read"
            if unreadable
            else "there is no record of what was submitted before"
        )
        return SubmissionState(is_new_request=is_new_request, in_doubt=True, why=f"{what}, and {which}.")

    # How long ago it was sent does not count: the process that wrote the record may have sent it much later.
    in_doubt = record.outcome is SubmissionStatus.SENT
    if record.fingerprint != request.fingerprint:
        return SubmissionState(
            in_doubt=in_doubt,
            why=f"The record of an earlier try is of another {name} (its parameters differ); it is not adopted.",
        )
    why = {
        SubmissionStatus.ACCEPTED: f"An earlier try started {name} {record.job_id}.",
        SubmissionStatus.REFUSED: "The Platform refused an earlier try.",
        SubmissionStatus.SENT: f"An earlier try submitted the {name} and ended before the response came.",
    }[record.outcome]
    return SubmissionState(
        is_new_request=record.max_tries != max_tries,
        job_id=record.job_id,
        sent_at=record.sent_at,
        in_doubt=in_doubt,
        other_credential=record.credential != credential and record.outcome is not SubmissionStatus.REFUSED,
        replaces=None if record.max_tries != max_tries else record.replaces,
        why=why,
    )
