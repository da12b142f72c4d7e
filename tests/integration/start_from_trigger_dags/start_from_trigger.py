"""One export, and sensors that start in the triggerer with its id, without an id, and with an invalid one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

EXPORT_ID = "{{ ti.xcom_pull('start', key='export_id') }}"
WAIT = {"start_from_trigger": True, "poke_interval": 1}


def called(context: Any) -> None:
    context["ti"].xcom_push("called", True)


with DAG(
    "start_from_trigger", schedule=None, start_date=datetime(2026, 1, 1), params={"file": Param("", type="string")}
):
    start = SevenBridgesExportOperator(
        task_id="start",
        file="{{ params.file }}",
        volume="demo/results",
        location="waited/for.vcf",
        copy_only=True,
        wait_for_completion=False,
    )
    starts = SevenBridgesExportOperator.partial(
        task_id="starts",
        file="{{ params.file }}",
        volume="demo/results",
        copy_only=True,
        wait_for_completion=False,
    ).expand(location=["mapped/1.vcf", "mapped/2.vcf"])
    starts >> SevenBridgesExportSensor(
        task_id="wait_for_mapped", export_id="{{ ti.xcom_pull('starts', key='export_id') }}", **WAIT
    )
    start >> [
        SevenBridgesExportSensor(task_id="wait", export_id=EXPORT_ID, **WAIT),
        SevenBridgesExportSensor(task_id="wait_for_list", export_id=[EXPORT_ID], **WAIT),
        SevenBridgesExportSensor(
            task_id="wait_for_nothing", export_id="{{ ti.xcom_pull('start', key='no such key') }}", **WAIT
        ),
        SevenBridgesExportSensor(task_id="wait_for_nonsense", export_id="{{ params.file }} and more", **WAIT),
        SevenBridgesExportSensor.partial(task_id="mapped", **WAIT).expand(export_id=[EXPORT_ID]),
    ]
    END = {**WAIT, "end_from_trigger": True}
    ended = SevenBridgesExportSensor(task_id="end", export_id=EXPORT_ID, **END)
    ends = [
        ended,
        SevenBridgesExportSensor(task_id="end_list", export_id=[EXPORT_ID], **END),
        SevenBridgesExportSensor(task_id="end_silently", export_id=EXPORT_ID, do_xcom_push=False, **END),
        # Only a worker starts a mapped sensor, and only a worker calls a callback.
        SevenBridgesExportSensor.partial(task_id="end_mapped", **END).expand(export_id=[EXPORT_ID]),
        SevenBridgesExportSensor(task_id="end_with_callback", export_id=EXPORT_ID, on_success_callback=called, **END),
    ]
    start >> ends

    @task
    def pull(ti: Any = None) -> dict[str, Any]:
        return {"type": type(ti.xcom_pull("end")).__name__, "state": ti.xcom_pull("end")["state"]}

    ended >> pull()
