"""Export each of some files in a mapped task of its own, with its own retries, log and result."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

try:
    from airflow.sdk import Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context


@dag(
    dag_id="sevenbridges_mapped_exports",
    description="Export some files of a project, each in a task of its own",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "project": Param("demo/genomics", type="string", pattern="^[^/]+/[^/]+$", title="Project"),
        "ending": Param(".vcf", type="string", title="Ending", description="Of the files' names."),
        "volume": Param("demo/results", type="string", pattern="^.+/[^/]+$", title="Volume"),
        "folder": Param("mapped", type="string", pattern="^[^/{}]([^{}]*[^/{}])?$", title="Folder on the volume"),
    },
)
def sevenbridges_mapped_exports() -> None:
    """Copy each file that has the ending, and add up what was copied."""

    @task
    def choose() -> list[str]:
        params = get_current_context()["params"]
        files = SevenBridgesHook().list_files(project=params["project"])
        # Only ids leave this task. Other people choose the names, and Airflow may render mapped text as a template.
        return [file.id for file in files if not file.is_folder and (file.name or "").endswith(params["ending"])]

    exports = SevenBridgesBulkExportOperator.partial(
        task_id="export",
        volume="{{ params.volume }}",
        # The task itself fills in the file's name, after Airflow has rendered the field.
        location_pattern="{{ params.folder }}/{name}",
        copy_only=True,
        deferrable=True,
        retries=2,
        map_index_template="{{ task.file_ids }}",
    ).expand(file_ids=choose())

    @task
    def add_up(results: list[dict[str, Any]]) -> int:
        return sum(result["bytes"] for result in results)

    add_up(exports.output)


sevenbridges_mapped_exports()
