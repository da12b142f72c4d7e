"""A sensor that starts in the triggerer where Airflow supports it, and defers elsewhere."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

with DAG("matrix_start_from_trigger", start_date=datetime(2026, 1, 1), schedule=None):
    start = SevenBridgesExportOperator(
        task_id="start",
        file="{{ dag_run.conf['file'] }}",
        volume="demo/results",
        location="start-from-trigger.txt",
        copy_only=True,
        wait_for_completion=False,
    )
    wait = SevenBridgesExportSensor(
        task_id="wait",
        export_id="{{ ti.xcom_pull(task_ids='start', key='export_id') }}",
        start_from_trigger=True,
        poke_interval=5,
    )
    start >> wait
