"""Sensors after mapped submissions: one for all, and one for each."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

try:
    from airflow.sdk import DAG, task, task_group
except ImportError:
    from airflow import DAG
    from airflow.decorators import task, task_group

COPY = {"volume": "demo/results", "copy_only": True, "wait_for_completion": False}


def wait(task_id, export_id):
    return SevenBridgesExportSensor(task_id=task_id, export_id=export_id, poke_interval=1, deferrable=True)


with DAG("matrix_mapped_waits", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    def choose():
        return [file.id for file in SevenBridgesHook().list_files(project="demo/waits")]

    @task
    def check_all(ids, results):
        assert [result["file"] for result in results] == ids

    @task
    def check_own(file, result):
        assert result["file"] == file

    ids = choose()
    start = SevenBridgesExportOperator.partial(task_id="start", location="waits/{{ task.file }}", **COPY).expand(
        file=ids
    )
    by_a_template = wait("all_by_a_template", "{{ ti.xcom_pull('start', key='export_id') }}")
    start >> by_a_template
    for waiting in (
        by_a_template,
        wait("all_by_an_output", start.output["export_id"]),
        wait("all_by_results", start.output.map(lambda started: started["export_id"])),
        SevenBridgesExportSensor.partial(task_id="each_by_results", poke_interval=1, deferrable=True).expand(
            export_id=start.output.map(lambda started: started["export_id"])
        ),
    ):
        check_all.override(task_id=f"check_{waiting.task_id}")(ids, waiting.output)
    again = SevenBridgesBulkExportOperator(
        task_id="bulk",
        file_ids="{{ ti.xcom_pull('start') | map(attribute='file') | list }}",
        volume="demo/archive",
        copy_only=True,
        poll_interval=1,
    )
    start >> again

    @task
    def location_of(file):
        return f"group/{file}"

    @task_group
    def each(file):
        start = SevenBridgesExportOperator(task_id="start", file=file, location=location_of(file), **COPY)
        own = "{{ ti.xcom_pull('each.start', key='export_id', map_indexes=ti.map_index) }}"
        by_a_template = wait("by_a_template", own)
        start >> by_a_template
        for waiting in (by_a_template, wait("by_an_output", start.output["export_id"])):
            check_own.override(task_id=f"check_{waiting.label}")(file, waiting.output)

    each.expand(file=ids)
