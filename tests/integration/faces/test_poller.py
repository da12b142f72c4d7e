"""Many triggers in one event loop, as in a triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers import poller as polling
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.faces.conftest import first_event, paths

CONN = "sevenbridges_default"


@pytest.fixture
def started(platform):
    def start(count):
        files = [platform.add_file(f"{number}.txt", b"x").id for number in range(count)]
        requests = [ExportRequest(file, "demo/archive", f"{file}.txt") for file in files]
        return [job.id for job in SevenBridgesHook().start_exports(requests, copy_only=True)]

    return start


def polls(platform):
    return [record for record in platform.requests if record.path == "/v2/bulk/storage/exports/get"]


def trigger(*ids, interval=0.3, **options):
    return SevenBridgesExportTrigger(list(ids), CONN, interval, **options)


def gather(triggers):
    async def run():
        return await asyncio.gather(*(first_event(each) for each in triggers))

    return asyncio.run(run())


def test_many_tasks_share_a_request_for_each_hundred_and_one_look_up(platform, started, monkeypatch):
    look_ups = []
    real = polling.SevenBridgesAsyncHook.reconnect

    async def reconnect(self):
        look_ups.append(self)
        await real(self)

    monkeypatch.setattr(polling.SevenBridgesAsyncHook, "reconnect", reconnect)
    platform.knobs.stuck = True
    ids = started(250)
    began = time.time()
    events = gather([trigger(each, end_time=began + 1.8) for each in ids])
    assert {event["status"] for event in events} == {"timeout"}
    cycles = 1.8 / 0.3 + 1
    assert len(polls(platform)) <= 3 * cycles
    assert {len(record.json["export_ids"]) for record in polls(platform)[:3]} <= {100, 50}
    assert len(look_ups) == 1
    assert len({record.peer[1] for record in polls(platform)}) <= 4


def test_everyone_gets_its_own_answer(platform, started):
    ids = started(120)
    events = gather([trigger(each) for each in ids])
    assert [event["job"]["id"] for event in events] == ids
    assert {event["status"] for event in events} == {"ended"}


def test_an_unknown_id_fails_alone(platform, started):
    ids = [*started(3), "A" * 32]
    events = gather([trigger(each, interval=0.05) for each in ids])
    assert [event["status"] for event in events] == ["ended", "ended", "ended", "refused"]


def test_what_has_ended_is_not_asked_for_again(platform, started):
    platform.trouble("job_stuck", path="/v2/bulk/storage/exports/create")
    ids = started(60)
    gather([trigger(*ids, interval=0.1, end_time=time.time() + 1.5)])
    assert len(polls(platform)[-1].json["export_ids"]) < 60


def test_one_waiter_that_leaves_touches_nobody_else(platform, started):
    platform.knobs.running_seconds = 0.5
    ids = started(2)

    async def run():
        leaving = asyncio.create_task(first_event(trigger(ids[0])))
        staying = asyncio.create_task(first_event(trigger(*ids)))
        await asyncio.sleep(0.2)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(run())["status"] == "ended"


def test_it_stops_with_the_last_waiter_and_starts_again(platform, started):
    [first, second] = started(2)

    async def run():
        before = asyncio.all_tasks()
        await first_event(trigger(first))
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before
        asked = len(paths(platform))
        await asyncio.sleep(0.4)
        assert len(paths(platform)) == asked
        return await first_event(trigger(second))

    assert asyncio.run(run())["status"] == "ended"


def test_its_own_mistake_does_not_end_a_wait(platform, started, monkeypatch):
    [export_id] = started(1)
    real = polling.SevenBridgesAsyncHook.get_exports
    failures = [ZeroDivisionError("oops")]

    async def get_exports(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return await real(self, *arguments, **options)

    monkeypatch.setattr(polling.SevenBridgesAsyncHook, "get_exports", get_exports)
    assert gather([trigger(export_id)])[0]["status"] == "ended"


def test_it_keeps_inside_the_rate_limit(platform, started):
    platform.knobs.update(stuck=True)
    ids = started(300)
    platform.knobs.update(rate_limit=20, rate_window=3)
    gather([trigger(each, interval=0.1, end_time=time.time() + 4) for each in ids])
    assert {record.status for record in polls(platform)} == {200}
