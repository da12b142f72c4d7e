"""The example DAG that exports a project in one task, on a real Airflow."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.integration import openlineage_events
from tests.integration.project_of_200 import PARAMS, check, fill
from tests.integration.stack.conftest import run_deferred

DAG = "sevenbridges_bulk_export"
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


def test_two_hundred_files_with_three_that_fail(airflow, platform):
    manifest = airflow.home / "manifest.jsonl"
    good, bad = fill(platform)
    run_id, states = run_deferred(airflow, platform, DAG, {**PARAMS, "manifest": str(manifest)})
    log = airflow.task_log(DAG, run_id, "export")
    assert states == {"export": "failed", "report": "success", "outcome": "upstream_failed"}, log
    assert airflow.run_state(DAG, run_id) == "failed"
    check(
        platform,
        good,
        bad,
        summary=airflow.xcom(DAG, run_id, "export", "summary"),
        report=airflow.xcom(DAG, run_id, "report"),
        failure=log,
        manifest=manifest.read_text(),
    )
    check_openlineage(airflow.home / "openlineage.jsonl", platform, good, bad, manifest)


def check_openlineage(path, platform, good, bad, manifest):
    """Check the event: the first 100 completed exports, the manifest, and the errors of the three others."""
    event = openlineage_events.read_event(path, f"{DAG}.export", "FAIL")
    space = f"sevenbridges://{urlsplit(platform.url).netloc}"
    read = openlineage_events.named(event.inputs)
    assert len(set(read)) == 100
    assert set(read) <= {(space, file) for file in good}
    *objects, record = event.outputs
    assert {each.namespace for each in objects} == {"s3://demo-results"}
    assert len({each.name for each in objects}) == 100
    assert {each.outputFacets["outputStatistics"].size for each in objects} == {10}
    assert (record.namespace, record.name) == ("file", str(manifest))
    errors = event.run.facets["extractionError"]
    assert (errors.totalTasks, errors.failedTasks) == (200, 3)
    assert {each.task.partition(" ")[0] for each in errors.errors} == set(bad.values())
    assert "3 of 200 files were not exported" in event.run.facets["errorMessage"].message
