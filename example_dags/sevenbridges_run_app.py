"""Run an app from a trigger form, then export its outputs and their index files."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator

try:
    from airflow.sdk import Param, dag
except ImportError:  # Airflow 2
    from airflow.decorators import dag
    from airflow.models.param import Param


@dag(
    dag_id="sevenbridges_run_app",
    description="Run an app and export its outputs",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "app": Param(
            "demo/genomics/gzip-with-index",
            type="string",
            pattern="^[^/]+/[^/]+/[^/]+(/[0-9]+)?$",
            title="App",
            description="owner/project/app, or owner/project/app/revision for one revision. Its input is named file.",
        ),
        "project": Param(
            "demo/genomics",
            type="string",
            pattern="^[^/]+/[^/]+$",
            title="Project",
            description="Where the app runs, as owner/name.",
        ),
        "file": Param(
            "5f0000000000000000000001",
            type="string",
            pattern="^[0-9a-fA-F]{24}$",
            title="Input file",
            description="24 hexadecimal digits, from the end of the file's URL on the Platform.",
        ),
        "volume": Param(
            "demo/results",
            type="string",
            pattern="^.+/[^/]+$",
            title="Volume",
            description="Destination of the outputs, as owner/name.",
        ),
    },
)
def sevenbridges_run_app() -> None:
    """Run the app and export without holding a worker slot."""
    run = SevenBridgesTaskOperator(
        task_id="run_app",
        app="{{ params.app }}",
        project="{{ params.project }}",
        inputs={"file": "{{ params.file }}"},
        deferrable=True,
        retries=2,
    )
    export = SevenBridgesBulkExportOperator(
        task_id="export",
        file_ids="{{ ti.xcom_pull('run_app')['file_ids'] }}",
        volume="{{ params.volume }}",
        location_pattern="runs/{{ run_id }}/{name}",
        copy_only=True,
        deferrable=True,
        retries=2,
    )
    run >> export


sevenbridges_run_app()
