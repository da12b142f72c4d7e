"""A mapped task for each file of a project with hostile names; the keys must be these names."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator

try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task

COPY = {"volume": "demo/results", "copy_only": True, "poll_interval": 1}

with DAG("matrix_mapped_names", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    def choose(folder):
        files = SevenBridgesHook().list_files(project="demo/hostile")
        return [{"file": file.id, "location": f"{folder}/{file.name}"} for file in files]

    SevenBridgesExportOperator.partial(task_id="kwargs", **COPY).expand_kwargs(choose("kwargs"))
    SevenBridgesExportOperator.partial(task_id="map", **COPY).expand_kwargs(
        choose.override(task_id="choose_map")("map").map(lambda export: {**export, "overwrite": "false"})
    )
    SevenBridgesBulkExportOperator.partial(task_id="lists", poll_interval=1).expand_kwargs(
        choose.override(task_id="choose_lists")("lists").map(
            lambda export: {"exports": [{**export, "volume": "demo/results", "copy_only": True}]}
        )
    )
    SevenBridgesBulkExportOperator.partial(task_id="ids", location_pattern="ids/{name}", **COPY).expand(
        file_ids=choose.override(task_id="choose_ids")("ids").map(lambda export: export["file"])
    )
    # A template of the author is rendered.
    SevenBridgesExportOperator.partial(
        task_id="written", location="{{ dag.dag_id }}/{{ task.file }}", **COPY
    ).expand_kwargs(choose.override(task_id="choose_written")("x").map(lambda export: {"file": export["file"]}))
