"""Exports as a kind of job."""

from __future__ import annotations

from typing import Any

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.api.text import readable
from airflow_sb_provider.exceptions import SevenBridgesExportFailed
from airflow_sb_provider.exports.outcome import ExportOutcome
from airflow_sb_provider.jobs.kind import JobKind


def _result(job: ExportJob) -> dict[str, Any]:
    return ExportOutcome.of_job(job).to_result()


def _describe(job: ExportJob) -> str:
    file = job.exported_file
    size = f", {file.size} bytes" if file and file.size is not None else ""
    return f"{readable(f'{job.volume}/{job.location}')}{size}" if job.volume and job.location else ""


EXPORT: JobKind[ExportJob] = JobKind(
    "export",
    ExportJob.from_json,
    calls.get_exports,
    failure=SevenBridgesExportFailed,
    done="exported",
    result=_result,
    describe=_describe,
)
