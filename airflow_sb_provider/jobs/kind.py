"""What the engine needs to know about a kind of job: its name, how to parse and fetch it, and its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_sb_provider.api.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_sb_provider.api.calls import Call
    from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesJobFailed


J = TypeVar("J", bound=Job)


# Compared by identity, so that a kind is a cheap key for the poller.
@dataclass(frozen=True, eq=False)
class JobKind(Generic[J]):
    """A kind of job, such as exports.

    :param name: a lower-case noun, for log lines, XCom keys (``export_id``) and parameters (``export_ids``).
    :param parse: builds a job from the API's object, or from what `Job.to_json` returned.
    :param get_many: returns the call that fetches at most a hundred jobs by id.
    :param failure: the error of a job that failed.
    :param done: the past participle for a completed job, such as ``exported``.
    :param initial_states: the states of a newly submitted job, which are not logged.
    :param result: builds the result of a completed job from the job alone; None if that needs a request.
    :param describe: says more about a completed job, such as its destination.
    :param progress: says how far a job is that is not terminal; None if jobs show only their state.
    :param details: returns more fields for the tab than state and times, as plain values.
    :param parameter: the parameter for the id of one job, if it is not the XCom's key.
    :param drafts: the states of a job that is created and not started.
    """

    name: str
    parse: Callable[[Mapping[str, Any]], J]
    get_many: Callable[[Sequence[str]], Call[list[J | SevenBridgesApiError]]]
    failure: Callable[[J], SevenBridgesJobFailed]
    done: str
    initial_states: frozenset[str] = frozenset({"PENDING"})
    result: Callable[[J], dict[str, Any]] | None = None
    describe: Callable[[J], str] = lambda job: ""
    progress: Callable[[J], str] | None = None
    details: Callable[[J], dict[str, Any]] = lambda job: {}
    parameter: str = ""
    drafts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameter", self.parameter or self.id_key)

    @property
    def title(self) -> str:
        """The name as the first word of a sentence."""
        return self.name.capitalize()

    @property
    def id_key(self) -> str:
        """The key for the id of one job, in XComs and events."""
        return f"{self.name}_id"

    @property
    def ids_key(self) -> str:
        """The parameter for the ids of many jobs."""
        return f"{self.name}_ids"
