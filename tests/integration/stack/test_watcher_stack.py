"""An export of another client triggers a DAG, on a real Airflow whose triggerer is killed during the test."""

from __future__ import annotations

import time

import pytest
import sevenbridges

from airflow_sb_provider.emulator.seed import REPORT, VCF

DAG = "exported"
VOLUME = "demo/watched"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def listed(platform):
    """Return how often the volume's exports were listed."""
    return sum(
        record.path == "/v2/storage/exports" and record.method == "GET" and record.query.get("volume") == VOLUME
        for record in platform.requests
    )


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


def test_an_export_from_any_source_triggers_a_dag_once(airflow, platform, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    platform.knobs.update(pending_seconds=0.2, running_seconds=0.2)
    client = sevenbridges.Api(url=platform.url, token=platform.token, debug=True)

    def export(file, location):
        made = client.exports.submit_export(client.files.get(file), VOLUME, location, copy_only=True)
        return made.id

    airflow.wait_for_dag(DAG)
    until(airflow, lambda: listed(platform) > 1)
    first = export(VCF, "first.vcf")
    until(airflow, lambda: triggering_exports(airflow) == [first])
    [[event]] = exports_by_run(airflow).values()
    assert event["uri"] == "s3://demo-watched/first.vcf"
    # The watcher continues to poll after its event has been recorded.
    requests = listed(platform)
    until(airflow, lambda: listed(platform) > requests + 1)

    airflow.kill("triggerer")
    second = export(REPORT, "second.html")
    third = export(VCF, "third.vcf")
    while {job.state for job in platform.exports if job.volume == VOLUME} != {"COMPLETED"}:
        time.sleep(0.1)
    requests = listed(platform)
    airflow.start("triggerer")
    until(airflow, lambda: set(triggering_exports(airflow)) >= {first, second, third})
    until(airflow, lambda: listed(platform) > requests + 5)
    assert sorted(triggering_exports(airflow)) == sorted([first, second, third])
    assert platform.token not in "".join(airflow.tail(name, 10**6) for name in airflow.processes)
