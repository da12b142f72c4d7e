"""Run when exports have landed on a volume, wherever they were started; needs Airflow 3.3."""

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
    description="Print what has landed on a volume",
    start_date=datetime(2026, 1, 1),
    schedule=[results],
    catchup=False,
    tags=["sevenbridges"],
)
def sevenbridges_asset_watcher() -> None:
    """Print the address and size of each export; those that a look of the watcher found together come together."""

    @task
    def print_landed(triggering_asset_events: Any = None) -> list[str]:
        landed = []
        for event in triggering_asset_events[results]:
            for export in event.extra["payload"]["exports"]:
                print(f"{export['uri']}, {export['size']} bytes, {export['finished_on']}")
                landed.append(export["export_id"])
        return landed

    print_landed()


sevenbridges_asset_watcher()
