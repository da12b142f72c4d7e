"""The outcome of exports: results, asset events, the manifest, lineage and the tab are all built from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from airflow_sb_provider.api.models import ExportState
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.jobs.batch import Totals
from airflow_sb_provider.jobs.tracked import BAD, COMPLETED, IN_DOUBT, WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pendulum import DateTime

    from airflow_sb_provider.api.models import ExportJob, File, Volume, VolumeObject
    from airflow_sb_provider.exports.tracked import TrackedExport
    from airflow_sb_provider.jobs.batch import Batch

# At most this many exports of one task are reported one by one to outlets and lineage.
MAX_REPORTED = 100

_REQUEST = ("file", "volume", "location", "copy_only", "overwrite")
_RESULT = (
    *("export_id", "state", "file", "volume", "location", "uri", "size", "etag", "copy_only", "overwrite"),
    *("started_on", "finished_on", "adopted", "result"),
)
_EXTRA = (
    *("uri", "file", "name", "size", "etag", "project", "volume", "location", "export_id", "copy_only", "overwrite"),
    "adopted",
)
_EVENT = ("export_id", "file", "volume", "location", "uri", "size", "started_on", "finished_on")
_STATUS = ("export_id", "state", "started_on", "finished_on", "adopted", "uri", "etag")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOutcome:
    """The current state of one export; None for values that are not known.

    ``size`` is in bytes, ``uri`` is ``s3://bucket/prefix/location`` or ``gs://...``, times are ISO 8601 text,
    ``result`` is the Platform's file object, and ``error`` says why the export failed. ``export_id`` is None where a
    finished move is adopted and no job is known. ``exported_before`` says that an earlier run or another task did it.
    """

    file: str | None
    volume: str | None
    location: str | None
    uri: str | None
    state: str
    export_id: str | None
    name: str | None
    project: str | None
    size: int | None
    etag: str | None
    md5: str | None
    crc32c: str | None
    copy_only: bool | None
    overwrite: bool | None
    adopted: bool
    exported_before: bool = False
    started_on: str | None
    finished_on: str | None
    result: dict[str, Any] | None
    error: str = ""

    @classmethod
    def of_job(cls, job: ExportJob, volume: Volume | None = None, volume_object: VolumeObject | None = None) -> Self:
        """Build from a job alone, which does not show whether it was a copy.

        :param volume: the destination's volume, for the object's address.
        :param volume_object: the object at the destination.
        """
        file = job.exported_file
        return cls(
            file=job.file,
            volume=job.volume,
            location=job.location,
            uri=_uri(volume, job.location),
            state=job.state,
            export_id=job.id,
            name=file.name if file else None,
            project=file.project if file else None,
            size=_size(volume_object, file),
            etag=volume_object.etag if volume_object else None,
            md5=volume_object.md5 if volume_object else None,
            crc32c=volume_object.crc32c if volume_object else None,
            copy_only=None,
            overwrite=job.overwrite,
            adopted=False,
            started_on=_text(job.started_on),
            finished_on=_text(job.finished_on),
            result=dict(job.result) if job.result else None,
            error=str(job.error or "The Platform gave no reason.") if job.failed else "",
        )

    @classmethod
    def of_entry(cls, entry: TrackedExport, volume: Volume | None = None) -> Self:
        """Build from one export of a task.

        :param volume: the destination's volume, for the object's address.
        """
        request, job, found = entry.request, entry.job, entry.proof
        file = job.exported_file if job else None
        # The job's values take precedence over the request's.
        location = (job and job.location) or request.location or None
        # A request without a response may have been accepted. Reported as WAITING, it would seem safe to submit again.
        unanswered = entry.state == WAITING and entry.is_unanswered
        lost = "The export was submitted, but no response came: it may be in flight or made." if unanswered else ""
        return cls(
            file=(job and job.file) or request.file,
            volume=(job and job.volume) or request.volume,
            location=location,
            uri=_uri(volume, location),
            state=IN_DOUBT if unanswered else str(entry.state),
            # The id of a job that an earlier try started is known before a check has found the job.
            export_id=entry.job_id or (None if entry.done else entry.own_id),
            name=entry.name or (file.name if file else None),
            project=entry.project or (file.project if file else None),
            size=entry.size if _size(found, file) is None else _size(found, file),
            etag=found.etag if found else None,
            md5=found.md5 if found else None,
            crc32c=found.crc32c if found else None,
            copy_only=request.copy_only,
            overwrite=request.overwrite,
            adopted=entry.adopted,
            exported_before=entry.done_before,
            started_on=entry.started_on,
            finished_on=entry.finished_on,
            result=dict(job.result) if job and job.result else None,
            error=entry.message if entry.bad else lost,
        )

    @property
    def exported(self) -> bool:
        """Whether the export is completed."""
        return self.state == ExportState.COMPLETED

    def to_result(self) -> dict[str, Any]:
        """Return the plain dict that operator and sensor return."""
        return self._pick(_RESULT)

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of an asset event, which must be flat on Airflow 2.11."""
        return self._pick(_EXTRA)

    def to_event(self) -> dict[str, Any]:
        """Return its entry in the event of an asset watcher."""
        return self._pick(_EVENT)

    def to_request_status(self) -> dict[str, Any]:
        """Return what the tab shows before anything is submitted."""
        return self._pick(_REQUEST) | {"file": {"id": self.file}}

    def to_status(self) -> dict[str, Any]:
        """Return what the tab shows; ``size`` is the object's, ``file`` has the source's."""
        file = {"id": self.file, "name": self.name, "size": self.size, "project": self.project}
        return self._pick(_STATUS) | {"file": file, "size": self.size if self.exported else None}

    def _pick(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Report:
    """All exports of a task: those that are reported one by one, and the totals of the others.

    ``many`` is true for a task that exports a list or a selection, even if that has only one file. ``emits_adopted``
    says whether its asset events include exports that earlier runs or other tasks made.
    """

    exports: Sequence[ExportOutcome]
    many: bool = False
    manifest: str | None = None
    emits_adopted: bool = True
    others: Totals = field(default_factory=Totals)
    items: ClassVar[str] = "exports"

    @classmethod
    def of_batch(
        cls,
        batch: Batch[TrackedExport],
        volumes: Mapping[str, Volume],
        *,
        many: bool = False,
        manifest: str | None = None,
        emits_adopted: bool = True,
    ) -> Self:
        """Build from the exports of a task.

        :param volumes: by id, for the objects' addresses.
        """
        exports = [ExportOutcome.of_entry(entry, volumes.get(entry.request.volume)) for entry in batch.entries]
        return cls(exports, many, manifest, emits_adopted, batch.not_loaded)

    @property
    def total(self) -> int:
        """How many exports."""
        return len(self.exports) + self.others.total

    @property
    def exported(self) -> list[ExportOutcome]:
        """The completed exports that are reported one by one, those of this task first."""
        exported = [export for export in self.exports if export.exported]
        return sorted(exported, key=lambda export: export.exported_before)

    @property
    def outputs(self) -> list[ExportOutcome]:
        """Those of them whose object has an address."""
        return [export for export in self.exported if export.uri]

    @property
    def inputs(self) -> list[str]:
        """Their files."""
        return [export.file for export in self.outputs if export.file]

    @property
    def without_address(self) -> list[str]:
        """The volumes of the other ones."""
        return sorted({export.volume or "" for export in self.exported if not export.uri})

    @property
    def announced(self) -> list[ExportOutcome]:
        """Those of them for which asset events are emitted."""
        return [export for export in self.exported if self.emits_adopted or not export.exported_before]

    @property
    def announced_total(self) -> int:
        """For how many completed exports asset events would be emitted without a limit."""
        others = self.others.count(COMPLETED) - (0 if self.emits_adopted else self.others.done_before)
        return len(self.announced) + others

    def to_extra(self) -> dict[str, Any]:
        """Return the extra of an outlet that stands for the task: its one export or, for many, a flat summary."""
        exported, others = self.exported, self.others
        if not self.many:
            return exported[0].to_extra() if exported else {}
        before = sum(export.exported_before for export in exported) + others.done_before
        done = len(exported) + others.count(COMPLETED)
        return {
            "uri": self.manifest,
            "total": self.total,
            "exported": done,
            "exported_now": done - before,
            "adopted": sum(export.adopted for export in exported) + others.adopted,
            "failed": sum(bool(export.error) for export in self.exports) + others.count(*BAD),
            "bytes": sum(export.size or 0 for export in exported) + others.bytes_done,
        }


def namespace(endpoint: str) -> str:
    """Return the namespace of a Platform in lineage: ``sevenbridges://`` and its API's host."""
    return f"sevenbridges://{urlsplit(endpoint).netloc}"


def _uri(volume: Volume | None, location: str | None) -> str | None:
    return object_uri(volume, location) if volume and location else None


def _size(volume_object: VolumeObject | None, file: File | None) -> int | None:
    size = volume_object.size if volume_object else None
    return file.size if size is None and file else size


def _text(time: DateTime | None) -> str | None:
    return time.isoformat() if time else None
