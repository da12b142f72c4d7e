"""Example DAGs on a real Airflow with api-server, scheduler, dag-processor and triggerer."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack
from tests.integration import openlineage_events

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
DAG = "sevenbridges_export"
PRODUCER, CONSUMER = "sevenbridges_asset_producer", "sevenbridges_asset_consumer"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def processes_of(home):
    """Return all processes with this AIRFLOW_HOME."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def holders(home, word):
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and word.encode() in path.read_bytes()
    )


def export(airflow, **params):
    """Run the example; return the run's id, the states of its tasks, and all states of its export task."""
    seen = []
    run_id = airflow.trigger(DAG, {"file": VCF, "volume": "demo/results", **params})
    states = airflow.wait(DAG, run_id, on_change=lambda task, state: task == "export" and seen.append(state))
    return run_id, states, seen


def check_asset_event(airflow, platform):
    """A completed export triggers another DAG, which reads the object."""
    file = platform.add_file("announced.vcf", b"##announced").id
    airflow.wait_for_dag(CONSUMER)
    run_id = airflow.trigger(PRODUCER, {"file": file, "volume": "demo/results", "location": "stack/no #1.vcf"})
    seen = []
    states = airflow.wait(PRODUCER, run_id, on_change=lambda task, state: seen.append(state))
    assert states == {"export": "success"}, airflow.task_log(PRODUCER, run_id, "export")
    assert "deferred" in seen
    runs = []
    while not runs:
        airflow.check_alive()
        time.sleep(0.5)
        runs = airflow.get(f"/dags/{CONSUMER}/dagRuns")["dag_runs"]
    [run] = runs
    assert run["run_type"] == "asset_triggered"
    uri = "s3://demo-results/exports/stack/no #1.vcf"
    states = airflow.wait(CONSUMER, run["dag_run_id"])
    assert states == {"read_objects": "success"}, airflow.task_log(CONSUMER, run["dag_run_id"], "read_objects")
    assert airflow.xcom(CONSUMER, run["dag_run_id"], "read_objects") == {uri: "##announced"}

    [event] = airflow.get("/assets/events")["asset_events"]
    assert (event["source_dag_id"], event["source_task_id"]) == (PRODUCER, "export")
    assert event["uri"] == "s3://demo-results/exports/stack/no %231.vcf"
    result = airflow.xcom(PRODUCER, run_id, "export")
    same = ("uri", "file", "size", "etag", "volume", "location", "export_id", "copy_only", "overwrite", "adopted")
    assert event["extra"] == {key: result[key] for key in same} | {"name": "announced.vcf", "project": "demo/genomics"}


def check_marked_while_deferred(airflow, platform):
    """The log of a deferred task that a user marks as failed says that its export continues."""
    platform.knobs.stuck = True
    file = platform.add_file("marked.vcf", b"##marked").id
    run_id = airflow.trigger(PRODUCER, {"file": file, "volume": "demo/results", "location": "stack/marked.vcf"})
    while airflow.states(PRODUCER, run_id) != {"export": "deferred"}:
        airflow.check_alive()
        time.sleep(0.5)
    # Until the trigger has polled, it does not run yet.
    while not any(
        record.path.endswith("/get") and record.time > platform.exports[-1].started_on.timestamp()
        for record in platform.requests
    ):
        time.sleep(0.5)
    path = f"/dags/{PRODUCER}/dagRuns/{run_id}/taskInstances/export"
    assert airflow.api("PATCH", path, json={"new_state": "failed"}).ok
    log = ""
    while "Airflow ended this wait" not in log:
        airflow.check_alive()
        time.sleep(0.5)
        log = airflow.task_log(PRODUCER, run_id, "export")
    assert f"The Platform cannot cancel the export {platform.exports[-1].id}, which may continue." in log
    platform.knobs.stuck = False


def check_openlineage(path, platform, result):
    """Check the events of a deferred export that succeeded and of one that failed, with the official client."""
    file = (f"sevenbridges://{urlsplit(platform.url).netloc}", VCF)
    event = openlineage_events.read_event(path, f"{DAG}.export", "COMPLETE")
    assert openlineage_events.named(event.inputs) == [file]
    assert event.inputs[0].facets["documentation"].description == "File NA12878.vcf in project demo/genomics"
    assert openlineage_events.named(event.outputs) == [("s3://demo-results", "exports/stack/sample.vcf")]
    [written] = event.outputs
    assert (
        written.outputFacets["outputStatistics"].size
        == result["size"]
        == event.inputs[0].inputFacets["inputStatistics"].size
    )
    assert written.outputFacets["outputStatistics"].fileCount == 1
    assert written.facets["version"].datasetVersion == result["etag"]
    assert written.facets["lifecycleStateChange"].lifecycleStateChange.value == "CREATE"
    query = event.run.facets["externalQuery"]
    assert (query.externalQueryId, query.source) == (result["export_id"], platform.url)

    event = openlineage_events.read_event(path, f"{DAG}.export", "FAIL")
    assert openlineage_events.named(event.inputs) == [file]
    assert all(not each.outputFacets for each in event.outputs)
    assert "already an alias of demo/results/stack/sample.vcf" in event.run.facets["errorMessage"].message


def test_the_examples_on_a_real_airflow(tmp_path):
    home = tmp_path / "airflow"
    lineage = home / "openlineage.jsonl"
    with Emulator(knobs=Knobs(pending_seconds=0.5, running_seconds=1.0)) as platform:
        connections = {"sevenbridges_default": platform.connection_json()}
        environment = {**platform.s3_environment(), **openlineage_events.settings(lineage)}
        with AirflowStack(home, EXAMPLES, connections, environment) as airflow:
            run_id, states, seen = export(airflow, location="stack/sample.vcf", copy_only=False)
            assert set(states.values()) == {"success"}, airflow.task_log(DAG, run_id, "export")
            assert "deferred" in seen

            [job] = platform.exports
            result = airflow.xcom(DAG, run_id, "export")
            assert airflow.xcom(DAG, run_id, "export", "export_id") == result["export_id"] == job.id
            assert result["uri"] == "s3://demo-results/exports/stack/sample.vcf"
            assert (result["state"], result["adopted"]) == ("COMPLETED", False)
            assert airflow.xcom(DAG, run_id, "read_object").startswith("##fileformat=VCFv4.2")
            assert platform.platform.files[VCF].alias == ("demo/results", "stack/sample.vcf")

            run_id, states, _ = export(airflow, location="stack/elsewhere.vcf", copy_only=False)
            assert states["export"] == "failed"
            assert "already an alias of demo/results/stack/sample.vcf" in airflow.task_log(DAG, run_id, "export")
            assert len(platform.exports) == 1
            check_asset_event(airflow, platform)
            check_marked_while_deferred(airflow, platform)

            running = processes_of(home)
            assert len(running) >= len(airflow.processes)
            shown = [" ".join(process.cmdline()) for process in running]
            assert not [line for line in shown if platform.token in line]
        assert processes_of(home) == []
        ports = {connection.laddr.port for connection in psutil.net_connections("tcp") if connection.status == "LISTEN"}
        assert airflow.port not in ports

        check_openlineage(lineage, platform, result)
        # The search includes the database and the logs.
        names = holders(home, job.id)
        assert any(name.startswith("airflow.db") for name in names)
        assert any(name.startswith("logs") for name in names)
        assert holders(home, platform.token) == []
        assert os.environ.get("AIRFLOW_HOME") != str(home)
