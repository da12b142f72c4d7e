"""Choose files in a `@task`, and copy each of them in a mapped task."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import dag, task

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

# The scheduler starts no run of its own: `make week` triggers them, with dates in that week.
WEEK_END = datetime(2026, 1, 31)


@dag(start_date=datetime(2026, 1, 1), schedule="@daily", catchup=False, end_date=WEEK_END)
def listing():
    @task
    def choose():
        files = SevenBridgesHook().list_files(project="demo/listing")
        return [file.id for file in files if (file.name or "").endswith(".vcf")]

    @task
    def count(summaries):
        return sum(summary["exported_now"] for summary in summaries)

    exports = SevenBridgesBulkExportOperator.partial(
        task_id="export_each",
        volume="demo/results",
        location_pattern="listing/{name}",
        copy_only=True,
        deferrable=True,
        retries=2,
    ).expand(file_ids=choose())
    count(exports.output)


listing()
