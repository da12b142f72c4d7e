"""Submit an export in one task and wait for it in another, so that other tasks can run in between."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag
    from airflow.models.param import Param


@dag(
    dag_id="sevenbridges_export_two_steps",
    description="Submit an export, then wait for it with a sensor",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "file": Param(
            "5f0000000000000000000001",
            type="string",
            pattern="^[0-9a-fA-F]{24}$",
            title="File id",
            description="24 hexadecimal digits, from the end of the file's URL on the Platform. The file is copied: "
            "the Platform keeps it.",
        ),
        "volume": Param(
            "demo/results",
            type="string",
            pattern="^.+/[^/]+$",
            title="Volume",
            description="Destination volume as owner/name. It must be active and have access mode RW.",
        ),
        "location": Param(
            "two-steps/sample.vcf",
            type="string",
            pattern="^[^/](.*[^/])?$",
            title="Location",
            description="The object's key, relative to the volume's prefix. Nothing is overwritten.",
        ),
    },
)
def sevenbridges_export_two_steps() -> None:
    """Submit a copy and wait for it with a sensor."""
    start = SevenBridgesExportOperator(
        task_id="start",
        file="{{ params.file }}",
        volume="{{ params.volume }}",
        location="{{ params.location }}",
        copy_only=True,
        wait_for_completion=False,
    )
    wait = SevenBridgesExportSensor(
        task_id="wait",
        # A template, since start.output["export_id"] fails if a finished move was adopted and the id is None.
        export_id="{{ ti.xcom_pull(task_ids='start', key='export_id') }}",
        deferrable=True,
        poke_interval=30,
        timeout=24 * 3600,
    )
    start >> wait


sevenbridges_export_two_steps()
