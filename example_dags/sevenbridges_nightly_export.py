"""Every night, export what is new in a project, and send an e-mail if some files were not exported."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag
    from airflow.models.param import Param

# The folder of the manifests, such as s3://my-bucket/manifests/.
MANIFESTS = os.environ.get("SEVENBRIDGES_MANIFESTS")
# Other people write the names of files and the messages of the Platform: "e" escapes them.
MAIL = """
{% set summary = ti.xcom_pull(task_ids='export', key='summary') or {} %}
<p>{{ summary.get('exported_now', 0) }} files were exported, {{ summary.get('failed', 0) }} were not.</p>
<ul>
{% for error in summary.get('errors', []) %}
<li>{{ (error.name or error.file) | e }} ({{ error.state }}, code {{ error.code }}): {{ error.message | e }}</li>
{% endfor %}
</ul>
<p>All files: {{ (summary.get('manifest') or 'there is no manifest') | e }}</p>
<p><a href="{{ ti.log_url }}">Log of the task</a></p>
"""


@dag(
    dag_id="sevenbridges_nightly_export",
    description="Export the new files of a project every night",
    start_date=datetime(2026, 1, 1),
    schedule="@daily",
    catchup=False,
    # Two runs at the same time would list the same files.
    max_active_runs=1,
    # It starts when you switch it on, whatever Airflow's default is.
    is_paused_upon_creation=True,
    tags=["sevenbridges"],
    params={
        "project": Param("demo/genomics", type="string", pattern="^[^/]+/[^/]+$", title="Project"),
        "volume": Param("demo/results", type="string", pattern="^.+/[^/]+$", title="Volume"),
        "copy_only": Param(
            True,
            type="boolean",
            title="Copy only",
            description_md="**On: copies.** **Off: moves.** A move **cannot be undone**.",
        ),
    },
)
def sevenbridges_nightly_export() -> None:
    """Export the new files without holding a worker slot."""
    SevenBridgesBulkExportOperator(
        task_id="export",
        project="{{ params.project }}",
        recursive=True,
        volume="{{ params.volume }}",
        location_pattern="nightly/{path}/{name}",
        copy_only="{{ params.copy_only }}",
        # Files of earlier nights are left out; aliases and public files are skipped.
        tag_exported="exported-nightly",
        skip_exported=True,
        skip_not_exportable=True,
        # A night without new files ends in Airflow's state "skipped".
        on_empty="skip",
        manifest=f"{MANIFESTS}{{{{ run_id }}}}.jsonl" if MANIFESTS else None,
        deferrable=True,
        retries=2,
        retry_delay=timedelta(minutes=10),
        on_failure_callback=SmtpNotifier(
            from_email="airflow@example.com",
            to="data-team@example.com",
            subject="Some files of {{ params.project }} were not exported",
            html_content=MAIL,
        ),
    )


sevenbridges_nightly_export()
