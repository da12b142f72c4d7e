"""One bulk task with several files and an asset alias, and a DAG that is scheduled on the alias."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

try:
    from airflow.sdk import DAG, AssetAlias, task
except ImportError:
    from airflow import DAG
    from airflow.datasets import DatasetAlias as AssetAlias
    from airflow.decorators import task

EXPORTS = AssetAlias("matrix_many_events")

with DAG("matrix_many_events", start_date=datetime(2026, 1, 1), schedule=None, render_template_as_native_obj=True):
    SevenBridgesBulkExportOperator(
        task_id="export",
        file_ids="{{ dag_run.conf['file'] }}",
        volume="demo/results",
        location_pattern="many-events/{name}",
        copy_only=True,
        deferrable=True,
        outlets=[EXPORTS],
    )

with DAG("matrix_events_consumer", start_date=datetime(2026, 1, 1), schedule=EXPORTS):

    @task
    def consume():
        pass

    consume()
