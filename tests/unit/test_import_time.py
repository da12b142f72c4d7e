"""DAG files are read every few seconds: the operators bring no HTTP library with them."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "requests", "urllib3", "yarl", "fastapi", "fsspec")


def test_an_operator_is_imported_without_what_only_its_run_needs():
    code = """if True:
        import sys
        try:
            import airflow.sdk, airflow.triggers.base, airflow.providers.standard.triggers.temporal
            from airflow.sdk import ObjectStoragePath
        except ImportError:
            import airflow.io.path, airflow.models.baseoperator, airflow.models.connection, airflow.models.xcom
            import airflow.sensors.base, airflow.triggers.temporal
        before = set(sys.modules)
        import airflow_sb_provider.operators.export, airflow_sb_provider.sensors.export
        print(" ".join(sorted(set(sys.modules) - before)))
    """
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    new = {name.split(".")[0] for name in found.stdout.splitlines()[-1].split()}
    assert "airflow_sb_provider" in new
    assert new.isdisjoint(HEAVY)
