"""Exports as a kind of job."""

from __future__ import annotations

from airflow_sb_provider.api import calls
from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.exceptions import SevenBridgesExportFailed
from airflow_sb_provider.jobs.kind import JobKind

EXPORT: JobKind[ExportJob] = JobKind(
    "export", ExportJob.from_json, calls.get_exports, failure=SevenBridgesExportFailed, done="exported"
)
