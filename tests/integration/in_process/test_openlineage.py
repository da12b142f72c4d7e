"""OpenLineage reports of exports, against the local Platform."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.in_process.test_outlets import DETAILS

BUCKET = "s3://demo-results"


def complete(task):
    return task.get_openlineage_facets_on_complete(None)


def failure(task):
    return task.get_openlineage_facets_on_failure(None)


def named(datasets):
    return [(each.namespace, each.name) for each in datasets]


def bulk(files, **fields):
    exports = [{"file": file, "volume": "demo/results", "location": f"many/{file}"} for file in files]
    return SevenBridgesBulkExportOperator(**{"task_id": "bulk", "exports": exports, "poll_interval": 0.1, **fields})


def runner_ti(task):
    return SimpleNamespace(
        dag_id="dag",
        run_id="run",
        task_id=task.task_id,
        map_index=-1,
        try_number=1,
        max_tries=0,
        xcom_push=lambda **_: None,
        xcom_pull=lambda **_: None,
    )


@pytest.fixture
def space(platform):
    return f"sevenbridges://{urlsplit(platform.url).netloc}"


@pytest.mark.parametrize(
    ("fields", "change", "verb"),
    [({}, "CREATE", "Moved"), ({"copy_only": True}, "CREATE", "Copied"), ({"overwrite": True}, "OVERWRITE", "Moved")],
)
def test_an_export_has_a_file_as_input_and_an_object_as_output(
    platform, runner, export, deferrable, space, fields, change, verb
):
    task = export(deferrable=deferrable, **fields)
    result = runner.run(task)
    lineage = complete(task)
    [read], [written] = lineage.inputs, lineage.outputs
    assert (read.namespace, read.name) == (space, task.file)
    assert (read.inputFacets["inputStatistics"].size, read.inputFacets["inputStatistics"].fileCount) == (10, 1)
    assert read.facets["documentation"].description.startswith("File a.txt in project ")
    assert (written.namespace, written.name) == (BUCKET, "exports/a/b.txt")
    statistics = written.outputFacets["outputStatistics"]
    assert (statistics.size, statistics.fileCount) == (10, 1)
    assert written.facets["version"].datasetVersion == result["etag"]
    assert written.facets["lifecycleStateChange"].lifecycleStateChange.value == change
    assert written.facets["documentation"].description == f"{verb} from the Seven Bridges file a.txt"
    query = lineage.run_facets["externalQuery"]
    assert (query.externalQueryId, query.source) == (platform.exports[0].id, platform.url)


def test_an_adopted_export_is_reported_too(runner, export, space):
    task = export()
    runner.run(task)
    runner.run(task)
    lineage = complete(task)
    assert (named(lineage.inputs), named(lineage.outputs)) == ([(space, task.file)], [(BUCKET, "exports/a/b.txt")])


def test_a_failed_export_is_reported_with_its_file_and_its_job(platform, runner, export, deferrable, space):
    platform.trouble("job_fails", code=9100)
    task = export(deferrable=deferrable)
    with pytest.raises(AirflowException):
        runner.run(task)
    lineage = failure(task)
    assert named(lineage.inputs) == [(space, task.file)]
    assert lineage.inputs[0].inputFacets == {}
    assert all(not each.outputFacets for each in lineage.outputs)
    assert lineage.run_facets["externalQuery"].externalQueryId == platform.exports[0].id


def test_an_export_in_flight_at_the_timeout_is_reported_with_its_job(platform, runner, export, deferrable):
    platform.knobs.stuck = True
    task = export(deferrable=deferrable, timeout=0.3)
    with pytest.raises(AirflowException):
        runner.run(task)
    assert failure(task).run_facets["externalQuery"].externalQueryId == platform.exports[0].id


def test_a_completed_job_without_its_object_is_not_an_export(platform, runner, export, deferrable, space):
    gone = ("GET", "/v2/storage/volumes/*/object")
    platform.trouble("error", *gone, times=0, status=404, code=9105)
    task = export(deferrable=deferrable)
    with pytest.raises(AirflowException, match="no object is at"):
        runner.run(task)
    lineage = failure(task)
    assert (named(lineage.inputs), lineage.inputs[0].inputFacets) == ([(space, task.file)], {})
    assert all(not each.outputFacets and "lifecycleStateChange" not in each.facets for each in lineage.outputs)
    assert lineage.run_facets["externalQuery"].externalQueryId == platform.exports[0].id
    assert "no object is at" in lineage.run_facets["extractionError"].errors[0].errorMessage


def test_an_intent_that_cannot_be_recorded_is_reported_with_its_file(platform, runner, export, space, monkeypatch):
    task = export()
    monkeypatch.setattr(runner.store, "set", lambda *_: (_ for _ in ()).throw(RuntimeError("no room")))
    with pytest.raises(Exception, match="no room"):
        runner.run(task)
    assert platform.exports == []
    assert named(failure(task).inputs) == [(space, task.file)]


def test_a_second_run_in_one_process_does_not_report_the_first(platform, runner, export):
    task = export()
    runner.run(task)
    task.location = "/wrong"
    with pytest.raises(AirflowFailException):
        task.execute({"ti": runner_ti(task)})
    assert failure(task) is None


def test_a_successful_task_whose_exports_all_failed_has_no_output(platform, runner, space):
    files = [platform.add_file("a.txt", b"x", public=True).id for _ in range(2)]
    task = bulk(files, on_error="report")
    runner.run(task)
    lineage = complete(task)
    assert (named(lineage.inputs), lineage.outputs) == ([(space, file) for file in files], [])
    assert lineage.run_facets["extractionError"].failedTasks == 2


def test_without_waiting_there_is_no_output(platform, runner, export, space):
    task = export(wait_for_completion=False)
    runner.run(task)
    lineage = complete(task)
    assert (named(lineage.inputs), lineage.outputs) == ([(space, task.file)], [])
    assert lineage.run_facets["externalQuery"].externalQueryId == platform.exports[0].id


def test_without_access_to_the_volume_there_is_no_output(platform, runner, export, space):
    platform.trouble("error", *DETAILS, times=0, status=403, code=9020)
    task = export()
    runner.run(task)
    lineage = complete(task)
    assert (named(lineage.inputs), lineage.outputs) == ([(space, task.file)], [])


def test_dry_runs_and_invalid_fields_are_not_reported(platform, runner, export):
    task = export(validate_only=True)
    runner.run(task)
    assert complete(task) is None
    task = export(location="/wrong")
    with pytest.raises(AirflowFailException):
        runner.run(task)
    assert failure(task) is None


def test_an_error_while_reporting_is_only_logged(runner, export, monkeypatch, caplog):
    task = export()
    runner.run(task)
    monkeypatch.setattr("airflow_sb_provider.lineage.openlineage.InputDataset", None)
    assert complete(task) is failure(task) is None
    assert "Could not report the task's lineage to OpenLineage" in caplog.text


def test_a_bulk_export_reports_the_manifest_and_the_first_hundred(platform, runner, deferrable, tmp_path, space):
    files = [platform.add_file(f"{number:03}.txt", b"xy").id for number in range(120)]
    manifest = f"{tmp_path}/manifest.csv"
    task = bulk(files, manifest=manifest, max_active=70, deferrable=deferrable)
    runner.run(task)
    lineage = complete(task)
    assert named(lineage.inputs) == [(space, file) for file in files[:100]]
    *objects, written = lineage.outputs
    assert named(objects) == [(BUCKET, f"exports/many/{file}") for file in files[:100]]
    assert {each.outputFacets["outputStatistics"].size for each in objects} == {2}
    assert (written.namespace, written.name) == ("file", manifest)
    assert lineage.run_facets == {}


def test_a_bulk_export_reports_completed_exports_and_errors_of_the_others(
    platform, runner, deferrable, monkeypatch, space
):
    # Without a lineage reader or a manifest, a process that resumes after a deferral does not read the volume.
    monkeypatch.setattr("airflow_sb_provider.operators.bulk_export.hook_lineage_is_read", lambda: True)
    good = platform.add_file("good.txt", b"x").id
    bad = [platform.add_file(f"{number}.txt", b"x", public=True).id for number in range(12)]
    task = bulk([*bad, good], deferrable=deferrable)
    with pytest.raises(AirflowException):
        runner.run(task)
    lineage = failure(task)
    assert (named(lineage.inputs), named(lineage.outputs)) == ([(space, good)], [(BUCKET, f"exports/many/{good}")])
    errors = lineage.run_facets["extractionError"]
    assert (errors.totalTasks, errors.failedTasks) == (13, 12)
    assert [(each.taskNumber, each.task) for each in errors.errors] == [
        (number, f"{bad[number]} {number}.txt -> demo/results/many/{bad[number]}") for number in range(10)
    ]
    assert all("public" in each.errorMessage for each in errors.errors)


def test_a_bulk_export_whose_submission_fails_reports_its_files(platform, runner, space):
    platform.trouble("error", path="/v2/bulk/storage/exports/create", status=401, code=90001, times=0)
    file = platform.add_file("a.txt", b"x").id
    task = bulk([file])
    with pytest.raises(AirflowException):
        runner.run(task)
    lineage = failure(task)
    assert named(lineage.inputs) == [(space, file)]
    assert not lineage.outputs[0].outputFacets


def test_a_sensor_reports_its_exports(platform, runner, deferrable, space):
    hook = SevenBridgesHook()
    files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(2)]
    ids = [hook.start_export(file, "demo/results", f"s/{file}").id for file in files]
    task = SevenBridgesExportSensor(task_id="wait", export_id=ids, poke_interval=0.1, deferrable=deferrable)
    runner.run(task)
    lineage = complete(task)
    assert named(lineage.inputs) == [(space, file) for file in files]
    assert named(lineage.outputs) == [(BUCKET, f"exports/s/{file}") for file in files]
    assert lineage.outputs[0].facets["documentation"].description == "Exported from the Seven Bridges file 0.txt"

    platform.trouble("job_fails", code=9100)
    bad = hook.start_export(platform.add_file("bad.txt", b"x").id, "demo/results", "s/bad").id
    task = SevenBridgesExportSensor(task_id="wait", export_id=bad, poke_interval=0.1, deferrable=deferrable)
    with pytest.raises(AirflowFailException):
        runner.run(task)
    lineage = failure(task)
    assert (len(lineage.inputs), lineage.outputs) == (1, [])
    assert lineage.run_facets["externalQuery"].externalQueryId == bad
    assert "9100" in lineage.run_facets["extractionError"].errors[0].errorMessage
