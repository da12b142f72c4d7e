"""The watcher's trigger in Airflow's own runner of triggers, with a database and a store that outlive it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from contextlib import asynccontextmanager, suppress

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.serialization.encoders import encode_trigger
from airflow.triggers.base import BaseEventTrigger

from airflow_sb_provider.exceptions import SevenBridgesError, SevenBridgesInputError
from airflow_sb_provider.exports.completed_feed import EXPORTS_PER_EVENT, IDS_PER_PAGE, completed_exports
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers.watcher import SevenBridgesExportEventTrigger
from tests.integration.in_process.conftest import Store, check_size, use_token

VOLUME = "demo/results"
KEY = f"sevenbridges exports sevenbridges_default {VOLUME}"
pytestmark = pytest.mark.asyncio


class NewStore(Store):
    """The asset store of Airflow 3.3.2, which 3.3.0 and 3.3.1 lack; `broken` makes writes fail."""

    broken = False

    async def aget(self, key, default=None):
        return self.get(key, default)

    async def aset(self, key, value):
        if self.broken:
            raise RuntimeError("the database is locked")
        self.set(key, value)

    async def adelete(self, key):
        self.delete(key)


class Triggerer:
    """Runs the watcher and records its events in a database, as long as `recording`."""

    def __init__(self, store=None):
        self.store = store or NewStore()
        self.database = []
        self.events = 0
        self.recording = True

    @property
    def delivered(self):
        return [event["export_id"] for event in self.database]

    @asynccontextmanager
    async def running(self, **fields):
        """Run until the block ends, which is like a kill: nothing more is written."""
        trigger = SevenBridgesExportEventTrigger(**{"volume": VOLUME, "poll_interval": 0.05, **fields})
        encoded = encode_trigger(trigger)
        kwargs = {name: smart_decode_trigger_kwargs(value) for name, value in encoded["kwargs"].items()}
        trigger = SevenBridgesExportEventTrigger(**kwargs)
        trigger.trigger_id = 7
        trigger.asset_state_store = self.store
        runner = TriggerRunner()
        runner.triggers[7] = {"name": "watcher", "events": 0, "is_watcher": True}
        watching = asyncio.create_task(runner.run_trigger(7, trigger))
        recording = asyncio.create_task(self._record(runner))
        try:
            yield watching
        finally:
            for task in (recording, watching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _record(self, runner):
        while True:
            while self.recording and runner.events:
                entry = runner.events.popleft()
                assert entry.persist_seq is not None
                check_size(entry.event.payload)
                self.events += 1
                self.database += entry.event.payload["exports"]
                runner._shared_streams.confirm_persisted([entry.persist_seq])
            await asyncio.sleep(0.01)

    @property
    def kept(self):
        """The ids that the store holds."""
        return [each for key, page in self.store.values.items() if key != KEY for each in page]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


async def export(platform, count=1):
    """Start exports and wait until they have completed; return their ids."""
    hook = SevenBridgesHook()
    made = []
    for _ in range(count):
        file = platform.add_file("a.txt", b"some bytes").id
        location = f"{len(platform.exports)}/a.txt"
        made.append(await asyncio.to_thread(hook.start_export, file, VOLUME, location, copy_only=True))
    await until(lambda: all(job.state == "COMPLETED" for job in platform.exports))
    return [job.id for job in made]


async def add_past_exports(platform, count, **finished):
    """Add completed exports of the past."""
    [made] = await export(platform)
    one = platform.platform.exports.pop(made)
    for number in range(count):
        job = dataclasses.replace(one, id=f"{number:032}", finished_on=one.finished_on.replace(**finished))
        platform.platform.exports[job.id] = job


def lists(platform):
    return [record for record in platform.requests if record.method == "GET" and record.path == "/v2/storage/exports"]


async def some_polls(platform, count=4):
    before = len(lists(platform))
    await until(lambda: len(lists(platform)) >= before + count)


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """A log that pytest captures, unlike Airflow's own once it is configured."""
    monkeypatch.setattr(SevenBridgesExportEventTrigger, "log", logging.getLogger("watcher"))


@pytest.fixture
def triggerer():
    return Triggerer()


@pytest.fixture
def started(platform, triggerer):
    """A triggerer whose store has the checkpoint of an earlier start."""
    triggerer.store.values[KEY] = {"since": 1, "pages": []}
    return triggerer


@pytest.mark.parametrize("store", [NewStore, Store])
async def test_the_payload_of_its_event(platform, store):
    triggerer = Triggerer(store())
    async with triggerer.running():
        await until(lambda: KEY in triggerer.store.values)
        [made] = await export(platform)
        await until(lambda: triggerer.delivered)
        await some_polls(platform)
    [job] = platform.exports
    [event] = triggerer.database
    assert event.pop("started_on") <= event.pop("finished_on")
    assert event == {
        "export_id": made,
        "file": job.file,
        "volume": VOLUME,
        "location": "0/a.txt",
        "uri": "s3://demo-results/exports/0/a.txt",
        "size": 10,
    }
    assert triggerer.kept == [made]


