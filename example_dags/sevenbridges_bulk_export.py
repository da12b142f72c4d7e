"""Export the files of a project in one task, and report the result in the next task."""

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
    "**Off: moves.** Every selected file becomes an alias of its new object. **This cannot be undone**, and a "
    "moved file cannot be exported again. Start with *Dry run*."
)
PATTERN = (
    "The key of each object, relative to the volume's prefix. Placeholders: `{path}` (the folders), `{name}`, `{stem}` "
    "and `{suffix}` (for `a.vcf.gz`: `a` and `.vcf.gz`), `{id}`, `{project}`, `{project_owner}`, "
    "`{metadata[sample_id]}`. Two files with the same key are not exported."
)
# The form can only name an address below this folder: the worker may have access to more places than the user.
MANIFESTS = os.environ.get("SEVENBRIDGES_MANIFESTS", "s3://my-bucket/manifests/")
MANIFEST = (
    f"Where to write a record of every file, even if some fail: an address below `{MANIFESTS}`, such as "
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
            description="As owner/short-name; both are in the URL of the project's page.",
        ),
        "name": Param(
            "*.{vcf,bam,bai,html}",
            type=["null", "string"],
            title="Names",
            description="Only files with matching names: * any text, ? any character, {vcf,bam} either. Empty for all.",
        ),
        "recursive": Param(True, type="boolean", title="Recursive", description="Also the files in all folders below."),
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
            description="Checks everything, logs what would be exported, and changes nothing.",
        ),
        "manifest": Param(None, type=["null", "string"], title="Manifest", description_md=MANIFEST),
        "max_files": Param(
            10_000,
            type="integer",
            minimum=1,
            title="Maximum number of files",
            description="The task fails before any export if it finds more files.",
        ),
    },
)
def sevenbridges_bulk_export() -> None:
    """Export the selected files without holding a worker slot, and report."""
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
        # Exports all other files, then fails and names the failed ones.
        on_error="fail_at_end",
        deferrable=True,
    )

    @task(trigger_rule="all_done")
    def report() -> str:
        ti = get_current_context()["ti"]
        # A failed task pushes the summary too. A dry run only returns its result.
        summary: dict[str, Any] | None = ti.xcom_pull(task_ids="export", key="summary")
        result = summary or ti.xcom_pull(task_ids="export")
        if result is None:
            return "Nothing was exported: see the log of the task export."
        if result.get("validate_only"):
            return f"{result['total']} files, {result['bytes']} bytes would be exported."
        counts = ", ".join(f"{count} {state.lower()}" for state, count in result["counts"].items())
        errors = [f"{error['name']}: {error['message']}" for error in result["errors"]]
        return "\n".join([f"{result['total']} files: {counts}; {result['bytes']} bytes.", *errors])

    # Airflow sets the state of a run from its last tasks. Without this one, a failed export would be a successful run.
    outcome = EmptyOperator(task_id="outcome")
    export >> [report(), outcome]


sevenbridges_bulk_export()
