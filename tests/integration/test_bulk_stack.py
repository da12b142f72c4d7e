"""The example of a whole project in one task, on a real Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import AirflowStack
from tests.integration.project_of_200 import PARAMS, check, fill

EXAMPLES = Path(__file__).resolve().parents[2] / "example_dags"
DAG = "sevenbridges_bulk_export"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]


def test_two_hundred_files_with_three_bad_ones(tmp_path):
    manifest = tmp_path / "manifest.jsonl"
    with Emulator(knobs=Knobs(pending_seconds=0.5, running_seconds=1.0)) as platform:
        good, bad = fill(platform)
        connections = {"sevenbridges_default": platform.connection_json()}
        with AirflowStack(tmp_path / "airflow", EXAMPLES, connections) as airflow:
            seen = []
            run_id = airflow.trigger(DAG, {**PARAMS, "manifest": str(manifest)})
            states = airflow.wait(DAG, run_id, on_change=lambda task, state: task == "export" and seen.append(state))
            log = airflow.task_log(DAG, run_id, "export")
            assert states == {"export": "failed", "report": "success", "outcome": "upstream_failed"}, log
            assert airflow.run_state(DAG, run_id) == "failed"
            assert "deferred" in seen
            check(
                platform,
                good,
                bad,
                summary=airflow.xcom(DAG, run_id, "export", "summary"),
                report=airflow.xcom(DAG, run_id, "report"),
                failure=log,
                manifest=manifest.read_text(),
            )
