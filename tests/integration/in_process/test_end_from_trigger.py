"""A sensor that ends in the triggerer: what it pushes and logs there, and when a worker ends it instead."""

from __future__ import annotations

import asyncio
import json
import pkgutil
from types import SimpleNamespace

import pytest
from airflow.listeners.listener import get_listener_manager
from airflow.sdk import DAG, Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException, TaskDeferred
from airflow.serialization.serialized_objects import DagSerialization
from airflow.triggers.base import TaskSuccessEvent

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.task_status import STATUS
from airflow_sb_provider.triggers import base as triggers_module
from airflow_sb_provider.triggers import ending
from tests.integration.in_process.test_status_schema import check

FULL_ONLY = {"uri", "etag"}


class Ti(SimpleNamespace):
    """A task instance; ``found`` is what its pulls find."""

    def __init__(self, **fields):
        super().__init__(dag_id="d", run_id="r", task_id="wait", map_index=-1, try_number=1, **fields)
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids, *, key, map_indexes):
        return self.found


@pytest.fixture
def xcoms(monkeypatch):
    """The XComs that triggers push, instead of Airflow's supervisor."""
    pushed = {}

    class Store:
        @staticmethod
        async def aset(*, key, value, dag_id, run_id, task_id, map_index):
            pushed[(dag_id, run_id, task_id, map_index, key)] = json.loads(json.dumps(value))

    monkeypatch.setattr(ending, "PlainXCom", Store)
    return pushed


@pytest.fixture
def lines(monkeypatch):
    """The lines that triggers log."""
    written = []
    writer = SimpleNamespace(write=lambda context, logger, new: written.extend(new))
    monkeypatch.setattr(ending, "log_writer", writer)
    monkeypatch.setattr(triggers_module, "log_writer", writer)
    return written


@pytest.fixture
def started(platform):
    """Starts exports that run until `finish` is called, and returns their ids."""
    platform.knobs.stuck = True

    def start(count=1):
        files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(count)]
        return [SevenBridgesHook().start_export(file, "demo/results", f"s/{file}").id for file in files]

    return start


def sensor(export_id, **fields):
    with DAG("d", schedule=None):
        return SevenBridgesExportSensor(
            **{"task_id": "wait", "export_id": export_id, "timeout": 300, "end_from_trigger": True, **fields}
        )


def deferred(operator):
    """Return the trigger of a sensor that a worker starts."""
    with pytest.raises(TaskDeferred) as caught:
        operator.execute({"ti": Ti()})
    return caught.value.trigger


def started_there(operator):
    """Return the trigger of a sensor that starts in the triggerer, with the task as the triggerer has it."""
    trigger = pkgutil.resolve_name(operator.start_trigger_args.trigger_cls)(
        **operator.start_trigger_args.trigger_kwargs
    )
    stored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(operator.dag))))
    return trigger, stored.get_task(operator.task_id)


def end_of(trigger, platform, task=None, ti=None):
    """Run a trigger as Airflow does, while the exports finish, and return its event."""
    path, arguments = trigger.serialize()
    again = pkgutil.resolve_name(path)(**json.loads(json.dumps(arguments)))
    again.poll_interval = 0.1
    ti = ti or Ti()
    if task is not None:
        ti.task = task
    again.task_instance = ti
    again.render_template_fields({"ti": ti, "task_instance": ti})
    platform.knobs.stuck = False

    async def first():
        return await anext(again.run())

    return asyncio.run(first())


@pytest.fixture(params=["started by a worker", "started in the triggerer"])
def end(request, platform):
    """Ends a sensor through its trigger, and returns the event."""

    def run(export_id, **fields):
        platform.knobs.stuck = True
        if request.param == "started by a worker":
            return end_of(deferred(sensor(export_id, **fields)), platform)
        trigger, task = started_there(sensor(export_id, start_from_trigger=True, **fields))
        return end_of(trigger, platform, task)

    return run


def in_worker(export_id, **fields):
    """Return what a worker returns and pushes for finished exports."""
    ti = Ti()
    operator = sensor(export_id, **fields)
    return operator.execute({"ti": ti}), ti.pushed


