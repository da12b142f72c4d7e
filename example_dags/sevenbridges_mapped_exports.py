"""Export several files, each in a mapped task with its own retries, log and result."""

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
    description="Export files of a project, each in its own task",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "project": Param("demo/genomics", type="string", pattern="^[^/]+/[^/]+$", title="Project"),
        "suffix": Param(".vcf", type="string", title="Suffix", description="Of the files' names, such as .vcf."),
        "volume": Param("demo/results", type="string", pattern="^.+/[^/]+$", title="Volume"),
        "folder": Param("mapped", type="string", pattern="^[^/{}]([^{}]*[^/{}])?$", title="Folder on the volume"),
    },
)
def sevenbridges_mapped_exports() -> None:
    """Copy each file with the suffix, and add up the bytes."""

    @task
    def choose() -> list[str]:
        params = get_current_context()["params"]
        files = SevenBridgesHook().list_files(project=params["project"])
        # Return only ids: other people choose the names, and Airflow may render mapped text as a template.
        return [file.id for file in files if not file.is_folder and (file.name or "").endswith(params["suffix"])]

    exports = SevenBridgesBulkExportOperator.partial(
        task_id="export",
        volume="{{ params.volume }}",
        # The operator inserts the file's name after Airflow has rendered the field.
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