@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
async def test_exactly_once_across_clean_restarts(platform, started, order):
    platform.knobs.list_order = order
    made = []
    for _ in range(3):
        made += await export(platform, 2)
        async with started.running():
            await until(lambda: len(started.kept) == len(made))  # noqa: B023
            await some_polls(platform)
    assert sorted(started.delivered) == sorted(made)


async def test_the_first_start_reports_nothing_of_the_past(platform, triggerer):
    await export(platform)
    for job in platform.exports:
        job.finished_on = job.finished_on.replace(year=2020)
    async with triggerer.running():
        await some_polls(platform)
    assert triggerer.delivered == []


async def test_a_kill_before_the_database_loses_nothing(platform, started):
    made = await export(platform, 3)
    started.recording = False
    async with started.running():
        await some_polls(platform, 1)
        await asyncio.sleep(0.2)
    assert started.delivered == started.kept == []
    started.recording = True
    async with started.running():
        await until(lambda: len(started.kept) == 3)
    assert sorted(started.delivered) == sorted(made)


async def test_a_kill_between_database_and_store_repeats_the_event(platform, started):
    [first] = await export(platform)
    async with started.running():
        await until(lambda: started.kept == [first])
        started.store.broken = True
        [second] = await export(platform)
        await until(lambda: second in started.delivered)
        await asyncio.sleep(0.2)
    started.store.broken = False
    async with started.running():
        await until(lambda: len(started.kept) == 2)
    assert started.delivered == [first, second, second]


async def test_nothing_is_repeated_while_the_store_fails(platform, started, caplog):
    async with started.running():
        await some_polls(platform)
        started.store.broken = True
        made = await export(platform)
        await until(lambda: started.delivered)
        await asyncio.sleep(0.3)
        started.store.broken = False
        await until(lambda: started.kept)
    assert started.delivered == made
    assert [record.message for record in caplog.records if "failed" in record.message] == [
        f"Polling volume {VOLUME} failed; retrying: unexpected RuntimeError."
    ]


async def test_more_than_fit_into_a_page_and_a_stored_value(platform, started):
    await add_past_exports(platform, IDS_PER_PAGE + 230)
    async with started.running():
        await until(lambda: len(started.kept) == IDS_PER_PAGE + 230)
    assert started.events == math.ceil((IDS_PER_PAGE + 230) / EXPORTS_PER_EVENT)
    async with started.running():
        await some_polls(platform, 10)
    assert len(started.delivered) == len(set(started.delivered)) == IDS_PER_PAGE + 230
    assert sorted(started.store.values) == [KEY, f"{KEY} 1", f"{KEY} 2"]


ERRORS = {
    "maintenance": lambda platform, on: setattr(platform.knobs, "maintenance", on),
    "no connection": lambda platform, on: setattr(platform.knobs, "offline", on),
    "rate limit": lambda platform, on: setattr(platform.knobs, "rate_limit", 0 if on else 10**6),
}


@pytest.mark.parametrize("fault", ERRORS)
async def test_transient_errors_only_delay(platform, started, fault, caplog):
    caplog.set_level(logging.INFO)
    platform.knobs.rate_window = 0.5
    async with started.running() as watching:
        await some_polls(platform)
        ERRORS[fault](platform, True)
        await some_polls(platform, 2)
        ERRORS[fault](platform, False)
        made = await export(platform)
        await until(lambda: started.delivered)
        assert not watching.done()
    assert started.delivered == made
    messages = [record.message for record in caplog.records if VOLUME in record.message]
    assert len(messages) == 2
    assert "failed; retrying" in messages[0]
    assert messages[1] == f"Watching volume {VOLUME}: recovered."


async def test_a_rejected_token_is_logged_once_and_read_again(platform, started, monkeypatch, caplog):
    monkeypatch.setattr("airflow_sb_provider.triggers.watcher.REJECTED_PAUSE", 0.2)
    use_token(monkeypatch, platform, "an-old-token-refused")
    async with started.running():
        await until(lambda: len(platform.requests) >= 3)
        assert lists(platform) == []
        use_token(monkeypatch, platform, platform.token)
        made = await export(platform)
        await until(lambda: started.delivered)
    assert started.delivered == made
    [warning] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "HTTP 401" in warning
    assert "an-old-token" not in caplog.text


async def test_after_a_rejection_polls_are_rare(platform, started, caplog):
    async with started.running(volume="demo/unknown"):
        await until(lambda: "demo/unknown" in caplog.text)
        await asyncio.sleep(0.5)
    assert [record.path for record in platform.requests] == ["/v2/storage/volumes/demo/unknown"]
    assert "failed; retrying" in caplog.text


