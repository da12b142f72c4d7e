"""What to report of the jobs of a wait: lines for the log, and a status for the task's tab."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.text import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_sb_provider.jobs.kind import J, JobKind

# The tab lists so many jobs, and the log so many that have succeeded; it always has all that failed.
MAX_LISTED = 50


def log_lines(kind: JobKind[J], jobs: Sequence[J]) -> list[str]:
    """Return a line for each of the first jobs that have succeeded, and a summary if there are several jobs."""
    succeeded = [job for job in jobs if job.succeeded]
    lines = []
    for job in succeeded[:MAX_LISTED]:
        text = kind.describe(job)
        lines.append(f"{kind.title} {job.id} is {job.state}{f': {text}' if text else ''}.")
    if len(jobs) > 1:
        failed = sum(job.failed for job in jobs)
        lines.append(f"{len(succeeded)} of {len(jobs)} {kind.name}s completed, {failed} failed.")
    return lines


def wait_status(
    kind: JobKind[J], ids: Sequence[str], jobs: Mapping[str, J], error: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the status of a wait: how many jobs are in each state, and the first jobs.

    :param jobs: the known jobs by id.
    :param error: why the task fails or skips.
    """
    # What went wrong comes first, so that it is listed.
    by_id = sorted(((job_id, jobs.get(job_id)) for job_id in ids), key=lambda item: bool(item[1] and item[1].succeeded))
    return {
        "job_kind": kind.name,
        "total": len(ids),
        "counts": dict(Counter(str(job.state) if job else "UNKNOWN" for _, job in by_id)),
        "jobs": [_job_status(kind, job_id, job) for job_id, job in by_id[:MAX_LISTED]],
        "error": error,
    }


def _job_status(kind: JobKind[J], job_id: str, job: J | None) -> dict[str, Any]:
    text = ""
    if job and job.failed:
        text = kind.failure(job).summary
    elif job and job.succeeded:
        text = kind.describe(job)
    return {"id": job_id, "state": str(job.state) if job else "UNKNOWN", "text": readable(text)}
