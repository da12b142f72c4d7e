"""What a task's own tab shows of its export: small plain values, which the operator and its trigger write as XComs.

Two keys, so that neither has to read what the other wrote: the operator's status holds what is exported, where to and
what became of it; the progress holds what the wait has seen since.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.text import LONGEST, readable
from airflow_sb_provider.api.text import cut as cut
from airflow_sb_provider.api.text import moment as moment
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesError,
    SevenBridgesExportFailed,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.jobs.progress import progress_key, status_of_job
from airflow_sb_provider.jobs.tracked import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_sb_provider.api.models import ExportJob, File, Volume
    from airflow_sb_provider.exports.entry import Entry
    from airflow_sb_provider.exports.request import ExportRequest
    from airflow_sb_provider.jobs.batch import Batch

STATUS = "sevenbridges_export_status"
PROGRESS = progress_key(EXPORT)


def request_status(request: ExportRequest) -> dict[str, Any]:
    """Return what is wanted."""
    return {
        "file": {"id": request.file},
        "volume": request.volume,
        "location": request.location,
        "copy_only": request.copy_only,
        "overwrite": request.overwrite,
    }


def file_status(file: File) -> dict[str, Any]:
    """Return what the Platform tells of the file."""
    return {"id": file.id, "name": cut(file.name), "size": file.size, "project": file.project}


def job_status(job: ExportJob) -> dict[str, Any]:
    """Return what the Platform tells of the job."""
    return status_of_job(EXPORT, job)


def batch_status(
    batch: Batch[Entry], volumes: Mapping[str, Volume], source: str | None, now: float, manifest: str | None
) -> dict[str, Any]:
    """Return how far many exports are.

    :param volumes: by id, those that the token may see.
    :param source: where the files come from, in words.
    """
    requests = [entry.request for entry in batch.entries]
    copies, overwrites = ({getattr(each, name) for each in requests} for name in ("copy_only", "overwrite"))
    ids = {each.volume for each in requests}
    common = os.path.commonprefix([each.location for each in requests if each.location])  # noqa: RUF071 - cut at a slash below
    folder, _, _ = common.rpartition("/")
    volume = volumes.get(next(iter(ids))) if len(ids) == 1 else None
    return {
        **batch.summary(now, manifest),
        "bytes_total": sum(entry.size or 0 for entry in batch.entries if entry.state != SKIPPED),
        "started_at": moment(batch.started_at),
        "source": cut(source),
        "volume": ", ".join(sorted(ids)[:3]) + (" ..." if len(ids) > 3 else ""),
        "uri": object_uri(volume, f"{folder}/" if folder else "") if volume else None,
        # Of some that are copied and some that are moved neither is said.
        "copy_only": copies.pop() if len(copies) == 1 else None,
        "overwrite": any(overwrites),
    }


def error_status(error: SevenBridgesError) -> dict[str, Any]:
    """Return why an export was not made: ``outcome`` and the Platform's or our own words, with the advice apart."""
    cause: SevenBridgesError | None = error
    more = ""
    if isinstance(error, SevenBridgesExportFailed):
        outcome, cause, more = "FAILED", error.job.error, error.cause
    elif isinstance(error, SevenBridgesExportTimeout):
        outcome = "TIMEOUT"
    elif isinstance(error, SevenBridgesInDoubt | SevenBridgesReplyLost):
        outcome = "IN_DOUBT"
    else:
        outcome = "REFUSED" if error.permanent else "ERROR"
    told: dict[str, Any] = {"outcome": outcome}
    if isinstance(cause, SevenBridgesApiError):
        told |= {"message": cut(cause.message), "advice": cut(more or cause.advice or "")}
        told |= {"code": cause.code, "http_status": cause.status or None, "request_id": cause.request_id}
        told["more_info"] = cut(cause.more_info)
    else:
        told |= {"message": cut(str(cause or "The Platform gave no reason.")), "advice": cut(more)}
    return {key: value for key, value in told.items() if value not in (None, "")}


def shown(value: Any) -> Any:
    """Return plain data with every text in it readable, as it is shown."""
    if isinstance(value, str):
        return readable(value, LONGEST)
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value