@pytest.mark.parametrize(
    "form", [lambda ids: ids[0], list, lambda ids: ids[:1], str], ids=["id", "ids", "[id]", "text"]
)
def test_it_ends_with_the_same_xcoms_as_in_a_worker(platform, started, end, xcoms, form):
    export_id = form(started(2))
    event = end(export_id)
    assert isinstance(event, TaskSuccessEvent)
    assert xcoms.keys() == {("d", "r", "wait", -1, "return_value")}
    [pushed] = xcoms.values()
    result, written = in_worker(export_id)
    assert pushed == result
    check(event.xcoms.items())
    assert event.xcoms.keys() == written.keys() == {STATUS}
    assert {**event.xcoms[STATUS], "at": None} == {**written[STATUS], "at": None}


def test_the_result_is_that_of_the_sensor_without_what_needs_a_request(platform, started, end, xcoms):
    [export_id] = started()
    end(export_id)
    [pushed] = xcoms.values()
    full, _ = in_worker(export_id, end_from_trigger=False)
    assert pushed == {**full, **dict.fromkeys(FULL_ONLY)}
    assert full["uri"]
    assert full["etag"]


def test_it_sends_nothing_but_polls(platform, started, end, xcoms):
    [export_id] = started()
    submitted = len(platform.requests)
    end(export_id)
    in_worker(export_id)
    assert {record.path for record in platform.requests[submitted:]} == {"/v2/bulk/storage/exports/get"}


def test_its_log_has_the_lines_of_a_worker(platform, started, end, xcoms, lines, capsys):
    ids = started(2)
    end(ids)
    capsys.readouterr()
    in_worker(ids)
    text = capsys.readouterr().out
    assert [line for line in lines[-3:] if line not in text] == []
    assert lines[-3:-1] == [
        f"Export {job.id} is COMPLETED: demo/results/{job.location}, 10 bytes." for job in platform.exports
    ]
    assert lines[-1] == "2 of 2 exports completed, 0 failed."


def test_without_a_result_it_pushes_none(platform, started, end, xcoms):
    [export_id] = started()
    assert isinstance(end(export_id, do_xcom_push=False), TaskSuccessEvent)
    assert xcoms == {}


def test_a_thousand_that_end_together_push_one_by_one(platform, started, monkeypatch):
    """Airflow's supervisor reads one message per cycle: behind a thousand pushes, no event would get through."""
    ids = started(20)
    under_way, most = 0, 0

    class Store:
        @staticmethod
        async def aset(**fields):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    monkeypatch.setattr(ending, "PlainXCom", Store)
    triggers = [deferred(sensor(export_id)) for export_id in ids]
    for trigger in triggers:
        trigger.poll_interval, trigger.task_instance = 0.1, Ti()
    platform.knobs.stuck = False

    async def all_events():
        return await asyncio.gather(*(anext(trigger.run()) for trigger in triggers))

    assert {type(event) for event in asyncio.run(all_events())} == {TaskSuccessEvent}
    assert most == 1


# What a worker ends


def test_a_failed_export_ends_in_a_worker(platform, started, end, xcoms):
    platform.trouble("job_fails", code=9103, message="Access denied.")
    ids = started(2)
    event = end(ids)
    assert not isinstance(event, TaskSuccessEvent)
    assert xcoms == {}
    with pytest.raises(AirflowFailException, match="Access denied"):
        sensor(ids).resume_execution("execute_complete", {"event": event.payload}, {"ti": Ti()})
    with pytest.raises(AirflowSkipException, match="Access denied"):
        sensor(ids, soft_fail=True).resume_execution("execute_complete", {"event": event.payload}, {"ti": Ti()})


def test_a_time_out_ends_in_a_worker(platform, started, xcoms):
    platform.trouble("job_stuck", state="RUNNING")
    [export_id] = started()
    event = end_of(deferred(sensor(export_id, timeout=0.3)), platform)
    assert event.payload["status"] == "timeout"
    with pytest.raises(AirflowSensorTimeout):
        sensor(export_id).execute_complete({"ti": Ti()}, event=event.payload)


def test_an_unknown_export_ends_in_a_worker(platform, end, xcoms):
    assert end("A" * 32).payload["status"] == "rejected"
    assert xcoms == {}


