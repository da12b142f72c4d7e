"""What a task knows of its own past: its record of an export, and what that leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import ExportJob
    from airflow_sb_provider.exceptions import SevenBridgesApiError


GATEWAY_TIMEOUT = 90.0


class Outcome(StrEnum):
    """What became of the request that a record tells of."""

    SENT = "sent"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class Request(Protocol):
    """What is wanted, of any kind of job."""

    @property
    def fingerprint(self) -> str:
        """A digest of all that makes this request the one it is."""


@dataclass(frozen=True)
class Record:
    """What is written to Airflow's task state store before an export is asked for, and after the answer.

    ``sent_at`` is in epoch seconds; ``max_tries`` is the task instance's at that time, which a clear changes.
    """

    fingerprint: str
    credential: str
    sent_at: float
    max_tries: int
    outcome: Outcome = Outcome.SENT
    export_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as the store takes it."""
        return {**asdict(self), "outcome": str(self.outcome)}

    @classmethod
    def from_json(cls, data: object) -> Record | None:
        """Return the record that a store holds; None for anything that is no record."""
        if not isinstance(data, Mapping):
            return None
        try:
            return cls(
                fingerprint=str(data["fingerprint"]),
                credential=str(data["credential"]),
                sent_at=float(data["sent_at"]),
                max_tries=int(data["max_tries"]),
                outcome=Outcome(data["outcome"]),
                export_id=data.get("export_id") or None,
            )
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class Attempt:
    """Where a task stands with one export.

    :param untroubled: nothing was asked for before, so that no look is needed.
    :param fresh: the export is wanted anew: a first try, or the task was cleared.
    :param export_id: the job that an earlier try started.
    :param sent_at: when that job, or the request in doubt, was asked for (epoch seconds).
    :param doubt_until: until when (epoch seconds) a request that was sent may still be accepted; None if none is out.
    :param looks: how many looks in a row found nothing while in doubt.
    :param other_credential: the earlier request was made with another token, whose jobs may be invisible.
    :param refusal: how the Platform refused the request, or how its job failed.
    :param overwrite_sent: whether the request that was refused, or whose job failed, requested overwriting.
    """

    untroubled: bool = False
    fresh: bool = True
    export_id: str | None = None
    sent_at: float | None = None
    doubt_until: float | None = None
    looks: int = 0
    other_credential: bool = False
    refusal: SevenBridgesApiError | None = None
    failed: ExportJob | None = None
    overwrite_sent: bool = False
    why: str = ""


def attempt_of(
    request: Request,
    *,
    record: Record | None,
    nothing_sent: bool = False,
    unreadable: bool = False,
    credential: str,
    try_number: int,
    max_tries: int,
    retries: int,
    started_at: float,
    gateway_timeout: float = GATEWAY_TIMEOUT,
) -> Attempt:
    """Tell where a task stands when it starts, from its record and its number of tries.

    :param record: what the store holds for this task instance.
    :param nothing_sent: the earlier try's own state shows that it submitted nothing for this export.
    :param unreadable: there is a state, but not one that can be read, so that anything may have been submitted.
    :param try_number: counts from 1 and goes on after a clear.
    :param max_tries: of the task instance; ``max_tries - retries`` is the try after which it was cleared.
    :param started_at: when this try began, in epoch seconds; the try before had ended by then.
    """
    first = try_number <= 1
    cleared_after = max(max_tries - retries, 0)
    fresh = try_number <= cleared_after + 1
    if record is None:
        if first and not unreadable:
            return Attempt(untroubled=True)
        if nothing_sent:
            return Attempt(fresh=fresh, why="An earlier try ended before it submitted the export.")
        # A try without a store leaves no record, also of a request that is still on its way.
        what = "This is the first try" if first else "The task was cleared" if fresh else "This is a retry"
        which = (
            "the record of what was submitted before cannot be read"
            if unreadable
            else "there is no record of what was submitted before"
        )
        return Attempt(fresh=fresh, doubt_until=started_at + gateway_timeout, why=f"{what}, and {which}.")

    doubt_until = record.sent_at + gateway_timeout if record.outcome is Outcome.SENT else None
    if record.fingerprint != request.fingerprint:
        return Attempt(
            fresh=True,
            doubt_until=doubt_until,
            why="The record of an earlier try is of another export (file, destination or options differ); "
            "it is not adopted.",
        )
    why = {
        Outcome.ACCEPTED: f"An earlier try started export {record.export_id}.",
        Outcome.REFUSED: "The Platform refused an earlier try.",
        Outcome.SENT: "An earlier try submitted the export and ended before the response came.",
    }[record.outcome]
    return Attempt(
        fresh=record.max_tries != max_tries,
        export_id=record.export_id,
        sent_at=record.sent_at,
        doubt_until=doubt_until,
        other_credential=record.credential != credential and record.outcome is not Outcome.REFUSED,
        why=why,
    )
