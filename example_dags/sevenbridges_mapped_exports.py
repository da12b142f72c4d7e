"""Export each of some files in a mapped task of its own, with its own retries, log and result."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesExportOperator

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
        "folder": Param("mapped", type="string", pattern="^[^/](.*[^/])?$", title="Folder on the volume"),
    },
)
def sevenbridges_mapped_exports() -> None:
    """Copy each file that has the ending, and add up what was copied."""

    @task
    def choose() -> list[dict[str, str]]:
        params = get_current_context()["params"]
        files = SevenBridgesHook().list_files(project=params["project"])
        chosen = [file for file in files if not file.is_folder and (file.name or "").endswith(params["ending"])]
        return [{"file": file.id, "location": f"{params['folder']}/{file.name}"} for file in chosen]

    exports = SevenBridgesExportOperator.partial(
        task_id="export",
        volume="{{ params.volume }}",
        copy_only=True,
        deferrable=True,
        retries=2,
        map_index_template="{{ task.location }}",
    ).expand_kwargs(choose())

    @task
    def add_up(results: list[dict[str, Any]]) -> int:
        return sum(result["size"] or 0 for result in results)

    add_up(exports.output)


sevenbridges_mapped_exports()
