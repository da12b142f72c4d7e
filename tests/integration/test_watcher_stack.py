"""An export of another client triggers a DAG, on a real Airflow whose triggerer is killed during the test."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sevenbridges

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import REPORT, RESULTS, VCF
from dev.airflow_stack import AirflowStack

DAGS = Path(__file__).parent / "watcher_dags"
DAG = "exported"
QUICK = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def listed(platform):
    return sum(record.path == "/v2/storage/exports" and record.method == "GET" for record in platform.requests)


def until(airflow, condition):
    while not condition():
        airflow.check_alive()
        time.sleep(0.3)


def exports_by_run(airflow):
    """Return the event's data of each successful run of the DAG."""
    runs = airflow.get(f"/dags/{DAG}/dagRuns")["dag_runs"]
    return {
        run["dag_run_id"]: airflow.xcom(DAG, run["dag_run_id"], "exported") for run in runs if run["state"] == "success"
    }


def triggering_exports(airflow):
    return [export["export_id"] for exports in exports_by_run(airflow).values() for export in exports]


def test_an_export_from_any_source_triggers_a_dag_once(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Emulator(knobs=Knobs(pending_seconds=0.2, running_seconds=0.2)) as platform:
        client = sevenbridges.Api(url=platform.url, token=platform.token, debug=True)

        def export(file, location):
            made = client.exports.submit_export(client.files.get(file), RESULTS, location, copy_only=True)
            return made.id

        connections = {"sevenbridges_default": platform.connection_json()}
        with AirflowStack(tmp_path / "airflow", DAGS, connections, QUICK) as airflow:
            airflow.wait_for_dag(DAG)
            until(airflow, lambda: listed(platform) > 1)
            first = export(VCF, "watched/first.vcf")
            until(airflow, lambda: triggering_exports(airflow) == [first])
            [[event]] = exports_by_run(airflow).values()
            assert event["uri"] == "s3://demo-results/exports/watched/first.vcf"
            # The watcher continues to poll after its event has been recorded.
            requests = listed(platform)
            until(airflow, lambda: listed(platform) > requests + 1)

            airflow.kill("triggerer")
            second = export(REPORT, "watched/second.html")
            third = export(VCF, "watched/third.vcf")
            while {job.state for job in platform.exports} != {"COMPLETED"}:
                time.sleep(0.1)
            requests = listed(platform)
            airflow.start("triggerer")
            until(airflow, lambda: set(triggering_exports(airflow)) >= {first, second, third})
            until(airflow, lambda: listed(platform) > requests + 5)
            assert sorted(triggering_exports(airflow)) == sorted([first, second, third])
            assert platform.token not in "".join(airflow.tail(name, 10**6) for name in airflow.processes)
