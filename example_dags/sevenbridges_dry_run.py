"""Check that an export could be made (token, volume, file, destination) without making it."""

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
    description="Check connection, volume, file and destination; change nothing",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "file": Param(
            "5f0000000000000000000001",
            type="string",
            title="File id",
            description="24 hexadecimal digits, at the end of the file's address on the Platform.",
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
            description="The object's whole key on the volume, after the volume's prefix. Nothing is written there: "
            "the task only says what a move of the file would do, or what stands in its way.",
        ),
    },
)
def sevenbridges_dry_run() -> None:
    """One task, which fails with a list of everything that stands in the way."""
    SevenBridgesExportOperator(
        task_id="check",
        file="{{ params.file }}",
        volume="{{ params.volume }}",
        location="{{ params.location }}",
        validate_only=True,
    )


sevenbridges_dry_run()
