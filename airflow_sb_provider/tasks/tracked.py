"""The task of the Platform that an Airflow task runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider.jobs.record import SubmissionRecord, SubmissionStatus
from airflow_sb_provider.jobs.tracked import TrackedJob
from airflow_sb_provider.tasks.kind import TASK
from airflow_sb_provider.tasks.request import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.api.task import Task
    from airflow_sb_provider.jobs.kind import JobKind


@dataclass(slots=True, eq=False)
class TrackedTask(TrackedJob[TaskRequest]):
    """One task of a batch of one."""

    kind: ClassVar[JobKind[Task]] = TASK

    job: Task | None = None

    def take_over(self, task: Job, *, now: float, credential: str) -> None:
        """Record a task that a check found as the one of this wish, so that a later try knows it by its id.

        :param now: in epoch seconds of the Platform's clock.
        """
        sent_at = self.record.sent_at if self.record and self.own_id == task.id else now
        self.record = SubmissionRecord(
            self.request.fingerprint, credential, sent_at, self.request.generation, SubmissionStatus.ACCEPTED, task.id
        )

    def give_up_draft(self) -> None:
        """Forget the draft, which is to be deleted: a later try finds it by its key, or creates another."""
        if self.record:
            self.record = replace(self.record, outcome=SubmissionStatus.REFUSED, job_id=None)

    @classmethod
    def request_from_json(cls, data: Mapping[str, Any]) -> TaskRequest:
        """Build the request from its stored fields."""
        return TaskRequest(**{**data, "batch_by": tuple(data.get("batch_by", ()))})
