"""Example DAGs on a real Airflow with api-server, scheduler, dag-processor and triggerer."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

import pytest

from tests.integration import openlineage_events
from tests.integration.stack.conftest import holders, processes_of, run_deferred

DAG = "sevenbridges_export"
PRODUCER, CONSUMER = "sevenbridges_asset_producer", "sevenbridges_asset_consumer"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def check_asset_event(airflow, platform):
    """A completed export triggers another DAG, which reads the object."""
    file = platform.add_file("announced.vcf", b"##announced").id
    airflow.wait_for_dag(CONSUMER)
    conf = {"file": file, "volume": "demo/results", "location": "stack/no #1.vcf"}
    run_id, states = run_deferred(airflow, platform, PRODUCER, conf)
    assert states == {"export": "success"}, airflow.task_log(PRODUCER, run_id, "export")
    uri = "s3://demo-results/exports/stack/no #1.vcf"
    # An event comes at least once, and each can have a run.
    runs = []
    while not runs:
        airflow.check_alive()
        time.sleep(0.5)
        runs = airflow.get(f"/dags/{CONSUMER}/dagRuns")["dag_runs"]
    for run in runs:
        assert run["run_type"] == "asset_triggered"
        states = airflow.wait(CONSUMER, run["dag_run_id"])
        assert states == {"read_objects": "success"}, airflow.task_log(CONSUMER, run["dag_run_id"], "read_objects")
        assert airflow.xcom(CONSUMER, run["dag_run_id"], "read_objects") == {uri: "##announced"}

    events = airflow.get("/assets/events", source_dag_id=PRODUCER)["asset_events"]
    result = airflow.xcom(PRODUCER, run_id, "export")
    same = ("uri", "file", "size", "etag", "volume", "location", "export_id", "copy_only", "overwrite", "adopted")
    extra = {key: result[key] for key in same} | {"name": "announced.vcf", "project": "demo/genomics"}
    assert events
    for event in events:
        assert event["source_task_id"] == "export"
        assert event["uri"] == "s3://demo-results/exports/stack/no %231.vcf"
        assert event["extra"] == extra


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
    file = (f"sevenbridges://{urlsplit(platform.url).netloc}", result["file"])
    event = openlineage_events.read_event(path, f"{DAG}.export", "COMPLETE")
    assert openlineage_events.named(event.inputs) == [file]
    assert event.inputs[0].facets["documentation"].description == "File stack.vcf in project demo/genomics"
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


def test_the_examples_on_a_real_airflow(airflow, platform):
    file = platform.add_file("stack.vcf", b"##fileformat=VCFv4.2").id
    conf = {"file": file, "volume": "demo/results", "location": "stack/sample.vcf", "copy_only": False}
    run_id, states = run_deferred(airflow, platform, DAG, conf)
    assert set(states.values()) == {"success"}, airflow.task_log(DAG, run_id, "export")

    [job] = [job for job in platform.exports if job.file == file]
    result = airflow.xcom(DAG, run_id, "export")
    assert airflow.xcom(DAG, run_id, "export", "export_id") == result["export_id"] == job.id
    assert result["uri"] == "s3://demo-results/exports/stack/sample.vcf"
    assert (result["state"], result["adopted"]) == ("COMPLETED", False)
    assert airflow.xcom(DAG, run_id, "read_object").startswith("##fileformat=VCFv4.2")
    assert platform.platform.files[file].alias == ("demo/results", "stack/sample.vcf")

    run_id = airflow.trigger(DAG, {**conf, "location": "stack/elsewhere.vcf"})
    assert airflow.wait(DAG, run_id)["export"] == "failed"
    assert "already an alias of demo/results/stack/sample.vcf" in airflow.task_log(DAG, run_id, "export")
    assert [job] == [job for job in platform.exports if job.file == file]
    check_asset_event(airflow, platform)
    check_marked_while_deferred(airflow, platform)
    check_openlineage(airflow.home / "openlineage.jsonl", platform, result)

    running = processes_of(airflow.home)
    assert len(running) >= len(airflow.processes)
    shown = [" ".join(process.cmdline()) for process in running]
    assert not [line for line in shown if platform.token in line]
    # At the end, the fixture searches for the token in the same way.
    names = holders(airflow.home, job.id)
    assert any(name.startswith("airflow.db") for name in names)
    assert any(name.startswith("logs") for name in names)
