"""A second kind of job needs only a kind, a trigger and a sensor. Toys are a kind that exists in this file only."""

from __future__ import annotations

import asyncio
import json
import pkgutil
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_sb_provider.api.calls import Call
from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesNotFoundError
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.polling import deadline_of, poll, wait
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.kind import JobKind
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.sensors.base import SevenBridgesJobSensor
from airflow_sb_provider.triggers import poller as polling
from airflow_sb_provider.triggers.base import SevenBridgesJobTrigger
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import cancel_when
from tests.unit.hooks.both_hooks import connection_variable
from tests.unit.hooks.servers import reply, serving

CONN = "sevenbridges_default"
EXPORTS, TOYS = "/v2/bulk/storage/exports/get", "/v2/bulk/toys/get"


@dataclass(frozen=True)
class Toy:
    id: str
    state: str
    started_on = finished_on = error = None

    @property
    def ended(self):
        return self.state in ("DONE", "BROKEN", "ABORTED")

    @property
    def succeeded(self):
        return self.state == "DONE"

    @property
    def failed(self):
        return self.ended and not self.succeeded

    def to_json(self):
        return {"id": self.id, "status": self.state}

    @classmethod
    def from_json(cls, data):
        return cls(data["id"], data["status"])


def get_toys(ids):
    def read(body, headers):
        return [Toy.from_json(item["resource"]) if "resource" in item else missing() for item in body["items"]]

    return Call(
        "POST", "bulk/toys/get", read, body={"toy_ids": list(ids)}, objects=tuple(f"toy {each}" for each in ids)
    )


def missing():
    return SevenBridgesNotFoundError(404, 1, "No such toy.")


class ToyFailed(SevenBridgesError):
    def __init__(self, job, more=""):
        super().__init__(f"Toy {job.id} is {job.state}. {more}")


TOY = JobKind("toy", Toy.from_json, get_toys, ToyFailed, "built", frozenset({"DRAFT", "QUEUED"}))


class ToyTrigger(SevenBridgesJobTrigger):
    kind = TOY

    def __init__(
        self,
        toy_ids=(),
        sevenbridges_conn_id=CONN,
        poll_interval=30.0,
        end_time=None,
        toy_id=None,
        min_finished=None,
        fail_fast=False,
        silent_fail=False,
    ):
        super().__init__(
            toy_ids,
            toy_id,
            sevenbridges_conn_id=sevenbridges_conn_id,
            poll_interval=poll_interval,
            end_time=end_time,
            min_finished=min_finished,
            fail_fast=fail_fast,
            silent_fail=silent_fail,
        )


class ToySensor(SevenBridgesJobSensor[Toy]):
    template_fields = ("toy_id", "sevenbridges_conn_id")
    kind = TOY
    trigger_class = ToyTrigger
    failure = ToyFailed

    def __init__(self, *, toy_id, sevenbridges_conn_id=CONN, deferrable=False, start_from_trigger=False, **kwargs):
        super().__init__(
            sevenbridges_conn_id=sevenbridges_conn_id,
            deferrable=deferrable,
            start_from_trigger=start_from_trigger,
            **kwargs,
        )
        self.toy_id = toy_id
        self._start_in_trigger()

    def _results(self, context, jobs):
        return [f"{job.id} is {job.state}" for job in jobs]


class Server:
    """Responds to polls. ``states`` has the states of each id at successive polls; the last one stays."""

    def __init__(self, platform):
        self.platform = platform
        self.states = {EXPORTS: {}, TOYS: {}}
        self.headers = {}
        platform.answers = [self.answer]

    def answer(self, handler):
        seen = self.platform.seen[-1]
        states = self.states[handler.path]
        ids = json.loads(seen.body)["export_ids" if handler.path == EXPORTS else "toy_ids"]
        field = "state" if handler.path == EXPORTS else "status"
        items = []
        for each in ids:
            ahead = states.get(each)
            state = ahead.pop(0) if ahead and len(ahead) > 1 else ahead[0] if ahead else None
            error = {"error": {"status": 404, "code": 9008, "message": "no such thing"}}
            items.append({"resource": {"id": each, field: state}} if state else error)
        reply({"items": items}, keep=True, **self.headers)(handler)

    @property
    def polls(self):
        return [(seen.path, next(iter(seen.json.values()))) for seen in self.platform.seen]


@pytest.fixture
def server(monkeypatch):
    with serving() as platform:
        monkeypatch.setenv(*connection_variable(platform.url))
        monkeypatch.setattr("airflow_sb_provider.jobs.poll_schedule.FIRST_POLL", 0.05)
        monkeypatch.setattr("airflow_sb_provider.triggers.poller.CONNECTION_RETRY_DELAY", 0.05)
        monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 0.0)
        yield Server(platform)


