"""Export the outputs of a task of the Platform, and read them in another DAG, scheduled by asset."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import AssetAlias, ObjectStoragePath, Param, dag, get_current_context, task

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

OUTPUTS = AssetAlias("week_outputs")


@dag(start_date=datetime(2026, 1, 1), schedule=None, params={"task": Param("", type="string")})
def outputs():
    SevenBridgesBulkExportOperator(
        task_id="export",
        project="demo/outputs",
        origin_task="{{ params.task }}",
        volume="demo/results",
        location_pattern="outputs/{{ params.task }}/{name}",
        skip_exported=True,
        deferrable=True,
        retries=2,
        outlets=[OUTPUTS],
    )


@dag(start_date=datetime(2026, 1, 1), schedule=OUTPUTS)
def consumer():
    @task
    def read():
        events = get_current_context()["triggering_asset_events"]
        uris = {event.extra["uri"] for of_asset in events.values() for event in of_asset}
        return {uri: len(ObjectStoragePath(uri).read_bytes()) for uri in sorted(uris)}

    read()


outputs()
consumer()
