"""The tab and the links on a real Airflow with a slow XCom backend that stores all values elsewhere."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack
from dev.ui import CONFIG

HERE = Path(__file__).parent
DAG = "kept_elsewhere"
STATUS, PROGRESS = "sevenbridges_status", "sevenbridges_progress"
LINKS = {
    "File on the Platform": f"https://platform.example/u/demo/genomics/files/{VCF}/",
    "Volume's bucket": "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/",
    "Exported to": "https://s3.console.aws.amazon.com/s3/object/demo-results?prefix=exports/kept/export.vcf",
}
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def test_the_tabs_data_is_kept_in_airflows_database(tmp_path):
    calls = tmp_path / "calls.jsonl"
    with Emulator(knobs=Knobs(stuck=True, pending_seconds=0.1, running_seconds=0.1)) as platform:
        environment = {
            "AIRFLOW__CORE__XCOM_BACKEND": "slow_store.SlowStore",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{tmp_path}/xcoms",
            "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
            "LOCAL_PLATFORM": platform.url,
            "PYTHONPATH": os.pathsep.join([str(HERE / "xcom_backend"), str(CONFIG)]),
            "SLOW_STORE_CALLS": str(calls),
        }
        connections = {"sevenbridges_default": platform.connection_json()}
        with AirflowStack(tmp_path / "airflow", HERE / "xcom_backend_dags", connections, environment) as airflow:
            run_id = airflow.trigger(DAG, {"file": VCF})
            task = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/export"

            def until(condition, what):
                for _ in airflow._until(60):
                    airflow.check_alive()
                    time.sleep(0.5)
                    if condition():
                        return
                raise AssertionError(f"{what}: {airflow.states(DAG, run_id)}")

            def shown(key):
                entries = airflow.get(f"{task}/xcomEntries", xcom_key_pattern="sevenbridges_")["xcom_entries"]
                if key not in [entry["key"] for entry in entries]:
                    return {}
                return airflow.xcom(DAG, run_id, "export", key)

            def links():
                return airflow.get(f"{task}/links")["extra_links"]

            until(lambda: airflow.states(DAG, run_id)["export"] == "deferred", "it is not deferred")
            until(lambda: airflow.states(DAG, run_id)["wait"] == "deferred", "the sensor is not deferred")
            assert airflow.xcom(DAG, run_id, "export", "export_id").startswith("file://")
            assert shown(STATUS)["state"] == "PENDING"
            assert shown(STATUS)["file"]["id"] == VCF
            assert links() == LINKS

            platform.knobs.running_seconds = 3600.0
            platform.knobs.stuck = False
            until(lambda: shown(PROGRESS).get("state") == "RUNNING", "the trigger shows nothing")
            assert links() == LINKS

            platform.knobs.running_seconds = 0.1
            assert set(airflow.wait(DAG, run_id).values()) == {"success"}
            assert shown(STATUS)["state"] == "COMPLETED"
            assert links() == LINKS

    called = [json.loads(line) for line in calls.read_text().splitlines()]
    # The result and the id are the user's values, so they are in the user's backend.
    assert {"export_id", "return_value"} <= {call["key"] for call in called}
    assert not [call for call in called if str(call["key"]).startswith(("sevenbridges_", "_link_"))]
    assert not [call for call in called if call["on_loop"]]
