"""The DAGs of `make cluster`: mapped tasks that export one file each, and a task that exports a project."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator

USUAL: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1)}
EXPORT: dict[str, Any] = {
    "task_id": "export",
    "volume": "demo/results",
    "deferrable": True,
    "poll_interval": 10,
    "retries": 3,
    "retry_delay": timedelta(seconds=1),
}

with DAG("mapped", **USUAL):
    SevenBridgesExportOperator.partial(location="mapped/{{ ti.map_index }}.vcf", **EXPORT).expand(
        file=[f"{number:024x}" for number in range(int(os.environ["CLUSTER_MAPPED"]))]
    )

with DAG("bulk", **USUAL):
    SevenBridgesBulkExportOperator(project="cluster/bulk", location_pattern="bulk/{name}", **EXPORT)
