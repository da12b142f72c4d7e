from __future__ import annotations

import asyncio
import pkgutil
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.in_process.conftest import first_event


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
        **{"task_id": "wait", "export_id": export_id, "poke_interval": 0.1, "timeout": 300, **fields}
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
def test_a_list_keeps_its_order(platform, runner, started, deferrable, form):
    ids = started(3)
    results = runner.run(sensor(form(ids), deferrable=deferrable))
    assert [result["export_id"] for result in results] == ids
    assert {result["etag"] for result in results} == {None}


def test_a_failed_export_fails_the_sensor_without_retries(platform, runner, started, deferrable):
    platform.trouble("job_fails", code=9100)
    ids = started(2)
    with pytest.raises(AirflowFailException, match=ids[0]):
        runner.run(sensor(ids, deferrable=deferrable))


def test_execution_timeout_counts_while_deferred(platform, runner, started):
    platform.knobs.stuck = True
    [export_id] = started()
    operator = sensor(export_id, deferrable=True, timeout=1000, execution_timeout=timedelta(seconds=0.3))
    with pytest.raises(AirflowSensorTimeout, match="continue on the Platform"):
        runner.run(operator)


def from_trigger(operator):
    """The trigger that Airflow builds for a sensor which starts in the triggerer, before it is rendered."""
    arguments = operator.start_trigger_args
    return arguments, pkgutil.resolve_name(arguments.trigger_cls)(**arguments.trigger_kwargs)


def test_it_can_start_from_its_trigger(platform, runner, started):
    [export_id] = started()
    operator = sensor(export_id, start_from_trigger=True, timeout=60)
    arguments, trigger = from_trigger(operator)
    assert operator.start_from_trigger
    assert arguments.timeout == timedelta(seconds=60)
    event = asyncio.run(first_event(trigger))
    assert getattr(operator, arguments.next_method)({"ti": None}, event=event)["export_id"] == export_id


def test_the_trigger_renders_the_arguments_named_as_fields_of_the_sensor(platform):
    operator = sensor("{{ params.export }}", start_from_trigger=True)
    arguments, trigger = from_trigger(operator)
    rendered = set(operator.template_fields) & set(arguments.trigger_kwargs)
    assert rendered == {"export_id", "sevenbridges_conn_id"}
    assert trigger.export_id == "{{ params.export }}"


@pytest.mark.parametrize("nothing", [None, "None", "[]"])
def test_it_can_start_from_its_trigger_without_an_id(platform, nothing):
    operator = sensor(nothing, start_from_trigger=True)
    event = asyncio.run(first_event(from_trigger(operator)[1]))
    assert operator.execute_complete({}, event=event) is None


def test_an_invalid_id_in_the_trigger_fails_and_is_named(platform):
    operator = sensor("no id!", start_from_trigger=True)
    event = asyncio.run(first_event(from_trigger(operator)[1]))
    with pytest.raises(AirflowFailException, match="export_id: 'no id!' is not a valid export id"):
        operator.execute_complete({}, event=event)
    assert platform.requests == []


def test_start_from_trigger_needs_an_id_or_a_template(platform):
    with pytest.raises(SevenBridgesInputError, match="start_from_trigger"):
        sensor(object(), start_from_trigger=True)
    assert not sensor("a").start_from_trigger
    assert sensor("a", start_from_trigger=True).deferrable


def test_before_airflow_renders_triggers_it_only_defers(platform, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.sensors.base.AIRFLOW_RENDERS_TRIGGERS", False)
    operator = sensor("a", start_from_trigger=True)
    assert operator.deferrable
    assert not operator.start_from_trigger
