"""What the submitter must know of a kind of job, beyond what every kind has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_sb_provider.jobs.tracked import TrackedJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesError
    from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
    from airflow_sb_provider.jobs.decision import Decision

E = TypeVar("E", bound=TrackedJob[Any])


class Policy(Protocol[E]):
    """How jobs of one kind are checked and submitted. Its methods send requests through ``hook``, each once."""

    hook: SevenBridgesHook
    single: bool
    """Whether the task is of one job: its decisions are logged, and the cause of every failure is searched for."""

    def needs_check(self, entry: E) -> bool:
        """Whether the Platform is checked before an entry is submitted."""

    def calls(self, entries: Sequence[E]) -> list[list[E]]:
        """Return the entries in groups that may share a call."""

    def decide(self, entries: Sequence[E], since: float) -> list[Decision]:
        """Check the Platform and return for each entry, in order, what to do.

        :param since: lists must be younger than this, in seconds of this process's `time.monotonic`.
        """

    def post(self, requests: Sequence[Any], send_by: float) -> Sequence[Job | SevenBridgesApiError]:
        """Submit requests in one call and return for each its job or its refusal.

        :param send_by: not after this moment of `time.monotonic`.
        :raises SevenBridgesReplyLost: if what became of them cannot be known.
        """

    def fetch(self, ids: Sequence[str]) -> Sequence[Job | SevenBridgesApiError]:
        """Return the jobs of some ids, in order."""

    def adopting(self, entry: E, job: Job) -> None:
        """Warn of what differs in a job that is adopted from what is wanted."""

    def without_effect(self, adopted: Sequence[tuple[E, Job]]) -> set[E]:
        """Return those entries whose adopted job has succeeded, but did not do what is wanted."""

    def may_be_done(self, refusal: SevenBridgesApiError) -> bool:
        """Whether a failed job of many may mean that the work is done already, so that a check is worthwhile."""

    def skips(self, error: SevenBridgesError) -> bool:
        """Whether an entry that fails so is left alone, since the user wants that."""
