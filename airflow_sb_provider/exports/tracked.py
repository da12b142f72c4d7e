"""One file that a task exports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.jobs.tracked import TrackedJob

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.jobs.kind import JobKind


@dataclass(slots=True, eq=False)
class TrackedExport(TrackedJob[ExportRequest]):
    """One export of a batch, with what is known of its file.

    ``proof`` is the object that a check found.
    """

    kind: ClassVar[JobKind[ExportJob]] = EXPORT

    job: ExportJob | None = None
    project: str | None = None
    path: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and location on one line, without control characters."""
        return readable(f"{self.name or 'name unknown'} -> {self.request.location or 'nowhere'}", 1000)

    def follow(self, job: Job) -> None:
        """Apply a job's state and times, and the size and name of its file if they are not known yet."""
        TrackedJob.follow(self, job)
        file = job.exported_file if isinstance(job, ExportJob) else None
        if file and self.size is None:
            self.size, self.name = file.size, self.name or file.name

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Build from what `to_json` returned."""
        # Zero-argument super() does not work in a dataclass with slots.
        return super(TrackedExport, cls).from_json({**data, "tags": tuple(data.get("tags", ()))})

    @classmethod
    def request_from_json(cls, data: Mapping[str, Any]) -> ExportRequest:
        """Build the request; it may have no location if the export was refused."""
        return ExportRequest(**{"location": "", **data})
