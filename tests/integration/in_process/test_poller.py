"""Many triggers in one event loop, as in a triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time

import pytest

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers import poller as polling
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import cancel_when, first_event, paths

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


def polled_together(platform, ids, requests):
    """Whether the last requests, so many, were one poll of all these ids."""
    last = [each for record in polls(platform)[-requests:] for each in record.json["export_ids"]]
    return len(last) == len(ids) and set(last) == set(ids)


def count_connection_reads(monkeypatch):
    connection_reads = []
    real = polling.load_settings

    async def read_connection(conn_id):
        connection_reads.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(polling, "load_settings", read_connection)
    return connection_reads


def trigger(*ids, interval=0.3, **options):
    return SevenBridgesExportTrigger(list(ids), options.pop("conn_id", CONN), interval, **options)


def gather(triggers):
    async def run():
        return await asyncio.gather(*(first_event(each) for each in triggers))

    return asyncio.run(run())


def test_many_tasks_share_one_request_per_hundred_and_one_connection_read(platform, started, monkeypatch):
    connection_reads = count_connection_reads(monkeypatch)
    platform.knobs.stuck = True
    ids = started(250)
    # On a busy machine some triggers start later than the others, and are polled in requests of their own at first.
    asyncio.run(cancel_when(lambda: polled_together(platform, ids, 3), [trigger(each, interval=1.0) for each in ids]))
    assert len(connection_reads) == 1
    assert len({record.peer[1] for record in polls(platform)}) <= 4


def test_each_trigger_gets_its_own_result(platform, started):
    ids = started(120)
    events = gather([trigger(each) for each in ids])
    assert [event["job"]["id"] for event in events] == ids
    assert {event["status"] for event in events} == {"terminal"}


def test_an_unknown_id_fails_alone(platform, started):
    ids = [*started(3), "A" * 32]
    events = gather([trigger(each, interval=0.05) for each in ids])
    assert [event["status"] for event in events] == ["terminal", "terminal", "terminal", "rejected"]


GET = "/v2/bulk/storage/exports/get"
HOWS = ["null", "missing", "stateless", "nul", "refused"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("place", [0, 57, 99])
def test_a_spoiled_id_affects_only_its_own_trigger(platform, started, how, place):
    ids = started(100)
    platform.trouble("spoiled_bulk", path=GET, times=0, ids=ids[place], how=how)
    # Only a body that cannot be read is polled until the end of the wait.
    ends = {ids[place]: time.time() + 6} if how == "nul" else {}
    events = gather([trigger(each, interval=0.3, end_time=ends.get(each)) for each in ids])
    assert {event["status"] for number, event in enumerate(events) if number != place} == {"terminal"}
    spoiled = events[place]
    assert spoiled["status"] == ("timeout" if how == "nul" else "rejected")
    assert spoiled["export_id"] == ids[place]
    # Fifteen requests to find it, then one per poll of it.
    assert len(polls(platform)) <= 16 + 2 * 6 / 0.3


@pytest.mark.parametrize("how", HOWS)
def test_several_spoiled_ids_affect_only_their_own_triggers(platform, started, how):
    ids = started(60)
    spoiled = ids[3:6]
    platform.trouble("spoiled_bulk", path=GET, times=0, ids=" ".join(spoiled), how=how)
    ends = dict.fromkeys(spoiled, time.time() + 10) if how == "nul" else {}
    events = gather([trigger(each, interval=0.2, end_time=ends.get(each)) for each in ids])
    assert [event["export_id"] for event in events if event["status"] != "terminal"] == spoiled


def test_a_spoiled_id_costs_one_request_more_in_a_long_wait(platform, started):
    platform.knobs.stuck = True
    ids = started(100)
    platform.trouble("spoiled_bulk", path=GET, times=0, ids=ids[7], how="nul")

    def is_apart():
        last = [record.json["export_ids"] for record in polls(platform)[-4:]]
        alone = [each for each in last if ids[7] in each]
        # On a busy machine some triggers start later than the others and are polled in requests of their own.
        return alone and all(len(each) == 1 for each in alone) and max(map(len, last)) > 90

    asyncio.run(cancel_when(is_apart, [trigger(each, interval=0.5) for each in ids]))


def test_a_temporarily_spoiled_id_finishes_like_the_others(platform, started):
    ids = started(20)
    platform.trouble("spoiled_bulk", path=GET, times=8, ids=ids[3], how="null")
    events = gather([trigger(each, interval=0.1) for each in ids])
    assert {event["status"] for event in events} == {"terminal"}


def test_a_response_in_another_order_gives_each_trigger_its_own_result(platform, started):
    ids = started(30)
    platform.trouble("swapped_bulk", path=GET, times=0)
    events = gather([trigger(each, interval=0.1) for each in ids])
    assert [event["job"]["id"] for event in events] == ids


def test_a_trigger_that_cannot_log_does_not_block_the_others(platform, started, monkeypatch):
    def broken():
        raise OSError("no thread can be started")

    monkeypatch.setattr(SevenBridgesExportTrigger, "logger", staticmethod(broken))
    platform.trouble("job_stuck", state="RUNNING", times=40)
    ids = started(40)
    platform.release(ids[-1])

    async def run():
        waits = [asyncio.create_task(first_event(trigger(each))) for each in ids]
        event = await waits[-1]
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return event

    assert asyncio.run(run())["status"] == "terminal"
    assert len(polls(platform)) <= 2


def test_a_terminal_job_is_not_polled_again(platform, started):
    platform.trouble("job_stuck", path="/v2/bulk/storage/exports/create")
    ids = started(60)
    is_less = lambda: polls(platform) and polls(platform)[-1].json["export_ids"] == ids[:1]  # noqa: E731
    asyncio.run(cancel_when(is_less, [trigger(*ids, interval=0.1)]))


def test_a_canceled_trigger_does_not_affect_the_others(platform, started):
    platform.knobs.running_seconds = 0.5
    ids = started(2)

    async def run():
        canceled = asyncio.create_task(first_event(trigger(ids[0])))
        remaining = asyncio.create_task(first_event(trigger(*ids)))
        await asyncio.sleep(0.2)
        canceled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await canceled
        return await remaining

    assert asyncio.run(run())["status"] == "terminal"


def test_the_poller_stops_with_the_last_trigger_and_starts_again(platform, started):
    [first, second] = started(2)

    async def run():
        before = asyncio.all_tasks()
        await first_event(trigger(first))
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.01)
        request_count = len(paths(platform))
        await asyncio.sleep(0.4)
        assert len(paths(platform)) == request_count
        return await first_event(trigger(second))

    assert asyncio.run(run())["status"] == "terminal"


def test_an_unexpected_error_does_not_end_a_wait(platform, started, monkeypatch):
    [export_id] = started(1)
    real = polling.SevenBridgesAsyncHook.send
    failures = [ZeroDivisionError("oops")]

    async def send(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return await real(self, *arguments, **options)

    monkeypatch.setattr(polling.SevenBridgesAsyncHook, "send", send)
    assert gather([trigger(export_id)])[0]["status"] == "terminal"


def test_an_unexpected_error_of_the_schedule_does_not_end_a_wait(platform, started, monkeypatch):
    [export_id] = started(1)
    real = polling.PollSchedule.next_batch
    failures = [ZeroDivisionError("oops")]

    def next_batch(self, now):
        if failures:
            raise failures.pop()
        return real(self, now)

    monkeypatch.setattr(polling.PollSchedule, "next_batch", next_batch)
    assert gather([trigger(export_id)])[0]["status"] == "terminal"


def test_polls_stay_within_the_rate_limit(platform, started):
    platform.knobs.update(stuck=True, rate_limit=20, rate_window=3)
    ids = started(300)
    asyncio.run(cancel_when(lambda: len(polls(platform)) > 40, [trigger(each, interval=0.1) for each in ids]))
    # The last request may have been canceled.
    assert {record.status for record in polls(platform)[:40]} == {200}


def test_two_connections_to_the_same_account_share_a_poller(platform, started, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_TWIN", os.environ["AIRFLOW_CONN_SEVENBRIDGES_DEFAULT"])
    connection_reads = count_connection_reads(monkeypatch)
    platform.knobs.stuck = True
    ids = started(40)
    triggers = [trigger(each, conn_id=CONN if n % 2 else "twin") for n, each in enumerate(ids)]
    asyncio.run(cancel_when(lambda: polled_together(platform, ids, 1), triggers))
    assert sorted(connection_reads) == [CONN, "twin"]
    assert len({record.peer[1] for record in polls(platform)}) <= 4


def test_a_connection_whose_token_changes_polls_with_the_new_one(platform, started, monkeypatch):
    """Both start with one token; then one connection gets the token of another user, who has no exports."""
    other = platform.platform.add_user("other").token
    monkeypatch.setenv("AIRFLOW_CONN_TWIN", os.environ["AIRFLOW_CONN_SEVENBRIDGES_DEFAULT"])
    monkeypatch.setattr(polling, "CONNECTION_TTL", 0.4)
    platform.knobs.stuck = True
    [mine, twins] = started(2)

    async def run():
        waits = [first_event(trigger(mine, end_time=time.time() + 2)), first_event(trigger(twins, conn_id="twin"))]
        tasks = [asyncio.create_task(each) for each in waits]
        await asyncio.sleep(0.3)
        connection = json.loads(os.environ["AIRFLOW_CONN_TWIN"])
        monkeypatch.setenv("AIRFLOW_CONN_TWIN", json.dumps({**connection, "password": other}))
        return await asyncio.gather(*tasks)

    events = asyncio.run(run())
    assert [event["status"] for event in events] == ["timeout", "rejected"]
    assert {record.username for record in polls(platform)} == {
        platform.platform.users[platform.token].username,
        "other",
    }


def test_a_final_poll_is_sent_at_the_end(platform, started):
    """A job that finished since the last poll finished in time."""
    platform.trouble("job_stuck", state="RUNNING", path="/v2/bulk/storage/exports/create")
    [export_id] = started(1)

    async def run():
        wait = asyncio.create_task(first_event(trigger(export_id, interval=600.0, end_time=time.time() + 8)))
        while not (polls(platform) and polls(platform)[0].status):
            await asyncio.sleep(0.01)
        platform.release(export_id)
        return await wait

    event = asyncio.run(run())
    assert event["status"] == "terminal"
    assert len(polls(platform)) == 2


def test_the_metrics_of_the_poller(platform, started, monkeypatch):
    delivered = {}

    class Metrics:
        incr = gauge = staticmethod(lambda name, value=1, tags=None: delivered.setdefault(name, []).append(value))

    monkeypatch.setattr(polling, "Stats", Metrics)
    gather([trigger(each) for each in started(3)])
    assert set(delivered) == {
        "sevenbridges.poller.starts",
        "sevenbridges.poller.requests",
        "sevenbridges.poller.waiters",
        "sevenbridges.poller.cycle_seconds",
        "sevenbridges.poller.rate_limit_remaining",
    }
    assert len(delivered["sevenbridges.poller.requests"]) == len(polls(platform))
    assert (delivered["sevenbridges.poller.waiters"][0], delivered["sevenbridges.poller.waiters"][-1]) == (3, 0)
    assert delivered["sevenbridges.poller.rate_limit_remaining"][-1] <= 10**6 - len(polls(platform))


@pytest.mark.parametrize("conn_id", [CONN, "not_there"])
def test_only_some_of_many_finished_triggers_are_released_at_a_time(platform, started, monkeypatch, conn_id):
    """Airflow keeps a finished trigger until a thread has logged its event; the others are delivered after that."""
    monkeypatch.setattr(polling, "COMPLETION_BACKOFF", 60.0)
    ids = started(300)
    delivered = []

    async def receive_event(each, may_complete):
        async for event in trigger(each, conn_id=conn_id).run():
            delivered.append(event.payload["export_id"])
            await may_complete.wait()

    async def run():
        may_complete = asyncio.Event()
        tasks = [asyncio.create_task(receive_event(each, may_complete)) for each in ids]
        while len(delivered) < polling.MAX_COMPLETING:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        released = len(delivered)
        may_complete.set()
        await asyncio.gather(*tasks)
        return released

    assert asyncio.run(run()) < polling.MAX_COMPLETING + 4 * polling.YIELD_EVERY
    assert sorted(delivered) == sorted(ids)


def test_a_trigger_that_is_canceled_during_delivery_blocks_no_other(platform, monkeypatch):
    monkeypatch.setattr(polling, "COMPLETION_BACKOFF", 60.0)
    monkeypatch.setattr(polling, "MAX_COMPLETING", 1)

    async def run():
        delivered, may_complete = [], asyncio.Event()

        async def receive_event(each):
            async for _ in trigger(each, conn_id="not_there").run():
                delivered.append(each)
                await may_complete.wait()

        pair = {each: asyncio.create_task(receive_event(each)) for each in ("a", "b")}
        while not delivered:
            await asyncio.sleep(0.01)
        third = asyncio.create_task(first_event(trigger("c", conn_id="not_there")))
        await asyncio.sleep(0.1)
        pair.pop("b" if delivered == ["a"] else "a").cancel()
        may_complete.set()
        await asyncio.gather(*pair.values())
        return await third

    assert asyncio.run(run())["status"] == "rejected"


def test_triggers_that_never_complete_do_not_block_the_others(platform, started, monkeypatch):
    monkeypatch.setattr(polling, "COMPLETION_BACKOFF", 0.05)
    ids = started(300)

    async def stay(each, delivered):
        async for _ in trigger(each).run():
            delivered.append(each)
            await asyncio.Event().wait()

    async def run():
        delivered = []
        tasks = [asyncio.create_task(stay(each, delivered)) for each in ids]
        while len(delivered) < len(ids):
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
