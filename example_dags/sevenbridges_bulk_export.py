"""Export the files of a whole project in one task, and tell in the next one what came of it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param
    from airflow.operators.empty import EmptyOperator
    from airflow.operators.python import get_current_context

COPY_OR_MOVE = (
    "**On: copies.** The Platform keeps the files, and you pay for both. "
    "**Off: moves.** Every project file that is found becomes an alias of its new object; **this cannot be undone**, "
    "and a file that was moved cannot be exported again. Try it with *Dry run* first."
)
PATTERN = (
    "The key of each object, after the volume's prefix. `{path}` the folders, `{name}`, `{stem}`, `{suffix}` (of "
    "`a.vcf.gz`: `a` and `.vcf.gz`), `{id}`, `{project}`, `{project_owner}`, `{metadata[sample_id]}`. "
    "Two files that would become the same object are refused."
)
# Who fills in the form chooses a place below this folder, and no other: the worker may write to more than they may.
MANIFESTS = os.environ.get("SEVENBRIDGES_MANIFESTS", "s3://my-bucket/manifests/")
MANIFEST = (
    f"Where a record of every file is written, also when some fail: an address below `{MANIFESTS}`, such as "
    f"`{MANIFESTS}run.jsonl`, ending in `.jsonl` or `.csv`. Empty for none."
)


@dag(
    dag_id="sevenbridges_bulk_export",
    description="Export the files of a project to a volume, in one task",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "project": Param(
            "demo/genomics",
            type="string",
            pattern="^[^/]+/[^/]+$",
            title="Project",
            description="As owner/short-name; both are in the address of the project's page.",
        ),
        "name": Param(
            "*.{vcf,bam,bai,html}",
            type=["null", "string"],
            title="Names",
            description="Only files with such names: * is any text, ? any character, {vcf,bam} either. Empty for all.",
        ),
        "recursive": Param(True, type="boolean", title="With all folders", description="Also the files in folders."),
        "volume": Param(
            "demo/results",
            type="string",
            pattern="^.+/[^/]+$",
            title="Volume",
            description="Destination volume as owner/name. It must be active and have access mode RW.",
        ),
        "location_pattern": Param(
            "bulk/{path}/{name}", type="string", minLength=1, title="Location pattern", description_md=PATTERN
        ),
        "copy_only": Param(True, type="boolean", title="Copy only", description_md=COPY_OR_MOVE),
        "validate_only": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Checks everything, writes into the task's log what would be exported, and changes nothing.",
        ),
        "manifest": Param(None, type=["null", "string"], title="Manifest", description_md=MANIFEST),
        "max_files": Param(
            10_000,
            type="integer",
            minimum=1,
            title="At most",
            description="Refuses to start if more files are found than you expect.",
        ),
    },
)
def sevenbridges_bulk_export() -> None:
    """Export what the form selects, waiting without a worker slot, and report."""
    export = SevenBridgesBulkExportOperator(
        task_id="export",
        project="{{ params.project }}",
        name="{{ params.name }}",
        recursive="{{ params.recursive }}",
        volume="{{ params.volume }}",
        location_pattern="{{ params.location_pattern }}",
        copy_only="{{ params.copy_only }}",
        validate_only="{{ params.validate_only }}",
        manifest="{{ params.manifest }}",
        manifest_prefix=MANIFESTS,
        max_files="{{ params.max_files }}",
        # All others are exported; then the task fails and names the bad ones.
        on_error="fail_at_end",
        deferrable=True,
    )

    @task(trigger_rule="all_done")
    def report() -> str:
        ti = get_current_context()["ti"]
        # Pushed also by a task that fails; a dry run only returns what it found.
        summary: dict[str, Any] | None = ti.xcom_pull(task_ids="export", key="summary")
        found = summary or ti.xcom_pull(task_ids="export")
        if found is None:
            return "Nothing was exported: see the log of the task export."
        if found.get("validate_only"):
            return f"{found['total']} files, {found['bytes']} bytes would be exported."
        counts = ", ".join(f"{count} {state.lower()}" for state, count in found["counts"].items())
        errors = [f"{error['name']}: {error['message']}" for error in found["errors"]]
        return "\n".join([f"{found['total']} files: {counts}; {found['bytes']} bytes.", *errors])

    # A run is what its last tasks are: without this one it would be a success, since the report is.
    outcome = EmptyOperator(task_id="outcome")
    export >> [report(), outcome]


sevenbridges_bulk_export()
