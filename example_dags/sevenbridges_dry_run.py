"""Check the connection, file, volume and destination of an export without making it."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesExportOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag
    from airflow.models.param import Param


@dag(
    dag_id="sevenbridges_dry_run",
    description="Check the connection, file, volume and destination; change nothing",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "file": Param(
            "5f0000000000000000000001",
            type="string",
            title="File id",
            description="24 hexadecimal digits, from the end of the file's URL on the Platform.",
        ),
        "volume": Param(
            "demo/results",
            type="string",
            title="Volume",
            description="Destination volume as owner/name. It must be active and have access mode RW.",
        ),
        "location": Param(
            "dry-run/sample.vcf",
            type="string",
            title="Location",
            description="The object's key, relative to the volume's prefix. Nothing is written: "
            "the task reports what a move of the file would do, or what prevents it.",
        ),
    },
)
def sevenbridges_dry_run() -> None:
    """Run one task, which fails and lists every reason if the export is not possible."""
    SevenBridgesExportOperator(
        task_id="check",
        file="{{ params.file }}",
        volume="{{ params.volume }}",
        location="{{ params.location }}",
        validate_only=True,
    )


sevenbridges_dry_run()
