"""The status of a task for its tab and links: small plain XComs, which the operator and its trigger write.

There are two keys, so that neither process reads what the other wrote: the operator writes the status (file,
destination, outcome), and whatever waits writes the progress since. ``plugins/page/status.schema.json`` describes both.
An error here never fails a task.
"""

from __future__ import annotations

import logging
import os.path
import time
from typing import TYPE_CHECKING, Any, Self, cast

from airflow_sb_provider._compat import HAS_XCOM_BACKEND, PlainXCom
from airflow_sb_provider.api.text import LONGEST, cut, readable
from airflow_sb_provider.api.times import isoformat_utc
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesBatchFailed,
    SevenBridgesError,
    SevenBridgesInDoubt,
    SevenBridgesJobFailed,
    SevenBridgesJobTimeout,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.exports.destination import object_uri
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.jobs.progress import PROGRESS, progress_status, status_of_job
from airflow_sb_provider.jobs.tracked import WAITING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider._compat import BaseOperatorLink, Context
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.api.models import Volume
    from airflow_sb_provider.exports.tracked import TrackedExport
    from airflow_sb_provider.jobs.batch import Batch
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.jobs.watch import Watch

log = logging.getLogger(__name__)

STATUS = "sevenbridges_status"


class TaskStatus:
    """Writes the status of one task instance, and keeps what an earlier process of the same try wrote.

    As a context manager it also writes the error that ends the task. ``links`` has the addresses of the task's links
    that this process knows, by XCom key.

    :param context: the task's context.
    :param kind: ``export``, ``bulk``, ``task`` or ``sensor``.
    :param job_kind: of the jobs that the task submits.
    :param resumed: whether the task resumes after a deferral.
    """

    def __init__(self, context: Context, kind: str, job_kind: JobKind[Any] = EXPORT, *, resumed: bool = False) -> None:
        self._job_kind = job_kind
        self.links: dict[str, str] = {}
        self._ti: Any = context["ti"]
        self._status: dict[str, Any] = {
            "kind": kind,
            "try_number": getattr(self._ti, "try_number", None),
            **(self._earlier() if resumed else {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # The status of a bulk export lists its failed files already.
        is_listed = isinstance(error, SevenBridgesBatchFailed) and self["kind"] == "bulk"
        if isinstance(error, SevenBridgesError) and not is_listed:
            # With the time when the job failed.
            job = (
                status_of_job(self._job_kind, cast("Job", error.job))
                if isinstance(error, SevenBridgesJobFailed)
                else {}
            )
            self.publish(**job, error=error_status(error))

    def __getitem__(self, name: str) -> Any:
        return self._status.get(name)

    def stage(self, **fields: Any) -> None:
        """Keep these fields for the next status that is published."""
        self._status |= fields

    def publish(self, **fields: Any) -> None:
        """Write the status with these fields updated; a None in ``file`` keeps the earlier value."""
        self._push(STATUS, self.updated(**fields))

    def updated(self, **fields: Any) -> dict[str, Any]:
        """Return the status that `publish` writes."""
        if file := fields.get("file"):
            earlier = self["file"] or {}
            fields["file"] = {key: earlier.get(key) if value is None else value for key, value in file.items()}
        self._status |= {**fields, "at": isoformat_utc(time.time())}
        status: dict[str, Any] = sanitized(self._status)
        return status

    def publish_progress(self, watch: Watch[Any], note: str | None) -> None:
        """Write the progress of a wait in the worker."""
        self._push(PROGRESS, progress_status(watch, note, time.time()))

    def publish_links(self, links: Mapping[type[BaseOperatorLink], str | None]) -> None:
        """Write the addresses of links; None if one is unknown."""
        for link, address in links.items():
            key = link().xcom_key
            if address and self.links.get(key) != address:
                self.links[key] = address
                self._push(key, address)

    def _push(self, key: str, value: Any) -> None:
        ti = self._ti
        try:
            if HAS_XCOM_BACKEND:
                # Airflow's API returns what its database has, where a backend would leave a reference.
                task = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
                PlainXCom.set(key=key, value=value, **task)
            else:
                ti.xcom_push(key=key, value=value)
        except Exception as error:
            log.debug("The XCom %s could not be written: %s", key, error)

    def _earlier(self) -> dict[str, Any]:
        ti = self._ti
        try:
            if HAS_XCOM_BACKEND:
                status = PlainXCom.get_value(ti_key=ti, key=STATUS)
            else:
                status = ti.xcom_pull(task_ids=ti.task_id, key=STATUS, map_indexes=ti.map_index)
        except Exception as error:
            log.debug("The XCom %s could not be read: %s", STATUS, error)
            return {}
        return dict(status) if isinstance(status, dict) else {}


def plan_status(entries: Sequence[TrackedExport], volumes: Mapping[str, Volume]) -> dict[str, Any]:
    """Return the part of a bulk export's status that stays the same: from where to where, and how.

    :param entries: all exports of the task.
    :param volumes: the volumes that the token can read, by id.
    """
    requests = [entry.request for entry in entries]
    projects = {entry.project for entry in entries if entry.project}
    copies = {request.copy_only for request in requests}
    ids = {request.volume for request in requests}
    locations = [request.location for request in requests if request.location]
    common = os.path.commonprefix(locations)  # noqa: RUF071 - cut at a slash below
    folder, _, _ = common.rpartition("/")
    volume = volumes.get(next(iter(ids))) if len(ids) == 1 else None
    properties = requests[0].properties if requests else None
    return {
        "source": cut(f"project {projects.pop()}") if len(projects) == 1 else None,
        "volume": ", ".join(sorted(ids)[:3]) + (" ..." if len(ids) > 3 else ""),
        "uri": object_uri(volume, f"{folder}/" if folder else "") if volume else None,
        "copy_only": copies.pop() if len(copies) == 1 else None,
        "overwrite": any(request.overwrite for request in requests),
        "properties": properties if all(request.properties == properties for request in requests) else None,
    }


def batch_status(batch: Batch[TrackedExport], now: float, manifest: str | None) -> dict[str, Any]:
    """Return the part of a bulk export's status that changes."""
    return {
        **batch.summary(now, manifest),
        # The Platform may have accepted these submissions.
        "unanswered": sum(entry.state == WAITING and entry.is_unanswered for entry in batch.entries),
        "bytes_total": batch.totals.bytes_wanted,
        "started_at": isoformat_utc(batch.started_at),
    }


def error_status(error: SevenBridgesError) -> dict[str, Any]:
    """Return an error in parts: ``outcome``, ``reason``, ``remedy``, and the Platform's message, code, ids and page."""
    if isinstance(error, SevenBridgesJobFailed | SevenBridgesBatchFailed):
        outcome = "FAILED"
    elif isinstance(error, SevenBridgesJobTimeout):
        outcome = "TIMEOUT"
    elif isinstance(error, SevenBridgesInDoubt | SevenBridgesReplyLost):
        outcome = "IN_DOUBT"
    else:
        outcome = "REFUSED" if error.permanent else "ERROR"
    cause = error.job.error if isinstance(error, SevenBridgesJobFailed) else error
    reason = error.reason
    if not (getattr(error, "problems", ()) or isinstance(error, SevenBridgesBatchFailed)):
        # Only problems and failed jobs are a line each: line breaks in other people's texts do not count.
        reason = readable(reason, LONGEST)
    parts: dict[str, Any] = {
        "outcome": outcome,
        "reason": cut(reason) or "The Platform gave no reason.",
        "remedy": cut(error.remedy),
    }
    if isinstance(cause, SevenBridgesApiError):
        message = readable(cause.message, LONGEST)
        parts |= {
            "message": None if message == reason else message,
            "code": cause.code,
            "http_status": cause.status or None,
            "request_id": cause.request_id,
            "more_info": cut(cause.more_info),
        }
    else:
        parts["details"] = cut(error.details)
    return {key: value for key, value in parts.items() if value not in (None, "")}


def sanitized(value: Any, *, keep_lines: bool = False) -> Any:
    """Return plain data whose texts are safe to show; only the lines of a ``reason`` stay apart."""
    if isinstance(value, str):
        lines = value.split("\n") if keep_lines else [value]
        return "\n".join(readable(line, LONGEST) for line in lines)
    if isinstance(value, dict):
        return {key: sanitized(item, keep_lines=key == "reason") for key, item in value.items()}
    return [sanitized(item) for item in value] if isinstance(value, list) else value
