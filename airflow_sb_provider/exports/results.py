"""Raise what the hook's bulk calls return as values: errors, and jobs that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesBatchFailed, SevenBridgesError, SevenBridgesExportFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_sb_provider.api.models import ExportJob

_SHOWN = 100
_LONGEST_LINE = 1500


def raise_for_errors(results: Iterable[ExportJob | SevenBridgesError]) -> list[ExportJob]:
    """Return the jobs, if none of the results is an error or a job that failed.

    :raises SevenBridgesBatchFailed: naming each of them, and every other job.
    """
    jobs: list[ExportJob] = []
    errors: list[SevenBridgesError] = []
    all_results = list(results)
    for result in all_results:
        if isinstance(result, SevenBridgesError):
            errors.append(result)
        elif result.failed:
            errors.append(SevenBridgesExportFailed(result))
        else:
            jobs.append(result)
    if not errors:
        return jobs
    lines = [
        f"{len(errors):,} of {len(all_results):,} exports failed or have an error:",
        *_some(list(map(str, errors))),
    ]
    if jobs:
        lines.append("The Platform has accepted the other exports; do not submit them again:")
        lines += _some([_name(job) for job in jobs])
    raise SevenBridgesBatchFailed("\n".join(lines), all(error.permanent for error in errors), all_results)


def _name(job: ExportJob) -> str:
    return readable(f"{job.id} ({job.state}): file {job.file} to {job.volume}/{job.location}", _LONGEST_LINE)


def _some(lines: Sequence[str]) -> list[str]:
    more = f"  ... and {len(lines) - _SHOWN:,} more; `results` of this exception has all of them."
    return [*(f"  {line}" for line in lines[:_SHOWN]), *([more] if len(lines) > _SHOWN else [])]