@pytest.mark.parametrize(
    ("fields", "store", "says"),
    [
        ({"sevenbridges_conn_id": "nowhere"}, None, "or change 'sevenbridges_conn_id'"),
        ({}, "none", "Use it in an AssetWatcher"),
        ({}, "two assets", "a watcher with a different 'poll_interval'"),
        (
            {},
            "spoilt",
            f"The key '{KEY}' of the asset's store is invalid: 'spoilt' is not a checkpoint. Delete it",
        ),
    ],
)
async def test_errors_that_a_person_must_fix(platform, triggerer, fields, store, says, caplog):
    if store == "none":
        triggerer.store = None
    elif store == "two assets":
        from airflow.sdk import Asset
        from airflow.sdk.execution_time.context import AssetStateStoreAccessors

        triggerer.store = AssetStateStoreAccessors([Asset("one"), Asset("two")])
    elif store == "spoilt":
        triggerer.store.values[KEY] = "spoilt"
    async with triggerer.running(**fields) as watching:
        await until(lambda: says in caplog.text)
        assert not watching.done()


async def test_exports_without_a_finish_time(platform, started, caplog):
    platform.knobs.omit = frozenset({"export.finished_on"})
    [made] = await export(platform)
    async with started.running():
        await some_polls(platform)
    assert caplog.text.count(f"Export {made} has no finish time") == 1
    assert started.delivered == []


@pytest.mark.parametrize("date", [0, 253402300799])
async def test_a_clock_that_is_far_off_does_not_decide_what_is_new(platform, triggerer, date, monkeypatch):
    def request(volume, offset):
        call = completed_exports(volume, offset)
        return dataclasses.replace(call, read=lambda body, headers: (call.read(body, headers)[0], date))

    monkeypatch.setattr("airflow_sb_provider.triggers.watcher.completed_exports", request)
    async with triggerer.running():
        await some_polls(platform)
        made = await export(platform, 2)
        await until(lambda: len(triggerer.delivered) == 2)
        await some_polls(platform)
    assert sorted(triggerer.delivered) == sorted(made)


@pytest.mark.parametrize(("past", "most"), [(3, 1), (450, 6)])
async def test_requests_of_a_quiet_watch(platform, triggerer, past, most):
    await add_past_exports(platform, past, year=2020)
    async with triggerer.running(poll_interval=0.6):
        await some_polls(platform, 2 * most)
        before = len(platform.requests)
        await asyncio.sleep(1.8)
    assert len(platform.requests) - before <= 4 * most


async def test_it_is_for_an_asset_watcher():
    trigger = SevenBridgesExportEventTrigger(VOLUME)
    assert isinstance(trigger, BaseEventTrigger)
    with pytest.raises(SevenBridgesError, match="only in an AssetWatcher"):
        await anext(trigger.run())


async def test_invalid_arguments():
    with pytest.raises(SevenBridgesInputError) as caught:
        SevenBridgesExportEventTrigger("results", "", 0)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "volume",
        "sevenbridges_conn_id",
        "poll_interval",
    ]
    for interval in (True, "60", float("nan"), float("inf"), -1):
        with pytest.raises(SevenBridgesInputError, match="poll_interval"):
            SevenBridgesExportEventTrigger(VOLUME, poll_interval=interval)


async def test_before_airflow_3_3(monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.triggers.watcher.AIRFLOW_CONFIRMS_EVENTS", False)
    with pytest.raises(SevenBridgesInputError, match=r"needs Airflow 3\.3 or newer; this is 3\."):
        SevenBridgesExportEventTrigger(VOLUME)


async def test_watches_that_are_the_same_are_one_trigger_of_airflow():
    same, other = ({"volume": VOLUME}, {"volume": VOLUME, "poll_interval": 61.0})
    hashes = [
        BaseEventTrigger.hash(*SevenBridgesExportEventTrigger(**each).serialize()) for each in (same, same, other)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "knobs",
    [
        {"list_lag_seconds": 0.3},
        {"stale_states": True},
        {"total_lies": True},
        {"list_order": "shuffled"},
        {"no_date_header": True},
        {"date_skew_seconds": -600},
        {"date_skew_seconds": 600},
    ],
    ids=str,
)
async def test_a_platform_whose_responses_are_late_or_wrong(platform, knobs):
    platform.knobs.update(**knobs)
    triggerer = Triggerer()
    async with triggerer.running():
        await until(lambda: KEY in triggerer.store.values)
        made = await export(platform, 5)
        await until(lambda: len(triggerer.delivered) >= 5)
    async with triggerer.running():
        made += await export(platform)
        await until(lambda: set(made) <= set(triggerer.delivered))


async def test_a_queue_needs_airflow_3_4(platform):
    """Airflow 3.3 would run the watch in any triggerer; `tests/matrix` has the queue on 3.4."""
    assert SevenBridgesExportEventTrigger(VOLUME, queue=None).volume == VOLUME
    with pytest.raises(SevenBridgesInputError, match=r"queue: it needs Airflow 3\.4 or newer; this is 3\.3"):
        SevenBridgesExportEventTrigger(VOLUME, queue="platform")
