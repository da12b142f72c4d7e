"""Export one file to a volume from a trigger form, and open the exported object in the next task."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_sb_provider.operators.export import SevenBridgesExportOperator

try:
    from airflow.sdk import Param, dag, get_current_context, task
except ImportError:  # Airflow 2
    from airflow.decorators import dag, task
    from airflow.models.param import Param
    from airflow.operators.python import get_current_context

COPY_OR_MOVE = (
    "**On: a copy.** The Platform keeps the file, and you pay for both. "
    "**Off: a move.** The file's bytes go to the bucket, and the project file becomes an alias of the object there. "
    "This cannot be undone, and the file cannot be exported again."
)
OVERWRITE = (
    "Deletes an object that is already at the location. **As a move, this can destroy the only copy of another file.** "
    "Leave it off unless you know what is there."
)


@dag(
    dag_id="sevenbridges_export",
    description="Export one file of a project to a volume",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    tags=["sevenbridges"],
    params={
        "file": Param(
            "5f0000000000000000000001",
            type="string",
            pattern="^[0-9a-fA-F]{24}$",
            title="File id",
            description="24 hexadecimal digits, from the end of the file's URL on the Platform.",
        ),
        "volume": Param(
            "demo/results",
            type="string",
            pattern="^.+/[^/]+$",
            title="Volume",
            description="Destination volume as owner/name. It must be active and have access mode RW.",
        ),
        "location": Param(
            "first-export/sample.vcf",
            type="string",
            pattern="^[^/](.*[^/])?$",
            title="Location",
            description="The object's key, relative to the volume's prefix.",
        ),
        "copy_only": Param(True, type="boolean", title="Copy only", description_md=COPY_OR_MOVE),
        "overwrite": Param(False, type="boolean", title="Overwrite", description_md=OVERWRITE),
        "sse_algorithm": Param(
            "volume's default",
            type="string",
            enum=["volume's default", "AES256", "aws:kms", "none"],
            title="Encryption",
            description="On S3 only: AES256 (S3's own keys), aws:kms (a key of AWS KMS), or none.",
        ),
        "sse_aws_kms_key_id": Param(
            None,
            type=["null", "string"],
            title="KMS key",
            description="Id or ARN of the key. Only with the encryption aws:kms.",
        ),
    },
)
def sevenbridges_export() -> None:
    """Export a file without holding a worker slot, and read the object."""

    @task
    def properties() -> dict[str, str | None]:
        params = get_current_context()["params"]
        chosen: dict[str, str | None] = {}
        if params["sse_algorithm"] != "volume's default":
            chosen["sse_algorithm"] = None if params["sse_algorithm"] == "none" else params["sse_algorithm"]
        if params["sse_aws_kms_key_id"]:
            chosen["sse_aws_kms_key_id"] = params["sse_aws_kms_key_id"]
        return chosen

    export = SevenBridgesExportOperator(
        task_id="export",
        file="{{ params.file }}",
        volume="{{ params.volume }}",
        location="{{ params.location }}",
        copy_only="{{ params.copy_only }}",
        overwrite="{{ params.overwrite }}",
        properties=properties(),
        deferrable=True,
    )

    @task
    def read_object(exported: dict[str, Any]) -> str:
        # fsspec needs the package s3fs for s3:// or gcsfs for gs://; they find credentials in the usual places.
        import fsspec

        with fsspec.open(exported["uri"], "rb") as stream:
            beginning: bytes = stream.read(80)
        return beginning.decode("utf-8", "replace")

    read_object(export.output)


sevenbridges_export()