async def first_event(trigger):
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    async for event in type(trigger)(**arguments).run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


def gather(*triggers):
    async def run():
        return await asyncio.gather(*map(first_event, triggers))

    return asyncio.run(run())


def test_a_worker_waits_for_jobs_of_this_kind(server, caplog):
    server.states[TOYS] = {"a": ["QUEUED", "RUNNING", "DONE"], "b": ["QUEUED", "ABORTED"]}
    watch = Watch(TOY, ["a", "b"])
    assert wait(SevenBridgesHook(), watch, 0.05) == {"status": "terminal"}
    assert [job.state for job in watch.jobs.values()] == ["DONE", "ABORTED"]
    assert [ids for _, ids in server.polls] == [["a", "b"], ["a", "b"], ["a"]]


def test_a_worker_times_out(server):
    server.states[TOYS] = {"a": ["RUNNING"]}
    event = wait(SevenBridgesHook(), Watch(TOY, ["a"], deadline_of(time.time() + 0.3)), 0.1)
    assert event == {"status": "timeout", "toy_id": "a", "job": {"id": "a", "status": "RUNNING"}}


def test_a_poll_is_one_request(server):
    server.states[TOYS] = {"a": ["DONE"]}
    assert poll(SevenBridgesHook(), Watch(TOY, ["a"]))["job"] == {"id": "a", "status": "DONE"}
    assert server.polls == [(TOYS, ["a"])]


def test_a_trigger_waits_for_jobs_of_this_kind(server):
    server.states[TOYS] = {"a": ["DRAFT", "RUNNING", "DONE"]}
    assert gather(ToyTrigger(["a"], poll_interval=0.1)) == [
        {"status": "terminal", "toy_id": "a", "job": {"id": "a", "status": "DONE"}}
    ]


def test_a_trigger_serializes_their_ids():
    _, arguments = ToyTrigger(["a"], poll_interval=5, end_time=10.0).serialize()
    assert (arguments["toy_ids"], arguments["toy_id"]) == (["a"], None)
    assert not [name for name in arguments if "export" in name]


def test_both_kinds_share_a_poller_and_no_request(server, monkeypatch):
    lookups = []
    real = polling.load_settings

    async def load(conn_id):
        lookups.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(polling, "load_settings", load)
    ids = [f"j{number}" for number in range(150)]
    server.states = {EXPORTS: {each: ["RUNNING"] for each in ids}, TOYS: {each: ["RUNNING"] for each in ids}}

    def is_steady():
        """Whether the last requests were one poll of all jobs of both kinds, two for each kind."""
        last = [(path, each) for path, polled in server.polls[-4:] for each in polled]
        return len(last) == 300 and set(last) == {(path, each) for path in (EXPORTS, TOYS) for each in ids}

    exports = [SevenBridgesExportTrigger([each], CONN, 1.0) for each in ids]
    asyncio.run(cancel_when(is_steady, [*exports, *(ToyTrigger([each], CONN, 1.0) for each in ids)]))
    assert len(lookups) == 1


def test_the_same_id_of_two_kinds_is_two_jobs(server):
    server.states = {EXPORTS: {"same": ["RUNNING", "RUNNING", "COMPLETED"]}, TOYS: {"same": ["BROKEN"]}}
    export, toy = gather(
        SevenBridgesExportTrigger(["same"], poll_interval=0.1), ToyTrigger(["same"], poll_interval=0.1)
    )
    assert export["job"]["state"] == "COMPLETED"
    assert toy["job"] == {"id": "same", "status": "BROKEN"}


def test_an_unknown_job_does_not_affect_exports(server):
    server.states[EXPORTS] = {"a": ["RUNNING"] * 5 + ["COMPLETED"]}
    export, toy = gather(SevenBridgesExportTrigger(["a"], poll_interval=0.1), ToyTrigger(["a"], poll_interval=0.1))
    assert export["status"] == "terminal"
    assert toy["status"] == "rejected"
    assert "Toy a cannot be polled: " in toy["message"]


def test_a_trigger_of_one_kind_that_ends_does_not_affect_the_other(server):
    server.states = {EXPORTS: {"a": ["COMPLETED"]}, TOYS: {"a": ["RUNNING"] * 8 + ["DONE"]}}
    events = gather(SevenBridgesExportTrigger(["a"], poll_interval=0.1), ToyTrigger(["a"], poll_interval=0.1))
    assert {event["status"] for event in events} == {"terminal"}
    assert Counter(path for path, _ in server.polls) == {EXPORTS: 1, TOYS: 9}


