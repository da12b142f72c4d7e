"""The example of the asset watcher, with a short interval and a volume of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_sb_provider.triggers.watcher import SevenBridgesExportEventTrigger

trigger = SevenBridgesExportEventTrigger(volume="demo/watched", poll_interval=0.5)
exports = Asset("exports", watchers=[AssetWatcher(name="exports", trigger=trigger)])

with DAG("exported", schedule=[exports], start_date=datetime(2026, 1, 1), catchup=False):

    @task
    def exported(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        events = triggering_asset_events[exports]
        return [export for event in events for export in event.extra["payload"]["exports"]]

    exported()
