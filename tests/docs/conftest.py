from __future__ import annotations

import fsspec
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from tests.integration.dags.conftest import metadata_database, quick, serialize, use

__all__ = ["metadata_database", "quick"]

PROJECT, VOLUME = "rfranklin/my-project", "rfranklin/output"


@pytest.fixture
def my_bucket(s3_endpoint, monkeypatch):
    """Create the bucket to which the documentation writes manifests."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    fsspec.filesystem("s3").mkdir("my-bucket")


@pytest.fixture
def world(quick, monkeypatch):
    """Run a Platform with the project, the volume and the files of the documentation."""
    with Emulator(knobs=Knobs(pending_seconds=0, running_seconds=0)) as platform:
        use(monkeypatch, platform)
        # What the official client reads.
        monkeypatch.setenv("SB_API_ENDPOINT", platform.url)
        monkeypatch.setenv("SB_AUTH_TOKEN", platform.token)
        platform.add_volume(VOLUME, prefix="outfiles")
        platform.add_file("output.vcf", b"##fileformat", PROJECT, file_id="567890abc9b0307bc0414164")
        platform.add_file("report.html", b"<!doctype html>", PROJECT, file_id="567890abc1e5339df0414123")
        platform.add_file("moved.txt", b"moved", PROJECT, alias=(VOLUME, "moved.txt"))
        for sample in ("S1", "S2"):
            metadata = {"sample_id": sample}
            platform.add_file(f"{sample}.bam", b"BAM", PROJECT, "runs/7", metadata=metadata)
            platform.add_file(f"{sample}.bam.bai", b"BAI", PROJECT, "runs/7", metadata=metadata)
        yield platform


@pytest.fixture
def run_dag(metadata_database):
    def run(dag):
        serialize(dag)
        # As a run that a person starts without a date; such a run has no `ds`.
        assert str(dag.test(logical_date=None).state) == "success"

    return run
