"""What the engine must know of a kind of job: its name, how one is read, and how many are fetched at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.api.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesJobFailed


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
