"""Run a DAG whenever an export of another DAG completes, and read the new object."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.operators.export import SevenBridgesExportOperator

try:
    from airflow.sdk import AssetAlias, ObjectStoragePath, Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.datasets import DatasetAlias as AssetAlias
    from airflow.decorators import dag, task
    from airflow.io.path import ObjectStoragePath
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context

# The address of an object is known only after the export: the alias stands for all of them.
EXPORTS = AssetAlias("sevenbridges_exports")


@dag(
    dag_id="sevenbridges_asset_producer",
    description="Export one file and emit an asset event",
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
            "announced/sample.vcf",
            type="string",
            pattern="^[^/](.*[^/])?$",
            title="Location",
            description="The object's key, relative to the volume's prefix. Nothing is overwritten.",
        ),
    },
)
def sevenbridges_asset_producer() -> None:
    """Export a file. Any number of DAGs can have such a task; their exports all trigger the consumer."""
    SevenBridgesExportOperator(
        task_id="export",
        file="{{ params.file }}",
        volume="{{ params.volume }}",
        location="{{ params.location }}",
        copy_only=True,
        deferrable=True,
        outlets=[EXPORTS],
    )


@dag(
    dag_id="sevenbridges_asset_consumer",
    description="Read the objects of completed exports",
    start_date=datetime(2026, 1, 1),
    schedule=EXPORTS,
    catchup=False,
    tags=["sevenbridges"],
)
def sevenbridges_asset_consumer() -> None:
    """Read the new objects. A run can have several events, and a retry can emit an event again."""

    @task
    def read_objects() -> dict[str, str]:
        context = get_current_context()
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        # Each event is listed under its asset and under its alias. A manual run has no events.
        uris = {event.extra["uri"] for of_asset in events.values() for event in of_asset if event.extra.get("uri")}
        # Airflow opens gs:// with the Google provider, s3:// with the Amazon provider or, on 3.3, with s3fs alone.
        return {uri: ObjectStoragePath(uri).read_bytes()[:80].decode("utf-8", "replace") for uri in sorted(uris)}

    read_objects()


sevenbridges_asset_producer()
sevenbridges_asset_consumer()
