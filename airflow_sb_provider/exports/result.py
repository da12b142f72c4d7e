"""What a task hands on about an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.models import ExportState, File
from airflow_sb_provider.exports.destination import object_uri

if TYPE_CHECKING:
    from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject


def describe_export(
    job: ExportJob | None,
    *,
    file: str | None,
    volume: str | None,
    location: str | None,
    copy_only: bool | None,
    overwrite: bool | None,
    adopted: bool,
    volume_details: Volume | None = None,
    volume_object: VolumeObject | None = None,
) -> dict[str, Any]:
    """Return the plain dict that tasks return.

    ``export_id`` is None where a finished move was taken over and its job is not known. ``size`` is in bytes, ``uri``
    is ``s3://bucket/prefix/location`` or ``gs://...``; what is not known is None. Times are ISO 8601.
    """
    result = dict(job.result) if job and job.result else None
    size = volume_object.size if volume_object else None
    if size is None and result and result.get("id"):
        size = File.from_json(result).size
    return {
        "export_id": job.id if job else None,
        "state": job.state if job else str(ExportState.COMPLETED),
        "file": file,
        "volume": volume,
        "location": location,
        "uri": object_uri(volume_details, location) if volume_details and location else None,
        "size": size,
        "etag": volume_object.etag if volume_object else None,
        "copy_only": copy_only,
        "overwrite": overwrite,
        "started_on": job.started_on.isoformat() if job and job.started_on else None,
        "finished_on": job.finished_on.isoformat() if job and job.finished_on else None,
        "adopted": adopted,
        "result": result,
    }
