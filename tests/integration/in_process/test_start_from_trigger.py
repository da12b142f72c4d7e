"""A sensor that starts in the triggerer: which templates are rendered there, and which only in a worker."""

from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_sb_provider._compat import AIRFLOW_RENDERS_TRIGGERS
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import first_event

pytestmark = pytest.mark.skipif(not AIRFLOW_RENDERS_TRIGGERS, reason="Airflow 3.3 is the first to do so")


def start_two(platform):
    files = [platform.add_file(f"{number}.txt", b"x").id for number in range(2)]
    return [SevenBridgesHook().start_export(file, "demo/results", f"s/{file}").id for file in files]


def wait_for(runner, export_id):
    runner.run(SevenBridgesExportSensor(task_id="wait", export_id=export_id, poke_interval=0.1))


class PullingTask:
    """A task instance of a run in which ``start`` has pushed an id."""

    dag_id, run_id, map_index = "d", "r", -1

    def __init__(self, task):
        self.task, self.task_id = task, task.task_id
        self.map_indexes_pulled = []

    def xcom_pull(self, task_ids, *, key, map_indexes=None):
        self.map_indexes_pulled.append(map_indexes)
        return {("start", -1): "a1", ("mapped", 1): "b2"}.get((task_ids, map_indexes))


@pytest.mark.parametrize(
    ("template", "rendered", "map_indexes_pulled"),
    [
        ("{{ ti.xcom_pull('start', key='export_id') }}", "a1", [-1]),
        ("{{ task_instance.xcom_pull('start', key='export_id') }} of {{ ti.task_id }}", "a1 of wait", [-1]),
        ("{{ ti.xcom_pull('mapped', key='export_id', map_indexes=1) }}", "b2", [1]),
        ("{{ ti.xcom_pull('mapped', key='export_id') }}", "None", [-1]),
    ],
)
def test_a_pull_always_names_the_indexes(template, rendered, map_indexes_pulled):
    sensor = SevenBridgesExportSensor(task_id="wait", export_id=template, start_from_trigger=True)
    trigger = SevenBridgesExportTrigger(**sensor.start_trigger_args.trigger_kwargs)
    ti = PullingTask(sensor)
    trigger.task_instance = ti
    trigger.render_template_fields({"ti": ti, "task_instance": ti})
    assert trigger.export_id == rendered
    assert ti.map_indexes_pulled == map_indexes_pulled


def test_a_slow_xcom_backend_does_not_block_the_event_loop(platform):
    """Airflow 3.3 renders on the event loop, where a template pulls an XCom through the backend."""
    [export_id, _] = start_two(platform)
    sensor = SevenBridgesExportSensor(
        task_id="wait", export_id="{{ ti.xcom_pull('start', key='export_id') }}", start_from_trigger=True
    )
    trigger = SevenBridgesExportTrigger(**sensor.start_trigger_args.trigger_kwargs)
    trigger.poll_interval = 0.1
    loop_runs = threading.Event()

    class SlowTask(PullingTask):
        def xcom_pull(self, task_ids, *, key, map_indexes=None):
            assert loop_runs.wait(10), "the event loop was blocked"
            return export_id

    async def run_trigger():
        trigger.task_instance = ti = SlowTask(sensor)
        asyncio.get_running_loop().call_soon(loop_runs.set)
        trigger.render_template_fields({"ti": ti, "task_instance": ti})
        return [event.payload async for event in trigger.run()]

    [event] = asyncio.run(run_trigger())
    assert (event["status"], event["job"]["id"]) == ("terminal", export_id)


def test_a_template_that_cannot_be_rendered_breaks_the_trigger(platform):
    sensor = SevenBridgesExportSensor(task_id="wait", export_id="{{ ti.nothing() }}", start_from_trigger=True)
    trigger = SevenBridgesExportTrigger(**sensor.start_trigger_args.trigger_kwargs)

    async def run_trigger():
        trigger.task_instance = ti = PullingTask(sensor)
        trigger.render_template_fields({"ti": ti, "task_instance": ti})
        return [event async for event in trigger.run()]

    with pytest.raises(Exception, match="nothing"):
        asyncio.run(run_trigger())


def test_ids_that_only_a_worker_can_render_are_waited_for(platform, runner):
    platform.knobs.stuck = True
    ids = start_two(platform)
    event = asyncio.run(first_event(SevenBridgesExportTrigger(export_id="None")))
    assert event["status"] == "terminal"
    sensor = SevenBridgesExportSensor(task_id="wait", export_id=str(ids), start_from_trigger=True)
    sensor.execute = lambda context: "waits"
    assert sensor.execute_complete({}, event=event) == "waits"
    platform.knobs.stuck = False
    wait_for(runner, ids)
    assert [one["export_id"] for one in sensor.execute_complete({}, event=event)] == ids


def test_the_event_of_another_id_is_ignored(platform, runner):
    first, second = start_two(platform)
    wait_for(runner, [first, second])
    event = asyncio.run(first_event(SevenBridgesExportTrigger(export_id=first, poll_interval=0.1)))
    sensor = SevenBridgesExportSensor(task_id="wait", export_id=second, start_from_trigger=True)
    assert sensor.execute_complete({}, event=event)["export_id"] == second


def test_a_blocked_log_does_not_block_the_triggerer(platform, monkeypatch):
    read, all_written = threading.Event(), threading.Event()
    lines = []

    class UnreadLog:
        def info(self, line):
            assert read.wait(30), "the log was not read"
            lines.append(line)
            if len(lines) == 2:
                all_written.set()

    monkeypatch.setattr(SevenBridgesExportTrigger, "logger", staticmethod(UnreadLog))
    platform.trouble("job_stuck", state="RUNNING", times=2)
    ids = start_two(platform)
    trigger = SevenBridgesExportTrigger(export_ids=ids, poll_interval=0.1)

    async def logged():
        waiting = asyncio.create_task(first_event(trigger))
        while sum(record.path.endswith("/exports/get") for record in platform.requests) < 4:
            await asyncio.sleep(0.01)
        for export_id in ids:
            platform.release(export_id)
        return await waiting

    assert asyncio.run(logged())["status"] == "terminal"
    assert lines == []
    read.set()
    assert all_written.wait(10)
    assert lines[:2] == [f"Export {export_id} is RUNNING." for export_id in ids]
