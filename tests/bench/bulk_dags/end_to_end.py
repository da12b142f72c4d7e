"""The same exports in three ways; the files and the poll interval are parameters of the DAG run."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, BaseHook

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator

PLAN: dict[str, Any] = json.loads(Path(os.environ["BENCH_PLAN"]).read_text())
USUAL: dict[str, Any] = {"schedule": None, "start_date": datetime(2026, 1, 1)}
WAITING: dict[str, Any] = {"deferrable": True, "poll_interval": PLAN["interval"]}


def with_the_client(plan: str, interval: float) -> dict[str, int]:
    """Submit 100 exports per call, and poll until all are terminal, as in the client's documentation."""
    import sevenbridges
    from sevenbridges.http.error_handlers import general_error_sleeper, maintenance_sleeper, rate_limit_sleeper

    connection = BaseHook.get_connection("sevenbridges_default")
    api = sevenbridges.Api(
        url=connection.host,
        token=connection.password,
        error_handlers=[rate_limit_sleeper, maintenance_sleeper, general_error_sleeper],
        # Without it the client rejects http://.
        debug=True,
    )
    exports: list[dict[str, str]] = json.loads(Path(plan).read_text())
    open_ids: list[str] = []
    for start in range(0, len(exports), 100):
        records = api.exports.bulk_submit(exports[start : start + 100])
        open_ids += [record.resource.id for record in records if record.valid]
    counts = {"COMPLETED": 0, "FAILED": len(exports) - len(open_ids)}
    while open_ids:
        time.sleep(interval)
        going: list[str] = []
        for start in range(0, len(open_ids), 100):
            for record in api.exports.bulk_get(exports=open_ids[start : start + 100]):
                if record.resource.state in counts:
                    counts[record.resource.state] += 1
                else:
                    going.append(record.resource.id)
        open_ids = going
    if counts["FAILED"]:
        raise RuntimeError(f"{counts['FAILED']} exports failed")
    return counts


with DAG("warm_up", **USUAL):
    PythonOperator(task_id="export", python_callable=dict)

with DAG("bulk_list", **USUAL):
    SevenBridgesBulkExportOperator(task_id="export", exports=PLAN["exports"], **WAITING)

with DAG("bulk_selection", **USUAL):
    SevenBridgesBulkExportOperator(
        task_id="export",
        project=PLAN["project"],
        volume=PLAN["volume"],
        location_pattern="bulk/{name}",
        manifest=PLAN["manifest"],
        max_files=None,
        **WAITING,
    )

with DAG("mapped", **USUAL):
    SevenBridgesExportOperator.partial(task_id="export", **WAITING).expand_kwargs(PLAN["exports"])

with DAG("client", **USUAL):
    PythonOperator(task_id="export", python_callable=with_the_client, op_args=[PLAN["client"], PLAN["interval"]])
