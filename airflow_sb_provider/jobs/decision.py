"""The possible decisions about a job to submit, after a check of the Platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesError

R = TypeVar("R")


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
    """

    why: str
    at: float
    doubt_stage: int | None = None
    seen: str = ""


@dataclass(frozen=True)
class Fail:
    """Submit nothing; ``error`` says why and what to check.

    ``rechecks`` is how often to check again before the failure counts, since the Platform may show something late.
    """

    error: SevenBridgesError
    rechecks: int = 0


Decision = Submit[Any] | Adopt | AlreadyDone | CheckAgain | Fail
