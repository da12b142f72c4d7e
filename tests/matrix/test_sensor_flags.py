"""The effect of a sensor's flags on each failure in each mode, as in docs/operators.md; the same on every Airflow."""

from __future__ import annotations

import asyncio
import json
import pkgutil
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_sb_provider._compat import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)
from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.matrix.conftest import AIRFLOW

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

CONNECTION = "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT"
GET = "/v2/bulk/storage/exports/get"
FOREVER = 10**6
SHORT = 0.4

MODES = ("poke", "reschedule", "deferrable", "from trigger")
FLAGS = {
    "none": {},
    "soft_fail": {"soft_fail": True},
    "silent_fail": {"silent_fail": True},
    "never_fail": {"never_fail": True},
    "soft_fail, silent_fail": {"soft_fail": True, "silent_fail": True},
    "silent_fail, never_fail": {"silent_fail": True, "never_fail": True},
}
# The results of a task: success, skipped, failed without retry, failed with retry, timed out.
OK, SKIP, FAIL, RETRY, TIMEOUT = "ok", "skip", "fail", "retry", "timeout"

# By failure, one result for each of FLAGS; where modes differ, a result for each of MODES.
MISCONFIGURED = (FAIL, FAIL, FAIL, SKIP, FAIL, SKIP)
NOT_SEEN = (RETRY, RETRY, TIMEOUT, SKIP, SKIP, SKIP)
TIME_IS_OVER = (TIMEOUT, SKIP, TIMEOUT, SKIP, SKIP, SKIP)
TRANSIENT = (OK, OK, OK, OK, OK, OK)
REJECTED_LONGER = (RETRY, RETRY, OK, SKIP, OK, OK)
# After a deferral there is no poll.
IN_DOUBT = (
    RETRY,
    RETRY,
    (TIMEOUT, TIMEOUT, RETRY, RETRY),
    SKIP,
    (SKIP, SKIP, RETRY, RETRY),
    SKIP,
)
TABLE = {
    "an id that is no id": MISCONFIGURED,
    "too many ids": MISCONFIGURED,
    "no connection": MISCONFIGURED,
    "a connection without an endpoint": MISCONFIGURED,
    "a connection removed while it waits": MISCONFIGURED,
    "a connection spoiled while it waits": MISCONFIGURED,
    "a wrong token": NOT_SEEN,
    "an unknown id": NOT_SEEN,
    "an unknown id in a list": NOT_SEEN,
    "no permission": NOT_SEEN,
    "a wrong token for a while": TRANSIENT,
    "a wrong token for five polls": REJECTED_LONGER,
    "an id that is not seen for five polls": REJECTED_LONGER,
    "an export that fails": (FAIL, SKIP, FAIL, SKIP, SKIP, SKIP),
    "an export that fails in a list": (FAIL, SKIP, FAIL, SKIP, SKIP, SKIP),
    "an export that fails for now": (FAIL, SKIP, FAIL, SKIP, SKIP, SKIP),
    "an export that takes too long": TIME_IS_OVER,
    "maintenance without end": TIME_IS_OVER,
    "a rate limit for a while": TRANSIENT,
    "maintenance for a while": TRANSIENT,
    "no network for a while": TRANSIENT,
    "a gateway's page for a while": TRANSIENT,
    "nothing to wait for": TRANSIENT,
    "an object that is not there": IN_DOUBT,
}


def cells():
    for failure, ends in TABLE.items():
        for flags, end in zip(FLAGS, ends, strict=True):
            for number, mode in enumerate(MODES):
                yield pytest.param(
                    failure, flags, mode, end if isinstance(end, str) else end[number], id=f"{failure}-{flags}-{mode}"
                )


@pytest.fixture
def platform(monkeypatch):
    with Emulator(knobs=Knobs(pending_seconds=0.02, running_seconds=0.02, rate_limit=10**6)) as emulator:
        monkeypatch.setenv(CONNECTION, emulator.connection_json())
        monkeypatch.setattr("airflow_sb_provider.jobs.poll_schedule.FIRST_POLL", 0.05)
        monkeypatch.setattr("airflow_sb_provider.triggers.poller.CONNECTION_RETRY_DELAY", 0.05)
        monkeypatch.setattr("airflow_sb_provider.jobs.rate_limiter.BLIND_PAUSE", 0.05)
        monkeypatch.setattr("airflow_sb_provider.jobs.watch.FINAL_POLL_TIMEOUT", 0.2)
        monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 0.0)
        monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 0.0)
        yield emulator


def start(platform, count=1):
    files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(count)]
    return [SevenBridgesHook().start_export(file, "demo/results", f"s/{file}").id for file in files]


def wait_for_jobs(platform):
    while any(job.state not in ("COMPLETED", "FAILED") for job in platform.exports):
        time.sleep(0.005)


def change_connection(monkeypatch, platform, **fields):
    monkeypatch.setenv(CONNECTION, json.dumps(json.loads(platform.connection_json()) | fields))