def test_both_kinds_share_one_rate_limit(server):
    """The requests that are left in a window are spread over the polls of both kinds."""
    ids = [f"j{number}" for number in range(100)]
    server.states = {EXPORTS: {each: ["RUNNING"] for each in ids}, TOYS: {each: ["RUNNING"] for each in ids}}
    server.headers = {"X_RateLimit_Limit": "1000", "X_RateLimit_Remaining": "120"}
    server.headers["X_RateLimit_Reset"] = str(int(time.time()) + 120)
    end_time = time.time() + 3
    gather(ToyTrigger(ids, CONN, 0.1, end_time), SevenBridgesExportTrigger(ids, CONN, 0.1, end_time))
    polls = Counter(path for path, _ in server.polls)
    # Without a common limit each kind would be polled thirty times.
    assert sum(polls.values()) <= 10
    assert min(polls.values()) >= 1


@pytest.fixture(params=["poke", "reschedule", "deferred", "from trigger"])
def sense(request, server):
    """Run a sensor like Airflow: each reschedule and each resumption is a new process."""
    how = {
        "poke": {},
        "reschedule": {"mode": "reschedule"},
        "deferred": {"deferrable": True},
        "from trigger": {"start_from_trigger": True},
    }[request.param]
    began = datetime.now(UTC)
    ti = SimpleNamespace(try_number=1, max_tries=0, get_first_reschedule_date=lambda context: began)

    def resume(make, trigger, method):
        trigger.poll_interval = 0.1
        return make().resume_execution(method, {"event": asyncio.run(first_event(trigger))}, {"ti": ti})

    def run(toy_id, **fields):
        def make():
            return ToySensor(
                **{"task_id": "wait", "toy_id": toy_id, "poke_interval": 0.1, "timeout": 20, **how, **fields}
            )

        sensor = make()
        if sensor.start_from_trigger:
            arguments = sensor.start_trigger_args
            assert arguments.trigger_cls.endswith("test_second_kind.ToyTrigger")
            return resume(make, ToyTrigger(**arguments.trigger_kwargs), arguments.next_method)
        while True:
            try:
                return make().execute({"ti": ti})
            except AirflowRescheduleException as again:
                time.sleep(max(0, (again.reschedule_date - datetime.now(UTC)).total_seconds()))
            except TaskDeferred as deferred:
                return resume(make, deferred.trigger, deferred.method_name)

    return run


def test_a_sensor_waits_for_jobs_of_this_kind(server, sense):
    server.states[TOYS] = {"a": ["QUEUED", "RUNNING", "DONE"], "b": ["QUEUED", "DONE"]}
    assert sense(["a", "b"]) == ["a is DONE", "b is DONE"]


@pytest.mark.parametrize("toy_id", [None, "None", "[]"])
def test_a_sensor_may_have_nothing_to_wait_for(server, sense, toy_id):
    assert sense(toy_id) is None
    assert server.polls == []


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_sensor_fails_if_a_job_failed(server, sense, soft_fail):
    server.states[TOYS] = {"a": ["RUNNING", "DONE"], "b": ["RUNNING", "ABORTED"]}
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as caught:
        sense("['a', 'b']", soft_fail=soft_fail)
    assert "Toy b is ABORTED" in str(caught.value.__cause__ if soft_fail else caught.value)


def test_a_sensor_names_the_jobs_it_may_not_read(server, sense):
    with pytest.raises(AirflowException, match="Toy gone cannot be polled"):
        sense("gone")


def test_a_sensor_names_invalid_ids(server, sense):
    with pytest.raises(AirflowFailException, match="toy_id: 'no id!' is not a valid toy id"):
        sense("no id!")


def test_a_sensor_times_out(server):
    server.states[TOYS] = {"a": ["RUNNING"]}
    with pytest.raises(AirflowSensorTimeout):
        ToySensor(task_id="wait", toy_id="a", poke_interval=0.05, timeout=0.2).execute(
            {"ti": SimpleNamespace(try_number=1)}
        )
    resumed = ToySensor(task_id="wait", toy_id="a", deferrable=True)
    with pytest.raises(AirflowSensorTimeout, match="1 of 1 toys did not finish in time: a \\(RUNNING\\)"):
        resumed.execute_complete({}, {"status": "timeout"})


def test_exports_are_a_kind_of_jobs():
    assert (EXPORT.id_key, EXPORT.ids_key, EXPORT.title) == ("export_id", "export_ids", "Export")
    path = f"{SevenBridgesExportTrigger.__module__}.{SevenBridgesExportTrigger.__qualname__}"
    assert pkgutil.resolve_name(path).kind is EXPORT