@pytest.mark.parametrize("nothing", [None, "None", "[]"])
def test_without_ids_a_worker_renders_them_again(platform, nothing, xcoms):
    trigger, task = started_there(sensor(nothing, start_from_trigger=True))
    assert end_of(trigger, platform, task).payload == {"status": "terminal"}


@pytest.mark.parametrize(
    ("found", "ends"), [(None, False), ([None, "ID"], False), ("ID", True), (["ID"], True)], ids=str
)
def test_if_a_pull_found_nothing_a_worker_renders_it_again(platform, started, xcoms, found, ends):
    """The XComs of a mapped task are missing in the triggerer."""
    [export_id] = started()
    found = json.loads(json.dumps(found).replace("ID", export_id))
    template = f"{{{{ [ti.xcom_pull('start', key='export_id'), '{export_id}'] }}}}"
    if found and ends:
        template = "{{ ti.xcom_pull('start', key='export_id') }}"
    trigger, task = started_there(sensor(template, start_from_trigger=True))
    event = end_of(trigger, platform, task, Ti(found=found))
    assert isinstance(event, TaskSuccessEvent) is ends


def test_if_the_result_cannot_be_pushed_a_worker_ends_it(platform, started, end, lines, monkeypatch):
    class Store:
        @staticmethod
        async def aset(**fields):
            raise RuntimeError("no connection")

    monkeypatch.setattr(ending, "PlainXCom", Store)
    [export_id] = started()
    event = end(export_id)
    assert event.payload["status"] == "terminal"
    assert lines == ["Could not end the task in the triggerer, so a worker ends it: RuntimeError."]
    assert sensor(export_id).execute_complete({"ti": Ti()}, event=event.payload)["export_id"] == export_id


def nothing(*_):
    """A callback."""


@pytest.mark.parametrize(
    "fields",
    [
        {"outlets": [Asset("s3://bucket/key")]},
        {"on_success_callback": nothing},
        {"on_execute_callback": nothing},
        {"multiple_outputs": True},
        {"pre_execute": nothing},
        {"post_execute": nothing},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_airflow_does_only_in_a_worker_is_done(platform, started, end, xcoms, fields):
    [export_id] = started()
    event = end(export_id, **fields)
    assert event.payload["status"] == "terminal"
    assert xcoms == {}
    # The parameter has no effect: the result is complete.
    operator = sensor(export_id, **{**fields, "outlets": []} if "outlets" not in fields else {"post_execute": nothing})
    assert operator.execute_complete({"ti": Ti()}, event=event.payload)["uri"]


def test_a_result_that_another_task_maps_over_is_pushed_by_a_worker(platform, started, end, xcoms):
    class Mapped(BaseOperator):
        def __init__(self, *, value, **fields):
            super().__init__(**fields)

    def mapped(operator):
        with operator.dag:
            Mapped.partial(task_id="mapped").expand(value=operator.output)
        return operator

    ids = started(2)
    assert end_of(deferred(mapped(sensor(ids))), platform).payload["status"] == "terminal"
    trigger, task = started_there(mapped(sensor(ids, start_from_trigger=True)))
    assert end_of(trigger, platform, task).payload["status"] == "terminal"
    assert xcoms == {}


def test_with_an_xcom_backend_a_worker_ends_it(platform, started, end, xcoms, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.sensors.base.HAS_XCOM_BACKEND", True)
    assert end(started()[0]).payload["status"] == "terminal"


def test_with_listeners_a_worker_ends_it(platform, started, end, xcoms):
    get_listener_manager().add_listener(type("Listener", (), {})())
    try:
        assert end(started()[0]).payload["status"] == "terminal"
    finally:
        get_listener_manager().clear()


def test_before_airflow_3_3_a_worker_ends_it(platform, started, xcoms, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.sensors.base.AIRFLOW_RENDERS_TRIGGERS", False)
    assert end_of(deferred(sensor(started()[0])), platform).payload["status"] == "terminal"


def test_it_implies_deferrable():
    assert sensor("a").deferrable
    assert not sensor("a", end_from_trigger=False).deferrable


def test_a_trigger_that_does_not_end_its_task_has_the_arguments_of_earlier_versions(platform, started):
    [export_id] = started()
    _, arguments = deferred(sensor(export_id, end_from_trigger=False, deferrable=True)).serialize()
    assert not arguments.keys() & {"end_from_trigger", "do_xcom_push"}
