"""Submit exports in mapped tasks, and wait for all of them in one sensor that is skipped if they take too long."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Param, dag, get_current_context, task

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor


@dag(start_date=datetime(2026, 1, 1), schedule=None, params={"files": Param([], type="array")})
def sensor():
    @task
    def choose():
        return [{"file": file, "location": f"sensor/{file}"} for file in get_current_context()["params"]["files"]]

    starts = SevenBridgesExportOperator.partial(
        task_id="start", volume="demo/results", copy_only=True, wait_for_completion=False, retries=2
    ).expand_kwargs(choose())

    @task
    def use(results):
        return [result["uri"] for result in results]

    wait = SevenBridgesExportSensor(
        task_id="wait",
        export_id=starts.output["export_id"],
        deferrable=True,
        soft_fail=True,
        poke_interval=10,
        timeout=60,
    )
    use(wait.output)


sensor()
