from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_sb_provider.emulator import Emulator, Knobs

GATEWAY_TIMEOUT = 0.4


@pytest.fixture
def platform(monkeypatch):
    """A local Platform that is quick, and the Airflow connection to it."""
    with Emulator(knobs=Knobs(pending_seconds=0.02, running_seconds=0.02, rate_limit=10**6)) as emulator:
        use_token(monkeypatch, emulator, emulator.token)
        monkeypatch.setattr("airflow_sb_provider.jobs.poll_schedule.FIRST_POLL", 0.05)
        monkeypatch.setattr("airflow_sb_provider.triggers.poller.CONNECTION_RETRY_DELAY", 0.05)
        monkeypatch.setattr("airflow_sb_provider.jobs.rate_limiter.BLIND_PAUSE", 0.05)
        monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 0.0)
        monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 0.0)
        yield emulator


def use_token(monkeypatch, emulator, token, **extra):
    connection = json.loads(emulator.connection_json()) | {
        "password": token,
        "extra": {"gateway_timeout": GATEWAY_TIMEOUT, "read_timeout": 60, **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SEVENBRIDGES_DEFAULT", json.dumps(connection))


class Store:
    """Airflow's store of a task's or an asset's state: outlives tries."""

    def __init__(self):
        self.values = {}

    def get(self, key, default=None):
        return self.values.get(key, default)

    def set(self, key, value):
        check_size(value)
        self.values[key] = json.loads(json.dumps(value))

    def delete(self, key):
        self.values.pop(key, None)


class Runner:
    """Runs a task's tries as Airflow does: XCom emptied at each, deferrals through the real trigger."""

    def __init__(self, *, store=True, retries=2):
        self.store = Store() if store else None
        self.retries = retries
        self.max_tries = retries
        self.try_number = 0
        self.xcom = {}
        self.deferrals = []
        self.outlet_events = OutletEventAccessors()
        self.run_started = datetime.now(UTC)

    def clear(self, *, keep_task_state=True):
        """Clear the task as Airflow 3.3 does; 3.4 discards the record unless it is requested to keep it."""
        self.max_tries = self.try_number + self.retries
        if self.store and not keep_task_state:
            self.store.values.clear()

    def run(self, operator):
        forget(operator)
        self.try_number += 1
        self.xcom = {}
        ti = SimpleNamespace(
            dag_id="dag",
            run_id="run",
            task_id=operator.task_id,
            map_index=-1,
            try_number=self.try_number,
            max_tries=self.max_tries,
            xcom_push=self._push,
            xcom_pull=lambda task_ids, key, map_indexes: self.xcom.get(key),
        )
        self.outlet_events = OutletEventAccessors()
        run = SimpleNamespace(start_date=self.run_started)
        context = {"ti": ti, "dag_run": run, "outlet_events": self.outlet_events}
        if self.store:
            context["task_state_store"] = self.store
        method, arguments = operator.execute, {}
        while True:
            try:
                return method(context, **arguments)
            except TaskDeferred as deferred:
                # The process is gone, with all that its frames hold.
                self.deferrals.append(deferred.with_traceback(None))
                check_size(deferred.trigger.serialize()[1])
                event = asyncio.run(first_event(deferred.trigger))
                forget(operator)
                # Outlet events of a process that deferred are lost.
                self.outlet_events = context["outlet_events"] = OutletEventAccessors()
                method = getattr(operator, deferred.method_name)
                arguments = {**(deferred.kwargs or {}), "event": event}

    def _push(self, key, value):
        check_size(value)
        self.xcom[key] = value


def forget(operator):
    """Remove the state of the process: the next one has a new operator."""
    for name in ("hook", "_report", "_batch", "_under_way", "_status"):
        operator.__dict__.pop(name, None)


def check_size(value):
    """What Airflow's database should keep in a row."""
    assert len(json.dumps(value, default=str)) < 65536


async def first_event(trigger):
    _, arguments = trigger.serialize()
    again = type(trigger)(**arguments)
    async for event in again.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


def start_when_polled(platform):
    """Let jobs start at the second poll, and run until `running_seconds` is set, however slow the machine is."""
    platform.knobs.update(stuck=True, pending_seconds=0.0, running_seconds=3600.0)
    polls = []

    def start(record):
        if record.path == "/v2/bulk/storage/exports/get":
            polls.append(record)
            platform.knobs.stuck = len(polls) < 2

    platform.on("request", start)


def run_until_polled(platform):
    """Let the next job run until a task that waits for it polls it, however long the task takes to get there."""
    platform.trouble("job_stuck", state="RUNNING")

    def release(record):
        if record.path == "/v2/bulk/storage/exports/get":
            for job in platform.exports:
                platform.release(job.id)

    platform.on("request", release)


async def cancel_when(condition, triggers):
    """Run triggers until a condition holds, whatever the time that takes, then cancel them."""
    tasks = [asyncio.create_task(first_event(trigger)) for trigger in triggers]
    while not condition():
        await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def runner():
    return Runner()


@pytest.fixture
def storeless_runner():
    return Runner(store=False)


@pytest.fixture
def export(platform):
    """Makes an operator for a new file; its fields can be given otherwise."""
    from airflow_sb_provider.operators.export import SevenBridgesExportOperator

    def make(data=b"some bytes", **fields):
        if "file" not in fields:
            fields["file"] = platform.add_file("a.txt", data).id
        return SevenBridgesExportOperator(
            **{
                "task_id": "export",
                "volume": "demo/results",
                "location": "a/b.txt",
                "retries": 2,
                "poll_interval": 0.1,
                **fields,
            }
        )

    return make


@pytest.fixture(params=[True, False], ids=["deferrable", "waiting"])
def deferrable(request):
    return request.param


def submissions(platform):
    return [record for record in platform.requests if (record.method, record.path) == ("POST", "/v2/storage/exports")]


def paths(platform):
    return [f"{record.method} {record.path.removeprefix('/v2/')}" for record in platform.requests]


@pytest.fixture(params=["poke", "reschedule", "deferred"])
def mode(request):
    return request.param


@pytest.fixture
def xcom():
    return {}


@pytest.fixture
def wait(mode, xcom):
    """Runs a sensor as Airflow does: a reschedule and a resumption are each a new process."""
    from airflow_sb_provider.sensors.export import SevenBridgesExportSensor

    began = datetime.now(UTC)

    def push(key, value):
        xcom[key] = json.loads(json.dumps(value))

    ti = SimpleNamespace(
        try_number=1, max_tries=0, xcom_push=push, get_first_reschedule_date=lambda context: began, task_id="wait"
    )

    def run(job_ids, sensor=SevenBridgesExportSensor, **fields):
        def make():
            how = {"deferrable": True} if mode == "deferred" else {"deferrable": False, "mode": mode}
            common = {"task_id": "wait", sensor.kind.parameter: job_ids, "poke_interval": 0.1, "timeout": 300}
            return sensor(**{**common, **how, **fields})

        while True:
            try:
                return make().execute({"ti": ti})
            except AirflowRescheduleException as again:
                time.sleep(max(0, (again.reschedule_date - datetime.now(UTC)).total_seconds()))
            except TaskDeferred as deferred:
                event = asyncio.run(first_event(deferred.trigger))
                return make().resume_execution(deferred.method_name, {"event": event}, {"ti": ti})

    return run
