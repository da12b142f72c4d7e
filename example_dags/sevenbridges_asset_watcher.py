"""Run a DAG when exports to a volume complete, wherever they were started. Needs Airflow 3.3."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_sb_provider.triggers.watcher import SevenBridgesExportEventTrigger

results = Asset(
    name="demo_results_exports",
    watchers=[AssetWatcher(name="exports", trigger=SevenBridgesExportEventTrigger(volume="demo/results"))],
)


@dag(
    dag_id="sevenbridges_asset_watcher",
    description="Print the exports to a volume",
    start_date=datetime(2026, 1, 1),
    schedule=[results],
    catchup=False,
    tags=["sevenbridges"],
)
def sevenbridges_asset_watcher() -> None:
    """Print the address and size of each export. Exports found in one poll arrive in one event."""

    @task
    def print_exports(triggering_asset_events: Any = None) -> list[str]:
        export_ids = []
        for event in triggering_asset_events[results]:
            for export in event.extra["payload"]["exports"]:
                print(f"{export['uri']}, {export['size']} bytes, {export['finished_on']}")
                export_ids.append(export["export_id"])
        return export_ids

    print_exports()


sevenbridges_asset_watcher()
