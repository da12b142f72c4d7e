"""An export to an S3 endpoint, which the next task reads with boto3."""

from __future__ import annotations

import hashlib
from datetime import datetime

from airflow_sb_provider.emulator import Emulator, Knobs
from tests.integration.dags.conftest import serialize, use, xcom

DATA = bytes(range(256)) * 4096


def test_an_object_in_s3_is_the_file(metadata_database, quick, s3_endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    from airflow.sdk import DAG, task

    from airflow_sb_provider.operators.export import SevenBridgesExportOperator

    knobs = Knobs(pending_seconds=0.05, running_seconds=0.05)
    with Emulator(storage="s3://platform", storage_endpoint=s3_endpoint, knobs=knobs) as platform:
        use(monkeypatch, platform)
        file = platform.add_file("big.bin", DATA)
        with DAG("into_s3", start_date=datetime(2026, 1, 1), schedule=None) as dag:
            export = SevenBridgesExportOperator(
                task_id="export", file=file.id, volume="demo/results", location="s3/big.bin", deferrable=True
            )

            @task
            def read(exported):
                import boto3

                bucket, _, key = exported["uri"].removeprefix("s3://").partition("/")
                found = boto3.client("s3").get_object(Bucket=bucket, Key=key)
                body = found["Body"].read()
                return {"sha": hashlib.sha256(body).hexdigest(), "size": len(body), "etag": found["ETag"].strip('"')}

            read(export.output)
        serialize(dag)
        dag_run = dag.test()
        assert str(dag_run.state) == "success"
        exported, seen = xcom(dag_run, "export"), xcom(dag_run, "read")
        assert (exported["size"], exported["etag"]) == (seen["size"], seen["etag"])
        assert seen["sha"] == hashlib.sha256(DATA).hexdigest()
