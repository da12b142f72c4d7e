"""Move or copy one file, as a parameter says, and encrypt the object with a KMS key."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Param, dag

from airflow_sb_provider.operators.export import SevenBridgesExportOperator


@dag(
    start_date=datetime(2026, 1, 1),
    schedule=None,
    params={
        "file": Param("", type="string"),
        "location": Param("", type="string"),
        "copy_only": Param(True, type="boolean"),
        "kms_key": Param("", type="string"),
    },
)
def parameters():
    SevenBridgesExportOperator(
        task_id="export",
        file="{{ params.file }}",
        volume="demo/results",
        location="{{ params.location }}",
        copy_only="{{ params.copy_only }}",
        properties={"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "{{ params.kms_key }}"},
        deferrable=True,
        retries=2,
    )


parameters()
