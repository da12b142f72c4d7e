"""The possible decisions about a job to submit, after a check of the Platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesError
    from airflow_sb_provider.jobs.record import SubmissionState

R = TypeVar("R")

# At most this many checks of one request in doubt, even if the Platform's clock does not advance.
MAX_CHECKS = 12


@dataclass(frozen=True)
class Submit(Generic[R]):
    """Submit ``request``, which may be safer than the user's, such as without ``overwrite``.

    ``replaces`` describes what the Platform deletes for it, as far as known; empty if nothing.
    """

    why: str
    request: R
    replaces: str = ""


@dataclass(frozen=True)
class Adopt:
    """Wait for a job that exists instead of submitting one; it may be terminal already."""

    why: str
    job: Job


@dataclass(frozen=True)
class AlreadyDone:
    """The work is already done. ``job`` is the job that did it, if known; ``proof`` is the result that was found."""

    why: str
    job: Job | None = None
    proof: Any = None


@dataclass(frozen=True)
class CheckAgain:
    """Nothing was found, but that may change: check again at ``at`` (epoch seconds, the Platform's clock).

    ``doubt_stage`` is the new stage of a request in doubt (see `SubmissionState`), None to keep the current one.
    ``seen`` describes what the check found and must find unchanged then, such as an object; empty for nothing.
    ``reason`` is why a failure does not count yet.
    """

    why: str
    at: float
    doubt_stage: int | None = None
    seen: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Fail:
    """Submit nothing; ``error`` says why and what to check.

    ``rechecks`` is how often in a row to check again before the failure counts, since the Platform may show something
    late.
    """

    error: SevenBridgesError
    rechecks: int = 0


Decision = Submit[Any] | Adopt | AlreadyDone | CheckAgain | Fail


def doubt_lasts(
    submission: SubmissionState, now: float, *, doubt_seconds: float, visibility_delay: float, why: str
) -> CheckAgain | None:
    """Return the next check while an earlier request may have been accepted; None if it certainly was not.

    Three checks must find nothing. Between the first two, ``doubt_seconds`` pass, the longest time until a request is
    accepted and its job is listed. What a job that ended just before the second check has done may show only at the
    third, ``visibility_delay`` seconds later.

    :param now: epoch seconds of the Platform's clock.
    """
    if submission.doubt_stage == 0:
        # The time counts from the first check, not from the submission: another machine's clock may have measured that.
        return CheckAgain(why, now + doubt_seconds, doubt_stage=1)
    if now < submission.doubt_until:
        return CheckAgain(why, submission.doubt_until)
    if submission.doubt_stage == 1:
        return CheckAgain(why, now + visibility_delay, doubt_stage=2)
    return None


def is_clock_stuck(submission: SubmissionState, now: float) -> bool:
    """Whether the Platform's clock does not reach the next check, however often it is read."""
    return submission.doubt_stage > 0 and now < submission.doubt_until and submission.rechecks > MAX_CHECKS
