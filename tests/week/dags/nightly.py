"""Every night, export the new files of a project, and send an e-mail if some of them were not exported."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import dag

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

MAIL = """
{% set summary = ti.xcom_pull(task_ids='export', key='summary') or {} %}
<p>{{ summary.get('exported_now', 0) }} files were exported, {{ summary.get('failed', 0) }} were not.</p>
<ul>
{% for error in summary.get('errors', []) %}
<li>{{ (error.name or error.file) | e }}: {{ error.state }}, code {{ error.code }}: {{ error.message | e }}</li>
{% endfor %}
</ul>
<p>Manifest: {{ summary.get('manifest') | e }}</p>
"""

# The scheduler starts no run of its own: `make week` triggers them, with dates in that week.
WEEK_END = datetime(2026, 1, 31)


@dag(start_date=datetime(2026, 1, 1), schedule="@daily", catchup=False, end_date=WEEK_END, max_active_runs=1)
def nightly():
    SevenBridgesBulkExportOperator(
        task_id="export",
        project="demo/nightly",
        recursive=True,
        volume="demo/results",
        location_pattern="nightly/{path}/{name}",
        skip_exported=True,
        skip_not_exportable=True,
        # Public files cost requests each night: leave them out after three nights. A file that failed gets two more.
        # The date of any run on any Airflow; in Airflow 3 the data interval of "@daily" is empty.
        created_after="{{ (dag_run.logical_date or dag_run.run_after) - macros.timedelta(days=3) }}",
        on_empty="skip",
        manifest=f"{os.environ['WEEK_MANIFESTS']}/{{{{ run_id }}}}.jsonl",
        deferrable=True,
        retries=2,
        retry_delay=timedelta(seconds=5),
        on_failure_callback=SmtpNotifier(
            from_email="airflow@example.com",
            to="data-team@example.com",
            subject="Some files of {{ dag.dag_id }} were not exported",
            html_content=MAIL,
        ),
    )


nightly()