def have(failure, platform, monkeypatch):
    """Cause a failure; return the ids to wait for, and the time-out if the failure requires one."""
    match failure:
        case "an id that is no id":
            return "no id!", 20
        case "too many ids":
            return [f"e{number}" for number in range(1001)], 20
        case "nothing to wait for":
            return None, 20
        case "an unknown id":
            return "A" * 32, None
        case "an unknown id in a list":
            return [*start(platform), "A" * 32], None
        case "no connection":
            [export_id] = start(platform)
            monkeypatch.delenv(CONNECTION)
            return export_id, 20
        case "a connection without an endpoint":
            [export_id] = start(platform)
            change_connection(monkeypatch, platform, host="", port=None, extra={})
            return export_id, 20
        case "a connection removed while it waits" | "a connection spoiled while it waits":
            platform.knobs.stuck = True
            [export_id] = start(platform)

            def spoil(record):
                if record.path == GET and len(polls(platform)) == 2:
                    platform.platform.users.clear()
                    if "removed" in failure:
                        monkeypatch.delenv(CONNECTION)
                    else:
                        change_connection(monkeypatch, platform, host="ftp://example.com")

            platform.on("request", spoil)
            return export_id, 20
        case "a wrong token":
            [export_id] = start(platform)
            change_connection(monkeypatch, platform, password="w" * 32)
            return export_id, None
        case "no permission":
            platform.trouble("error", status=403, path=GET, times=FOREVER)
            return start(platform)[0], None
        case "a wrong token for a while":
            platform.trouble("error", status=401, path=GET, times=2)
            return start(platform)[0], 20
        case "a wrong token for five polls" | "an id that is not seen for five polls":
            platform.trouble("error", status=401 if "token" in failure else 404, path=GET, times=5)
            return start(platform)[0], 20
        case "an export that fails" | "an export that fails for now":
            platform.trouble("job_fails", code=9100 if "for now" in failure else 9101, times=1)
            return start(platform)[0], 20
        case "an export that fails in a list":
            platform.trouble("job_fails", code=9101, times=1)
            return start(platform, 3), 20
        case "an export that takes too long":
            platform.knobs.stuck = True
            return start(platform)[0], SHORT
        case "maintenance without end":
            [export_id] = start(platform)
            platform.trouble("error", status=503, code=0, path=GET, times=FOREVER)
            return export_id, SHORT
        case "an object that is not there":
            [export_id] = start(platform)
            wait_for_jobs(platform)
            location = platform.exports[0].location
            Path(urlsplit(platform.object_url("demo/results", location)).path).unlink()
            return export_id, None
        case _:
            trouble, options = {
                "a rate limit for a while": ("error", {"status": 429, "code": 1000}),
                "maintenance for a while": ("error", {"status": 503, "code": 0}),
                "no network for a while": ("drop", {}),
                "a gateway's page for a while": ("html", {"status": 502}),
            }[failure]
            platform.trouble(trouble, path=GET, times=2, **options)
            return start(platform)[0], 20


def polls(platform):
    return [record for record in platform.requests if record.path == GET]


def resume(make, context, deferred):
    """Run a trigger like the triggerer, and resume the sensor like a worker."""
    trigger, method, seconds = deferred
    trigger.poll_interval = 0.05
    try:
        event = asyncio.run(asyncio.wait_for(first_event(trigger), seconds))
    except TimeoutError:
        return make().resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    return make().resume_execution(method, {"event": event}, context)


async def first_event(trigger):
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")


def run(make, monkeypatch):
    """Run a sensor like Airflow: each rescheduled poke and each resumption is a new process."""
    began = datetime.now(UTC)
    ti = SimpleNamespace(
        dag_id="d",
        task_id="wait",
        run_id="r",
        map_index=-1,
        try_number=1,
        max_tries=0,
        get_first_reschedule_date=lambda context: began,
    )
    if AIRFLOW < (3,):
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **which: began)
    context = {"ti": ti, "outlet_events": {}}
    sensor = make()
    if sensor.start_from_trigger:
        arguments = sensor.start_trigger_args
        trigger = pkgutil.resolve_name(arguments.trigger_cls)(**arguments.trigger_kwargs)
        return resume(make, context, (trigger, arguments.next_method, arguments.timeout.total_seconds()))
    while True:
        try:
            return make().execute(context)
        except AirflowRescheduleException as again:
            time.sleep(max(0, (again.reschedule_date - datetime.now(UTC)).total_seconds()))
        except TaskDeferred as deferred:
            return resume(make, context, (deferred.trigger, deferred.method_name, None))


@pytest.mark.parametrize(("failure", "flags", "mode", "end"), cells())
def test_a_sensor_ends_as_its_flags_require(platform, monkeypatch, failure, flags, mode, end):
    export_id, timeout = have(failure, platform, monkeypatch)
    if timeout is None:
        timeout = SHORT if FLAGS[flags].get("silent_fail") and end in (TIMEOUT, SKIP) else 20
    how = {
        "poke": {"deferrable": False},
        "reschedule": {"deferrable": False, "mode": "reschedule"},
        "deferrable": {"deferrable": True},
        "from trigger": {"start_from_trigger": True},
    }[mode]

    def make():
        return SevenBridgesExportSensor(
            task_id="wait", export_id=export_id, poke_interval=0.05, timeout=timeout, **how, **FLAGS[flags]
        )

    assert end_of(lambda: run(make, monkeypatch)) == end


@pytest.mark.parametrize(("flags", "end"), zip(FLAGS, (RETRY, RETRY, RETRY, SKIP, RETRY, SKIP), strict=True))
def test_a_sensor_whose_trigger_fails_ends_as_its_flags_require(platform, flags, end):
    sensor = SevenBridgesExportSensor(task_id="wait", export_id="a", deferrable=True, **FLAGS[flags])
    assert end_of(lambda: sensor.resume_execution("__fail__", {"error": "Trigger failure"}, {})) == end


def end_of(task):
    try:
        task()
    except AirflowSkipException:
        return SKIP
    except AirflowSensorTimeout:
        return TIMEOUT
    except AirflowFailException:
        return FAIL
    except AirflowException:
        return RETRY
    return OK
