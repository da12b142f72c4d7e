"""Defaults for all tasks: deferrable, retries, volume and connection."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, get_current_context, task

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

DEFAULTS = {
    "sevenbridges_conn_id": "sevenbridges_default",
    "volume": "demo/archive",
    "copy_only": True,
    "deferrable": True,
    "poll_interval": 10,
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
}

# The scheduler starts no run of its own: `make week` triggers them, with dates in that week.
WEEK_END = datetime(2026, 1, 31)


@dag(start_date=datetime(2026, 1, 1), schedule="@daily", catchup=False, end_date=WEEK_END, default_args=DEFAULTS)
def defaults():
    export = SevenBridgesBulkExportOperator(
        task_id="export",
        project="demo/defaults",
        name="*.{bam,bai}",
        tag_exported="exported",
        created_after="{{ (dag_run.logical_date or dag_run.run_after) - macros.timedelta(days=1, hours=6) }}",
    )

    @task(trigger_rule="all_done")
    def report():
        return get_current_context()["ti"].xcom_pull(task_ids="export", key="summary")

    export >> [report(), EmptyOperator(task_id="outcome")]


defaults()
