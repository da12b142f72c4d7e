"""Sensors that start from their trigger, on a real Airflow: no worker runs until the wait is over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack

DAGS = Path(__file__).parent / "start_from_trigger_dags"
DAG = "start_from_trigger"
ENDING = {"end", "end_list", "end_silently", "end_mapped", "end_with_callback"}
WAITING = {"wait", "wait_for_list", "wait_for_mapped", "mapped", *ENDING}
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def test_a_worker_is_needed_only_at_the_end(tmp_path):
    with Emulator(knobs=Knobs(stuck=True, pending_seconds=0.1, running_seconds=0.1)) as platform:
        connections = {"sevenbridges_default": platform.connection_json()}
        # Not the Airflow of the folder `stack`: where listeners are installed, no sensor ends in the triggerer.
        with AirflowStack(tmp_path / "airflow", DAGS, connections) as airflow:
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
                **dict.fromkeys(ENDING, False),
                "end_mapped": True,
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
                **dict.fromkeys(ENDING - {"end_mapped"}, "success"),
                "end_mapped[0]": "success",
                "pull": "success",
            }, {task: airflow.task_log(DAG, run_id, task) for task in deferred.keys() - {"mapped"}}

            [job] = [job for job in platform.exports if job.location == "waited/for.vcf"]
            result = airflow.xcom(DAG, run_id, "wait")
            assert (result["export_id"], result["state"]) == (job.id, "COMPLETED")
            assert result["uri"] == "s3://demo-results/exports/waited/for.vcf"
            assert airflow.xcom(DAG, run_id, "mapped", map_index=0) == result
            [listed] = airflow.xcom(DAG, run_id, "wait_for_list")
            assert listed["export_id"] == job.id
            both = airflow.xcom(DAG, run_id, "wait_for_mapped")
            assert {one["export_id"] for one in both} == {one.id for one in platform.exports} - {job.id}
            assert {one["state"] for one in both} == {"COMPLETED"}

            assert {
                task["task_id"] for task in airflow.task_instances(DAG, run_id) if not task["hostname"]
            } == ENDING - {"end_mapped", "end_with_callback"}
            plain = {**result, "uri": None, "etag": None}
            assert airflow.xcom(DAG, run_id, "end") == plain
            assert airflow.xcom(DAG, run_id, "end_list") == [plain]
            assert airflow.xcom(DAG, run_id, "end_mapped", map_index=0) == plain
            # A task gets what a worker would have pushed, not its text.
            assert airflow.xcom(DAG, run_id, "pull") == {"type": "dict", "state": "COMPLETED"}
            assert airflow.xcom(DAG, run_id, "end_with_callback")["etag"] == result["etag"]
            assert airflow.xcom(DAG, run_id, "end_with_callback", key="called") is True
            keys = {
                task: {entry["key"] for entry in airflow.get(f"{path}/{task}/xcomEntries")["xcom_entries"]}
                for path in (f"/dags/{DAG}/dagRuns/{run_id}/taskInstances",)
                for task in ("end", "end_silently")
            }
            assert keys["end"] - keys["end_silently"] == {"return_value"}
            assert "sevenbridges_status" in keys["end_silently"]
            assert f"Export {job.id} is COMPLETED: demo/results/waited/for.vcf" in airflow.task_log(DAG, run_id, "end")

            path = f"/dags/{DAG}/dagRuns/{run_id}/taskInstances/wait_for_nothing/xcomEntries"
            # No result, only the status for the tab.
            assert [entry["key"] for entry in airflow.get(path)["xcom_entries"]] == ["sevenbridges_status"]
            log = airflow.task_log(DAG, run_id, "wait_for_nonsense")
            assert f"export_id: '{VCF} and more' is not a valid export id" in log
            assert {task["try_number"] for task in airflow.task_instances(DAG, run_id)} == {1}
