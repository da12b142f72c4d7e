"""DAG files are read every few seconds: the operators bring no HTTP library with them."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "requests", "urllib3", "yarl", "fastapi", "fsspec", "openlineage")


def test_importing_an_operator_imports_no_http_library():
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


def test_without_openlineage_a_task_reports_no_lineage_and_imports_nothing_of_it():
    code = (
        "import sys\n"
        "imports = []\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith(('openlineage', 'airflow.providers.openlineage.extractors')):\n"
        "            imports.append(name); raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import airflow_sb_provider.operators.export as operators, airflow_sb_provider.sensors.export as sensors\n"
        "from airflow_sb_provider.exports.outcome import Report\n"
        "one = operators.SevenBridgesExportOperator(task_id='a', file='f', volume='v', location='l')\n"
        "many = operators.SevenBridgesBulkExportOperator(task_id='b', project='p/q', volume='v')\n"
        "wait = sensors.SevenBridgesExportSensor(task_id='c', export_id='x')\n"
        "facets = lambda t: [t.get_openlineage_facets_on_complete(0), t.get_openlineage_facets_on_failure(0)]\n"
        "print([facets(task) for task in (one, many, wait)], imports)\n"
        "one._reported = lambda: Report([])\n"
        "print(facets(one), bool(imports), [name for name in sys.modules if name.startswith('openlineage')])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    before, after = [line for line in found.stdout.splitlines() if line.startswith("[[") or line.startswith("[None")]
    assert before == f"{[[None, None]] * 3} []"
    assert after == "[None, None] True []"
