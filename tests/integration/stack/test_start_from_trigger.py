"""Sensors that start from their trigger, on a real Airflow: no worker runs until the wait is over."""

from __future__ import annotations

import time

import pytest

from airflow_sb_provider.emulator.seed import VCF

DAG = "start_from_trigger"
WAITING = {"wait", "wait_for_list", "wait_for_mapped", "mapped"}
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def test_a_worker_is_needed_only_at_the_end(airflow, platform):
    platform.knobs.update(stuck=True, pending_seconds=0.1, running_seconds=0.1)
    airflow.wait_for_dag(DAG)
    run_id = airflow.trigger(DAG, {"file": VCF})
    deferred: dict[str, dict] = {}
    while deferred.keys() != WAITING:
        airflow.check_alive()
        time.sleep(0.5)
        for task in airflow.task_instances(DAG, run_id):
            # Only a worker can read the XCom of a mapped task, after the trigger had nothing to wait for.
            early = task["task_id"] == "wait_for_mapped" and not task["hostname"]
            if task["state"] == "deferred" and task["task_id"] in WAITING and not early:
                deferred[task["task_id"]] = task
    # The other tasks had a worker, which proves that the check detects one.
    assert {task_id: bool(task["hostname"]) for task_id, task in deferred.items()} == {
        "wait": False,
        "wait_for_list": False,
        "wait_for_mapped": True,
        "mapped": True,
    }
    assert deferred["wait"]["trigger"]["classpath"].endswith(".SevenBridgesExportTrigger")

    platform.knobs.stuck = False
    states = airflow.wait(DAG, run_id)
    assert states == {
        "start": "success",
        "starts[0]": "success",
        "starts[1]": "success",
        "wait": "success",
        "wait_for_list": "success",
        "wait_for_mapped": "success",
        "wait_for_nothing": "success",
        "wait_for_nonsense": "failed",
        "mapped[0]": "success",
    }, {task: airflow.task_log(DAG, run_id, task) for task in deferred.keys() - {"mapped"}}

    [job] = [job for job in platform.exports if job.location == "waited/for.vcf"]
    result = airflow.xcom(DAG, run_id, "wait")
    assert (result["export_id"], result["state"]) == (job.id, "COMPLETED")
    assert result["uri"] == "s3://demo-results/exports/waited/for.vcf"
    assert airflow.xcom(DAG, run_id, "mapped", map_index=0) == result
    [listed] = airflow.xcom(DAG, run_id, "wait_for_list")
    assert listed["export_id"] == job.id
    both = airflow.xcom(DAG, run_id, "wait_for_mapped")
    assert {one["export_id"] for one in both} == {
        one.id for one in platform.exports if one.location.startswith("mapped/")
    }
    assert {one["state"] for one in both} == {"COMPLETED"}

    path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/wait_for_nothing/xcomEntries"
    # No result, only the status for the tab.
    assert [entry["key"] for entry in airflow.get(path)["xcom_entries"]] == ["sevenbridges_export_status"]
    log = airflow.task_log(DAG, run_id, "wait_for_nonsense")
    assert f"export_id: '{VCF} and more' is not a valid export id" in log
    assert {task["try_number"] for task in airflow.task_instances(DAG, run_id)} == {1}
