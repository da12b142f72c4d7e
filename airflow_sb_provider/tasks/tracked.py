"""The task of the Platform that an Airflow task runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_sb_provider.jobs.record import SubmissionStatus
from airflow_sb_provider.jobs.tracked import TrackedJob
from airflow_sb_provider.tasks.kind import TASK
from airflow_sb_provider.tasks.request import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.task import Task
    from airflow_sb_provider.jobs.kind import JobKind


@dataclass(slots=True, eq=False)
class TrackedTask(TrackedJob[TaskRequest]):
    """One task of a batch of one."""

    kind: ClassVar[JobKind[Task]] = TASK

    job: Task | None = None

    def replace_by(self, task: Task) -> None:
        """Follow another task that was created for the same wish, instead of this one's draft."""
        if self.record:
            self.record = replace(self.record, job_id=task.id)
        self.adopt(task)

    def draft_deleted(self) -> None:
        """Record that the draft of this task exists no longer, so that a later try creates another."""
        if self.record:
            self.record = replace(self.record, outcome=SubmissionStatus.REFUSED, job_id=None)

    @classmethod
    def request_from_json(cls, data: Mapping[str, Any]) -> TaskRequest:
        """Build the request from its stored fields."""
        return TaskRequest(**{**data, "batch_by": tuple(data.get("batch_by", ()))})
