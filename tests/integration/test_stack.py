"""The example DAG on a real Airflow: api-server, scheduler, dag-processor and triggerer, each a process of its own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import VCF
from dev.airflow_stack import AirflowStack

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
DAG = "sevenbridges_export"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def processes_of(home):
    """Every process that runs with this AIRFLOW_HOME."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def holders(home, word):
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and word.encode() in path.read_bytes()
    )


def export(airflow, **params):
    """Run the example; return the run's id, its tasks' states and all states that its export was seen in."""
    seen = []
    run_id = airflow.trigger(DAG, {"file": VCF, "volume": "demo/results", **params})
    states = airflow.wait(DAG, run_id, on_change=lambda task, state: task == "export" and seen.append(state))
    return run_id, states, seen


def test_the_example_on_a_real_airflow(tmp_path):
    home = tmp_path / "airflow"
    with Emulator(knobs=Knobs(pending_seconds=0.5, running_seconds=1.0)) as platform:
        connections = {"sevenbridges_default": platform.connection_json()}
        with AirflowStack(home, EXAMPLES, connections, platform.s3_environment()) as airflow:
            run_id, states, seen = export(airflow, location="stack/sample.vcf", copy_only=False)
            assert set(states.values()) == {"success"}, airflow.task_log(DAG, run_id, "export")
            assert "deferred" in seen

            [job] = platform.exports
            result = airflow.xcom(DAG, run_id, "export")
            assert airflow.xcom(DAG, run_id, "export", "export_id") == result["export_id"] == job.id
            assert result["uri"] == "s3://demo-results/exports/stack/sample.vcf"
            assert (result["state"], result["adopted"]) == ("COMPLETED", False)
            assert airflow.xcom(DAG, run_id, "read_object").startswith("##fileformat=VCFv4.2")
            assert platform.platform.files[VCF].alias == ("demo/results", "stack/sample.vcf")

            run_id, states, _ = export(airflow, location="stack/elsewhere.vcf", copy_only=False)
            assert states["export"] == "failed"
            assert "already an alias of demo/results/stack/sample.vcf" in airflow.task_log(DAG, run_id, "export")
            assert len(platform.exports) == 1

            running = processes_of(home)
            assert len(running) >= len(airflow.processes)
            shown = [" ".join(process.cmdline()) for process in running]
            assert not [line for line in shown if platform.token in line]
        assert processes_of(home) == []
        ports = {connection.laddr.port for connection in psutil.net_connections("tcp") if connection.status == "LISTEN"}
        assert airflow.port not in ports

        # The search does see the database and the logs.
        told = holders(home, job.id)
        assert any(name.startswith("airflow.db") for name in told)
        assert any(name.startswith("logs") for name in told)
        assert holders(home, platform.token) == []
        assert os.environ.get("AIRFLOW_HOME") != str(home)
