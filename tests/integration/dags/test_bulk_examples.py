"""The example DAGs that export a project in one task and in mapped tasks, with `dag.test()`."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.integration.dags.conftest import example, xcom
from tests.integration.project_of_200 import PARAMS, check, fill

BULK, MAPPED = "sevenbridges_bulk_export", "sevenbridges_mapped_exports"


def states(dag_run):
    return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


def test_a_project_with_three_files_that_fail(run, platform, tmp_path, capfd, monkeypatch):
    good, bad = fill(platform)
    manifest = tmp_path / "made" / "manifest.jsonl"
    monkeypatch.setenv("SEVENBRIDGES_MANIFESTS", f"{tmp_path}/")
    dag_run = run(example(BULK), run_conf={**PARAMS, "manifest": str(manifest)})
    assert str(dag_run.state) == "failed"
    assert states(dag_run) == {"export": "failed", "report": "success", "outcome": "upstream_failed"}
    check(
        platform,
        good,
        bad,
        summary=xcom(dag_run, "export", "summary"),
        report=xcom(dag_run, "report"),
        failure=capfd.readouterr().out,
        manifest=manifest.read_text(),
    )


def test_the_form_cannot_write_elsewhere(run, platform, tmp_path):
    fill(platform)
    dag_run = run(example(BULK), run_conf={**PARAMS, "manifest": str(tmp_path / "manifest.jsonl")})
    assert states(dag_run)["export"] == "failed"
    assert list(tmp_path.iterdir()) == []
    assert platform.exports == []


def test_without_the_failing_files_it_succeeds(run, platform):
    fill(platform)
    dag_run = run(example(BULK), run_conf={**PARAMS, "name": "00[0-9].vcf.gz"})
    assert states(dag_run) == {"export": "success", "report": "success", "outcome": "success"}
    assert xcom(dag_run, "report") == "10 files: 10 completed; 100 bytes."


def test_a_dry_run_reports_and_changes_nothing(run, platform):
    fill(platform)
    dag_run = run(example(BULK), run_conf={**PARAMS, "validate_only": True})
    assert str(dag_run.state) == "success"
    assert xcom(dag_run, "report") == "200 files, 1973 bytes would be exported."
    assert platform.exports == []


def test_an_export_that_cannot_start_is_reported_too(run, platform):
    dag_run = run(example(BULK), run_conf={"max_files": 1})
    assert states(dag_run) == {"export": "failed", "report": "success", "outcome": "upstream_failed"}
    assert xcom(dag_run, "report").startswith("Nothing was exported")


def fail_first_resumption(monkeypatch, operator, method):
    """Each first try fails right after the deferral."""
    resume = getattr(operator, method)

    def fail_at_first(self, context, event):
        if context["ti"].try_number == 1:
            raise AirflowException("the worker is lost")
        return resume(self, context, event)

    monkeypatch.setattr(operator, method, fail_at_first)


def instances_of_second_try(dag_run):
    instances = [ti for ti in dag_run.get_task_instances() if ti.task_id == "export"]
    assert sorted(ti.map_index for ti in instances) == [0, 1, 2, 3, 4]
    assert [ti.try_number for ti in instances] == [2] * 5
    return instances


def pulled(ti, key):
    return ti.xcom_pull(task_ids="export", key=key, map_indexes=ti.map_index)


def test_mapped_tasks_of_the_example_write_different_objects(run, platform, monkeypatch):
    """Each has its own export, summary and name; a retry adopts its own export."""
    files = {platform.add_file(f"{number}.txt", b"x" * (number + 1)).id: number for number in range(5)}
    fail_first_resumption(monkeypatch, SevenBridgesBulkExportOperator, "resume")
    dag = example(MAPPED)
    dag.get_task("export").partial_kwargs["retry_delay"] = 0.1
    dag_run = run(dag, run_conf={"suffix": ".txt"})
    assert str(dag_run.state) == "success"
    assert {job.file: job.location for job in platform.exports} == {
        file: f"mapped/{number}.txt" for file, number in files.items()
    }
    assert len(platform.exports) == 5
    for ti in instances_of_second_try(dag_run):
        summary = pulled(ti, "return_value")
        assert summary["bytes"] == files[ti.rendered_map_index] + 1
        assert (summary["state"], summary["total"], summary["adopted"]) == ("COMPLETED", 1, 1)
    assert xcom(dag_run, "add_up") == 15


def test_mapped_tasks_of_one_file_write_different_objects(run, platform, monkeypatch):
    """Each has its own export, result and name; a retry adopts its own export."""
    files = {platform.add_file(f"{number}.txt", b"x" * (number + 1)).id: number for number in range(5)}
    fail_first_resumption(monkeypatch, SevenBridgesExportOperator, "resume")
    with DAG("mapped", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        SevenBridgesExportOperator.partial(
            task_id="export",
            volume="demo/results",
            copy_only=True,
            deferrable=True,
            retries=1,
            retry_delay=0.1,
            map_index_template="{{ task.location }}",
        ).expand_kwargs([{"file": file, "location": f"mapped/{number}.txt"} for file, number in files.items()])
    dag_run = run(dag)
    assert str(dag_run.state) == "success"

    jobs = {job.file: job for job in platform.exports}
    assert len(platform.exports) == len(jobs) == 5
    for ti in instances_of_second_try(dag_run):
        result, export_id = pulled(ti, "return_value"), pulled(ti, "export_id")
        job = jobs[result["file"]]
        assert result["export_id"] == export_id == job.id
        assert (result["adopted"], result["size"]) == (True, files[job.file] + 1)
        assert result["location"] == job.location == ti.rendered_map_index
