"""A deferred export, and a sensor that starts in the triggerer, with XComs in another store."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, Param

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

with DAG("kept_elsewhere", schedule=None, start_date=datetime(2026, 1, 1), params={"file": Param("", type="string")}):
    common = {"file": "{{ params.file }}", "volume": "demo/results", "copy_only": True}
    SevenBridgesExportOperator(task_id="export", location="kept/export.vcf", deferrable=True, poll_interval=1, **common)
    start = SevenBridgesExportOperator(task_id="start", location="kept/start.vcf", wait_for_completion=False, **common)
    wait = SevenBridgesExportSensor(
        task_id="wait",
        export_id="{{ ti.xcom_pull('start', key='export_id') }}",
        start_from_trigger=True,
        poke_interval=1,
    )
    start >> wait
