"""Ten sensors, each for one of the exports in the parameters of the run: that a worker or that the triggerer ends."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

for dag_id, fields in (
    ("waiting", {}),
    ("ending_with_result", {"end_from_trigger": True}),
    ("ending_without_result", {"end_from_trigger": True, "do_xcom_push": False}),
):
    with DAG(
        dag_id,
        schedule=None,
        start_date=datetime(2026, 1, 1),
        max_active_runs=5_000,
        max_active_tasks=5_000,
        params={"export_ids": Param([], type="array")},
    ):
        for number in range(10):
            SevenBridgesExportSensor(
                task_id=f"wait_{number}",
                export_id=f"{{{{ params.export_ids[{number}] }}}}",
                start_from_trigger=True,
                poke_interval=30,
                timeout=timedelta(hours=6).total_seconds(),
                pool="waiting",
                **fields,
            )
