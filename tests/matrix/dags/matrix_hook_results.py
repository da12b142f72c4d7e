"""Tasks return the hook's results, and the next tasks use them."""

from __future__ import annotations

from datetime import datetime

from airflow_sb_provider.emulator.seed import VCF
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook

try:
    from airflow.sdk import DAG, task
except ImportError:
    from airflow import DAG
    from airflow.decorators import task

CALLS = {
    "file": lambda hook: hook.get_file(VCF),
    "files": lambda hook: hook.get_files([VCF, "0" * 24]),
    "listed": lambda hook: hook.list_files(project="demo/genomics"),
    "volume": lambda hook: hook.get_volume("demo/results"),
    "volumes": lambda hook: hook.list_volumes(),
    "object": lambda hook: hook.find_volume_object("demo/results", "nothing.txt"),
    "job": lambda hook: hook.start_export(VCF, "demo/results", "hook-results.vcf", copy_only=True),
    "jobs": lambda hook: hook.get_exports(["0" * 32]),
    "user": lambda hook: hook.get_user(),
    "rate": lambda hook: hook.get_rate_limit(),
    "by_name": lambda hook: {"file": hook.get_file(VCF), "user": hook.get_user()},
}

with DAG("matrix_hook_results", start_date=datetime(2026, 1, 1), schedule=None):

    @task
    def use(results):
        found, missing = results["files"]
        assert (found.name, missing.status) == ("NA12878.vcf", 404)
        assert type(missing).__name__ == "SevenBridgesNotFoundError"
        assert (results["file"].id, results["file"].metadata["sample_id"]) == (VCF, "NA12878")
        assert "NA12878.vcf" in [file.name for file in results["listed"]]
        assert (results["volume"].bucket, len(results["volumes"])) == ("demo-results", 3)
        assert results["object"] is None
        assert results["job"].file == VCF
        assert results["job"].started_on is not None
        assert not hasattr(results["jobs"][0], "state")
        assert results["by_name"] == {"file": results["file"], "user": results["user"]}
        assert results["rate"].limit

    def returning(name):
        @task(task_id=f"give_{name}")
        def give():
            return CALLS[name](SevenBridgesHook())

        return give()

    use({name: returning(name) for name in CALLS})
