"""What to do about a job that is wanted, once a check has shown what the Platform has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesError

R = TypeVar("R")


@dataclass(frozen=True)
class Submit(Generic[R]):
    """Submit ``request``, which may be more careful than the one that is wanted.

    ``replaces`` is what the Platform deletes for it, as far as known, empty for nothing.
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
    """What the job is for is done already. ``job`` did it, as far as known; ``proof`` is what a check saw of it."""

    why: str
    job: Job | None = None
    proof: Any = None


@dataclass(frozen=True)
class CheckAgain:
    """Nothing was found, but that may change: check again at ``at`` (epoch seconds, the Platform's clock).

    ``doubt_stage`` is the stage that a request in doubt comes to with this check, None if it stays where it is.
    ``seen`` is what must still be there then, empty for nothing.
    """

    why: str
    at: float
    doubt_stage: int | None = None
    seen: str = ""


@dataclass(frozen=True)
class Fail:
    """Submit nothing; ``error`` says why and what to check.

    ``rechecks`` is how many later checks may still show otherwise, because the Platform shows something late.
    """

    error: SevenBridgesError
    rechecks: int = 0


Decision = Submit[Any] | Adopt | AlreadyDone | CheckAgain | Fail
