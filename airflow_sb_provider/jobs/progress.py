"""The progress of a wait that the task's tab shows: small plain values, which worker or trigger write as an XCom."""

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
    """Return the XCom key of a wait's progress."""
    return f"sevenbridges_{kind.name}_progress"


def status_of_job(kind: JobKind[Any], job: Job) -> dict[str, Any]:
    """Return a job's id, state and times."""
    return {
        kind.id_key: job.id,
        "state": job.state,
        "started_on": job.started_on.isoformat() if job.started_on else None,
        "finished_on": job.finished_on.isoformat() if job.finished_on else None,
    }


def progress_status(watch: Watch[Any], note: str | None, now: float) -> dict[str, Any]:
    """Return the progress of a wait: the state of a single job, or how many jobs are in each state.

    :param now: epoch seconds.
    """
    progress: dict[str, Any] = {"at": isoformat_utc(now), "note": cut(note)}
    if len(watch.ids) == 1:
        job = watch.jobs.get(watch.ids[0])
        if job:
            return progress | status_of_job(watch.kind, job)
        return progress | (watch.forgotten or {watch.kind.id_key: watch.ids[0], "state": None})
    counts = Counter(str(job.state) for job in watch.jobs.values())
    return progress | {"total": len(watch.ids), "counts": dict(counts)}
