"""Sensors after mapped submissions: each waits for its own export, or one waits for all."""

from __future__ import annotations

from datetime import datetime

import pytest
from airflow.sdk import DAG, task_group

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.dags.conftest import example, xcom

COPY = {"volume": "demo/results", "copy_only": True, "wait_for_completion": False}
PULL = "ti.xcom_pull('start', key='export_id')"


def start_each(files):
    return SevenBridgesExportOperator.partial(task_id="start", **COPY).expand_kwargs(
        [{"file": file, "location": f"waits/{file}"} for file in files]
    )


def wait(**fields):
    return SevenBridgesExportSensor(task_id="wait", poke_interval=0.1, timeout=300, **fields)


def waits_for_all_by_a_template(files):
    start_each(files) >> wait(export_id="{{ " + PULL + " }}")


def waits_for_all_by_a_list_in_a_template(files):
    start_each(files) >> wait(export_id="{{ " + PULL + " | list }}")


def waits_for_all_by_an_output(files):
    wait(export_id=start_each(files).output["export_id"])


def waits_for_all_by_results(files):
    wait(export_id=start_each(files).output.map(lambda started: started["export_id"]))


ONE_FOR_ALL = (
    waits_for_all_by_a_template,
    waits_for_all_by_a_list_in_a_template,
    waits_for_all_by_an_output,
    waits_for_all_by_results,
)


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "waiting"])
@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("build", ONE_FOR_ALL, ids=lambda build: build.__name__)
def test_one_sensor_waits_for_all_mapped_exports(run, platform, build, native, deferrable):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    with DAG("waits", start_date=datetime(2026, 1, 1), schedule=None, render_template_as_native_obj=native) as dag:
        build(files)
    dag.get_task("wait").deferrable = deferrable
    dag_run = run(dag)
    assert str(dag_run.state) == "success"
    assert [result["file"] for result in xcom(dag_run, "wait")] == files
    assert [result["state"] for result in xcom(dag_run, "wait")] == ["COMPLETED"] * 3


def each_by_a_template(files):
    @task_group
    def each(file):
        start = SevenBridgesExportOperator(task_id="start", file=file, location="waits/{{ task.file }}", **COPY)
        pull = "ti.xcom_pull('each.start', key='export_id', map_indexes=ti.map_index)"
        start >> wait(export_id="{{ " + pull + " }}", deferrable=True)

    each.expand(file=files)


def each_by_an_output(files):
    @task_group
    def each(file):
        start = SevenBridgesExportOperator(task_id="start", file=file, location="waits/{{ task.file }}", **COPY)
        wait(export_id=start.output["export_id"], deferrable=True)

    each.expand(file=files)


def each_by_results(files):
    started = start_each(files).output
    SevenBridgesExportSensor.partial(task_id="wait", poke_interval=0.1, timeout=300, deferrable=True).expand(
        export_id=started.map(lambda result: result["export_id"])
    )


@pytest.mark.parametrize("build", [each_by_a_template, each_by_an_output, each_by_results], ids=lambda b: b.__name__)
def test_each_mapped_sensor_waits_for_its_own_export(run, platform, build):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    with DAG("waits", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        build(files)
    assert_each_waited_for_its_own(run(dag), "each.wait" if build is not each_by_results else "wait", files)


def test_each_mapped_sensor_of_the_example_waits_for_its_own_export(run, platform):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    dag_run = run(example("sevenbridges_mapped_two_steps"), run_conf={"suffix": ".txt"})
    assert_each_waited_for_its_own(dag_run, "each.wait", files)


def assert_each_waited_for_its_own(dag_run, task_id, files):
    assert str(dag_run.state) == "success"
    waited = [ti for ti in dag_run.get_task_instances() if ti.task_id == task_id]
    results = [ti.xcom_pull(task_ids=task_id, map_indexes=ti.map_index) for ti in waited]
    assert {ti.map_index: result["file"] for ti, result in zip(waited, results, strict=True)} == dict(enumerate(files))


def test_a_bulk_export_uses_the_xcoms_of_mapped_tasks(run, platform):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(3)]
    with DAG("takes", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        copied = SevenBridgesExportOperator.partial(
            task_id="copy", volume="demo/archive", copy_only=True
        ).expand_kwargs([{"file": file, "location": f"first/{file}"} for file in files])
        SevenBridgesBulkExportOperator(
            task_id="export",
            file_ids=copied.output.map(lambda result: result["file"]),
            volume="demo/results",
            copy_only=True,
        )
    assert str(run(dag).state) == "success"
    assert [job.file for job in platform.exports if job.volume == "demo/results"] == files
