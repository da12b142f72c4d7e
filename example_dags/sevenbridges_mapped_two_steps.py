"""Submit an export for each of several files, and wait for each with its own sensor."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

try:
    from airflow.sdk import Param, dag, get_current_context, task, task_group
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task, task_group
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context


@dag(
    dag_id="sevenbridges_mapped_two_steps",
    description="Submit an export for each file, then wait for each",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "project": Param("demo/genomics", type="string", pattern="^[^/]+/[^/]+$", title="Project"),
        "suffix": Param(".vcf", type="string", title="Suffix", description="Of the files' names, such as .vcf."),
        "volume": Param("demo/results", type="string", pattern="^.+/[^/]+$", title="Volume"),
        "folder": Param(
            "two-steps-each",
            type="string",
            pattern="^[^/](.*[^/])?$",
            title="Folder on the volume",
            description="Each object is named after the id of its file.",
        ),
    },
)
def sevenbridges_mapped_two_steps() -> None:
    """Copy each file with the suffix in a group of two tasks."""

    @task
    def choose() -> list[str]:
        params = get_current_context()["params"]
        files = SevenBridgesHook().list_files(project=params["project"])
        # Return only ids: other people choose the names, and Airflow may render mapped text as a template.
        return [file.id for file in files if not file.is_folder and (file.name or "").endswith(params["suffix"])]

    @task
    def location_of(file: str) -> str:
        return f"{get_current_context()['params']['folder']}/{file}"

    @task_group
    def each(file: str) -> None:
        start = SevenBridgesExportOperator(
            task_id="start",
            file=file,
            volume="{{ params.volume }}",
            location=location_of(file),
            copy_only=True,
            wait_for_completion=False,
        )
        wait = SevenBridgesExportSensor(
            task_id="wait",
            # Without map_indexes, each sensor gets the ids of the whole group.
            export_id="{{ ti.xcom_pull(task_ids='each.start', key='export_id', map_indexes=ti.map_index) }}",
            deferrable=True,
            poke_interval=30,
            timeout=24 * 3600,
        )
        start >> wait

    each.expand(file=choose())


sevenbridges_mapped_two_steps()
