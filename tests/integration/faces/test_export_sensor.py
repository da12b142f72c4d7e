from __future__ import annotations

import asyncio

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.faces.conftest import first_event, use_token


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


@pytest.mark.parametrize("nothing", [None, "None", [], [None]])
def test_nothing_to_wait_for(platform, runner, deferrable, nothing):
    assert runner.run(sensor(nothing, deferrable=deferrable)) is None
    assert not platform.requests


@pytest.mark.parametrize("junk", ["", "a/b", 3, ["ok", 5], {"export_id": "x"}, [f"e{n}" for n in range(1001)]])
def test_what_is_no_id(platform, runner, deferrable, junk):
    with pytest.raises(AirflowFailException, match="export_id"):
        runner.run(sensor(junk, deferrable=deferrable))
    assert not platform.requests


def test_a_failed_export_fails_it_for_good(platform, runner, started, deferrable):
    platform.trouble("job_fails", code=9100)
    ids = started(2)
    with pytest.raises(AirflowFailException, match=ids[0]):
        runner.run(sensor(ids, deferrable=deferrable))


def test_soft_fail(platform, runner, started, deferrable):
    platform.trouble("job_fails", code=9101)
    [export_id] = started()
    operator = sensor(export_id, deferrable=deferrable, soft_fail=True)
    with pytest.raises(AirflowSkipException):
        run_as_airflow(operator)


def run_as_airflow(operator):
    """Resume through `resume_execution`, as Airflow's task runner does."""
    try:
        return operator.execute({"ti": None})
    except TaskDeferred as deferred:
        event = asyncio.run(first_event(deferred.trigger))
        return operator.resume_execution(deferred.method_name, {"event": event}, {"ti": None})


@pytest.mark.parametrize(("soft_fail", "kind"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_time_out(platform, runner, started, deferrable, soft_fail, kind):
    platform.knobs.stuck = True
    [export_id] = started()
    with pytest.raises(kind):
        run_as_airflow(sensor(export_id, deferrable=deferrable, timeout=0.2, soft_fail=soft_fail))


def test_reschedule(platform, started, monkeypatch):
    platform.knobs.stuck = True
    [export_id] = started()
    operator = sensor(export_id, mode="reschedule")
    ti = type("TI", (), {"get_first_reschedule_date": lambda self, context: None})()
    with pytest.raises(AirflowRescheduleException):
        operator.execute({"ti": ti})
    with pytest.raises(AirflowException, match="cannot be seen"):
        sensor("unknown", mode="reschedule").execute({"ti": ti})


def test_an_unknown_export_fails_in_bounded_time(platform, runner, deferrable):
    with pytest.raises(AirflowException, match="9008"):
        runner.run(sensor("A" * 32, deferrable=deferrable, poke_interval=1 if deferrable else 0.1))


def test_trouble_while_waiting_does_not_fail_it(platform, runner, started, deferrable):
    get = "/v2/bulk/storage/exports/get"
    ids = started(2)
    platform.trouble("html", path=get, status=502, times=1)
    platform.trouble("cut_json", path=get, times=1)
    platform.trouble("error", path=get, status=429, code=1000, times=1)
    platform.trouble("drop", path=get, times=1)
    results = runner.run(sensor(ids, deferrable=deferrable, timeout=30))
    assert len(results) == 2


def test_a_token_that_is_replaced_while_it_waits(platform, runner, started, deferrable, monkeypatch):
    platform.knobs.running_seconds = 0.5
    [export_id] = started()
    old = platform.token
    use_token(monkeypatch, platform, "0" * 32)

    def rotate(record):
        if record.headers.get("X-SBG-Auth-Token") == "0" * 32:
            use_token(monkeypatch, platform, old)

    platform.on("request", rotate)
    assert runner.run(sensor(export_id, deferrable=deferrable))["state"] == "COMPLETED"
