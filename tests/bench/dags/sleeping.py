"""Ten of Airflow's sensors that start from their trigger, to measure what a waiting sensor costs Airflow."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG, Param

with DAG(
    "sleeping",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    max_active_runs=5_000,
    max_active_tasks=5_000,
    params={"export_ids": Param([], type="array")},
):
    for number in range(10):
        DateTimeSensorAsync(
            task_id=f"sleep_{number}",
            target_time=f"{{{{ '2100-01-01T00:00:00+00:00' if params.export_ids[{number}] else '' }}}}",
            start_from_trigger=True,
            pool="waiting",
        )
