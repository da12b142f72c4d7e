"""What a task's own tab shows of a wait: small plain values, which the worker or the trigger writes as an XCom."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_sb_provider.api.text import cut
from airflow_sb_provider.api.times import isoformat_utc

if TYPE_CHECKING:
    from airflow_sb_provider.api.job import Job
    from airflow_sb_provider.jobs.kind import JobKind
    from airflow_sb_provider.jobs.watch import Watch


def progress_key(kind: JobKind[Any]) -> str:
    """Return the XCom key of what a wait has seen."""
    return f"sevenbridges_{kind.name}_progress"


def status_of_job(kind: JobKind[Any], job: Job) -> dict[str, Any]:
    """Return what the Platform tells of a job."""
    return {
        kind.id_key: job.id,
        "state": job.state,
        "started_on": job.started_on.isoformat() if job.started_on else None,
        "finished_on": job.finished_on.isoformat() if job.finished_on else None,
    }


def progress_status(watch: Watch[Any], note: str | None, now: float) -> dict[str, Any]:
    """Return what a wait has seen: of one job its state, of many how many are in which state.

    :param now: epoch seconds.
    """
    progress: dict[str, Any] = {"at": isoformat_utc(now), "note": cut(note)}
    if len(watch.ids) == 1:
        job = watch.jobs.get(watch.ids[0])
        return progress | (status_of_job(watch.kind, job) if job else {watch.kind.id_key: watch.ids[0], "state": None})
    counts = Counter(str(job.state) for job in watch.jobs.values())
    return progress | {"total": len(watch.ids), "counts": dict(counts)}
