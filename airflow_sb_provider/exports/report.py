"""What a task's exports have come to, as it is told to those who did not ask for them: outlets and lineage."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_sb_provider.api.models import File
from airflow_sb_provider.exports.destination import object_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider.api.models import ExportJob, Volume
    from airflow_sb_provider.exports.entry import Entry
    from airflow_sb_provider.exports.request import ExportRequest

# So many exports of one task are told one by one.
MAX_TOLD = 100


def namespace(endpoint: str) -> str:
    """Return what stands for a Platform in lineage: ``sevenbridges://`` and its API's host."""
    return f"sevenbridges://{urlsplit(endpoint).netloc}"


@dataclass(frozen=True, slots=True)
class Landing:
    """One export; None where something is not known.

    ``landed`` tells whether its object is there, ``error`` why it will not be.
    """

    uri: str | None
    file: str | None
    name: str | None
    size: int | None
    etag: str | None
    project: str | None
    volume: str | None
    location: str | None
    export_id: str | None
    copy_only: bool | None
    overwrite: bool | None
    adopted: bool
    landed: bool
    error: str = ""

    @classmethod
    def of_result(cls, result: Mapping[str, Any], *, landed: bool) -> Landing:
        """Build from what `describe_export` returned."""
        told = result["result"]
        file = File.from_json(told) if told and told.get("id") else None
        same = ("uri", "file", "size", "etag", "volume", "location", "export_id", "copy_only", "overwrite", "adopted")
        return cls(
            **{key: result[key] for key in same},
            name=file.name if file else None,
            project=file.project if file else None,
            landed=landed,
        )

    @classmethod
    def of_request(cls, request: ExportRequest, export_id: str | None, volume: Volume | None) -> Landing:
        """Build from what is wanted, before anything has landed."""
        return cls(
            uri=object_uri(volume, request.location) if volume else None,
            file=request.file,
            name=None,
            size=None,
            etag=None,
            project=None,
            volume=request.volume,
            location=request.location,
            export_id=export_id,
            copy_only=request.copy_only,
            overwrite=request.overwrite,
            adopted=False,
            landed=False,
        )

    @classmethod
    def of_job(cls, job: ExportJob) -> Landing:
        """Build from a job that has ended; where its volume is, it does not say."""
        file = File.from_json(job.result) if job.result and job.result.get("id") else None
        return cls(
            uri=None,
            file=job.file,
            name=file.name if file else None,
            size=file.size if file else None,
            etag=None,
            project=file.project if file else None,
            volume=job.volume,
            location=job.location,
            export_id=job.id,
            copy_only=None,
            overwrite=job.overwrite,
            adopted=False,
            landed=job.succeeded,
            error=str(job.error or ""),
        )

    @classmethod
    def of_entry(cls, entry: Entry, volume: Volume | None) -> Landing:
        """Build from one of a batch."""
        return cls(
            uri=object_uri(volume, entry.request.location) if volume else None,
            file=entry.request.file,
            name=entry.name,
            size=entry.size,
            etag=None,
            project=entry.project,
            volume=entry.request.volume,
            location=entry.request.location,
            export_id=entry.job_id,
            copy_only=entry.request.copy_only,
            overwrite=entry.request.overwrite,
            adopted=entry.adopted,
            landed=entry.done,
            error=entry.message if entry.bad else "",
        )

    def extra(self) -> dict[str, Any]:
        """Return what an asset event tells of it: flat, as Airflow 2.11 wants it."""
        return {key: value for key, value in asdict(self).items() if key not in ("landed", "error")}


@dataclass(frozen=True, slots=True)
class Report:
    """All exports of a task.

    ``many`` tells whether the task is one of many exports, however many they are.
    """

    exports: Sequence[Landing]
    many: bool = False
    manifest: str | None = None

    @property
    def landed(self) -> list[Landing]:
        """Those whose object is there."""
        return [export for export in self.exports if export.landed]

    def extra(self) -> dict[str, Any]:
        """Return what an asset event tells of all: of a task of one export its own, else a summary, flat too."""
        landed = self.landed
        if not self.many:
            return landed[0].extra() if landed else {}
        return {
            "uri": self.manifest,
            "total": len(self.exports),
            "exported": len(landed),
            "adopted": sum(export.adopted for export in landed),
            "failed": sum(bool(export.error) for export in self.exports),
            "bytes": sum(export.size or 0 for export in landed),
        }
