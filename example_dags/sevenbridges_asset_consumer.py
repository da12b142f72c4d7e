"""Start a DAG whenever an export lands, whichever DAG made it, and read the new object there."""

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

# What lands where is known only when it has landed: the alias stands for all of it.
EXPORTS = AssetAlias("sevenbridges_exports")


@dag(
    dag_id="sevenbridges_asset_producer",
    description="Export one file, and announce its object",
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
            description="24 hexadecimal digits, at the end of the file's address on the Platform. It is copied: the "
            "Platform keeps it.",
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
            description="The object's whole key on the volume, after the volume's prefix. Nothing is overwritten.",
        ),
    },
)
def sevenbridges_asset_producer() -> None:
    """Any number of DAGs can have such a task; all their exports wake the consumer."""
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
    description="Read what exports have landed",
    start_date=datetime(2026, 1, 1),
    schedule=EXPORTS,
    catchup=False,
    tags=["sevenbridges"],
)
def sevenbridges_asset_consumer() -> None:
    """One run may be started by several exports, and one export may start two: a retry announces it again."""

    @task
    def read_objects() -> dict[str, str]:
        context = get_current_context()
        events = context.get("triggering_asset_events") or context.get("triggering_dataset_events") or {}
        # An event is found by its asset and by its alias. Started by hand, there is none.
        uris = {event.extra["uri"] for found in events.values() for event in found if event.extra.get("uri")}
        # Airflow opens gs:// with the google provider, s3:// with the amazon provider or, from 3.3 on, with s3fs alone.
        return {uri: ObjectStoragePath(uri).read_bytes()[:80].decode("utf-8", "replace") for uri in sorted(uris)}

    read_objects()


sevenbridges_asset_producer()
sevenbridges_asset_consumer()
