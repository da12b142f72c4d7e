from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor


@pytest.fixture
def started(platform):
    """Starts exports and returns their ids."""

    def start(count=1):
        hook = SevenBridgesHook()
        files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(count)]
        return [hook.start_export(file, "demo/results", f"s/{file}").id for file in files]

    return start


def sensor(export_id, **fields):
    return SevenBridgesExportSensor(
        **{"task_id": "wait", "export_id": export_id, "poke_interval": 0.1, "timeout": 10, **fields}
    )


def test_one_export(platform, runner, started, deferrable):
    [export_id] = started()
    result = runner.run(sensor(export_id, deferrable=deferrable))
    assert result["export_id"] == export_id
    assert result["state"] == "COMPLETED"
    assert result["uri"].startswith("s3://demo-results/exports/s/")
    assert result["size"] == 10
    assert result["etag"]
    assert result["copy_only"] is None


@pytest.mark.parametrize("form", [list, str, tuple])
def test_a_list_in_its_order(platform, runner, started, deferrable, form):
    ids = started(3)
    results = runner.run(sensor(form(ids), deferrable=deferrable))
    assert [result["export_id"] for result in results] == ids
    assert {result["etag"] for result in results} == {None}


def test_a_failed_export_fails_it_for_good(platform, runner, started, deferrable):
    platform.trouble("job_fails", code=9100)
    ids = started(2)
    with pytest.raises(AirflowFailException, match=ids[0]):
        runner.run(sensor(ids, deferrable=deferrable))


def test_execution_timeout_counts_while_deferred(platform, runner, started):
    platform.knobs.stuck = True
    [export_id] = started()
    operator = sensor(export_id, deferrable=True, timeout=1000, execution_timeout=timedelta(seconds=0.3))
    with pytest.raises(AirflowSensorTimeout, match="go on at the Platform"):
        runner.run(operator)
