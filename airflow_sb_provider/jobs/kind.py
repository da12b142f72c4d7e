"""What the engine must know of a kind of job: its name, how one is read, and how many are fetched at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesJobFailed


class Job(Protocol):
    """A job of the Platform, of any kind.

    ``state`` is the Platform's word in capitals. ``error`` is set if the job failed. Times are None if the Platform
    does not give them.
    """

    @property
    def id(self) -> str:
        """The id that the Platform gave it."""

    @property
    def state(self) -> str:
        """Its state."""

    @property
    def started_on(self) -> datetime | None:
        """When it was created."""

    @property
    def finished_on(self) -> datetime | None:
        """When it reached its last state."""

    @property
    def error(self) -> SevenBridgesApiError | None:
        """Why it failed."""

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""

    @property
    def succeeded(self) -> bool:
        """Whether it did what it was submitted for."""

    @property
    def failed(self) -> bool:
        """Whether its state is terminal, and not because it succeeded."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, small enough for a trigger's event."""


J = TypeVar("J", bound=Job)


# Compared by identity, so that the poller can use a kind as a key at no cost.
@dataclass(frozen=True, eq=False)
class JobKind(Generic[J]):
    """A kind of job: exports; imports and tasks may follow.

    :param name: a lower-case noun, for log lines, XCom keys (``export_id``) and parameters (``export_ids``).
    :param parse: builds a job from the API's object, or from what `Job.to_json` returned.
    :param get_many: the call for the jobs of at most a hundred ids.
    :param failure: the error of a job that failed.
    :param done: what has become of what a job of it was for, in one word: ``exported``.
    :param fresh_states: the states of a job that was just submitted, which are no news.
    """

    name: str
    parse: Callable[[Mapping[str, Any]], J]
    get_many: Callable[[Sequence[str]], Call[list[J | SevenBridgesApiError]]]
    failure: Callable[[J], SevenBridgesJobFailed]
    done: str
    fresh_states: frozenset[str] = frozenset({"PENDING"})

    @property
    def title(self) -> str:
        """Its name as the first word of a sentence."""
        return self.name.capitalize()

    @property
    def id_key(self) -> str:
        """The key and parameter for the id of one job."""
        return f"{self.name}_id"

    @property
    def ids_key(self) -> str:
        """The parameter for the ids of many jobs."""
        return f"{self.name}_ids"
