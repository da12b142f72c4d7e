"""The interface through which the submitter checks and submits jobs of one kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_sb_provider.jobs.tracked import TrackedJob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.decision import Decision

E = TypeVar("E", bound=TrackedJob[Any])


class Policy(Protocol[E]):
    """How jobs of one kind are checked and submitted. Its methods send requests through ``hook``, without retries."""

    hook: SevenBridgesHook
    single: bool
    """Whether the task has one job: then its decisions are logged."""

    def needs_check(self, entry: E) -> bool:
        """Whether to check the Platform before an entry is submitted."""

    def calls(self, entries: Sequence[E]) -> list[list[E]]:
        """Return the entries in groups that may share a call."""

    def decide(self, entries: Sequence[E], since: float) -> list[Decision]:
        """Check the Platform and return for each entry, in order, what to do.

        :param since: the lists of jobs must be newer than this, in seconds of this process's `time.monotonic`.
        """

    def post(self, requests: Sequence[Any], send_by: float) -> Sequence[Job | SevenBridgesApiError]:
        """Submit requests in one call and return for each its job or the error with which it was rejected.

        :param send_by: the latest time to send them (`time.monotonic`).
        :raises SevenBridgesReplyLost: if the response is lost, so they may have been accepted.
        """

    def start(self, entry: E, save: Callable[[], None]) -> Job | SevenBridgesError:
        """Start an entry whose job is a draft; return the job to wait for, or why it cannot be started.

        :param save: stores the entry for later tries.
        """
        # Only some kinds have drafts.
        assert entry.job is not None
        return entry.job

    def fetch(self, ids: Sequence[str]) -> Sequence[Job | SevenBridgesApiError]:
        """Return the jobs of some ids, in order."""

    def adopting(self, entry: E, job: Job) -> None:
        """Log a warning if a job to adopt differs from the request."""

    def without_effect(self, adopted: Sequence[tuple[E, Job]]) -> set[E]:
        """Return those entries whose adopted job has succeeded, but did not do what was requested."""

    def may_be_done(self, refusal: SevenBridgesApiError) -> bool:
        """Whether the error of a failed job may mean that the work is already done, so a check is worthwhile."""

    def skips(self, error: SevenBridgesError) -> bool:
        """Whether the user wants an entry with this error to be skipped."""
