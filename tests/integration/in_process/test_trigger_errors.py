"""Errors while a trigger waits: which it survives, which end it, and that no event contains the token."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict

import pytest

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import first_event, use_token

GET = "/v2/bulk/storage/exports/get"
CONNECTION = "sevenbridges_default"


@pytest.fixture
def started(platform):
    def start():
        file = platform.add_file("a.txt", b"some bytes").id
        return SevenBridgesHook().start_export(file, "demo/results", "t.txt").id

    return start


def event_of(*ids, end_time=None):
    return asyncio.run(first_event(SevenBridgesExportTrigger(ids, CONNECTION, 0.05, end_time)))


def polls(platform):
    return [record for record in platform.requests if record.path == GET]


@pytest.mark.parametrize("running", [0, 0.4], ids=["ended before the first poll", "ended later"])
def test_the_event_of_a_completed_export(platform, started, running):
    platform.knobs.running_seconds = running
    export_id = started()
    event = event_of(export_id)
    assert event["status"] == "terminal"
    assert event["job"]["id"] == export_id
    assert json.loads(json.dumps(event)) == event
    assert {record.method for record in polls(platform)} == {"POST"}
    assert len(platform.exports) == 1


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("error", {"status": 503, "code": 0}),
        ("error", {"status": 500, "code": 90004}),
        ("html", {"status": 502}),
        ("html", {"status": 503, "body": ""}),
        ("html", {"status": 404, "body": "default backend - 404"}),
        ("html", {"status": 403, "body": '{"message": "Forbidden"}'}),
        ("html", {"status": 401}),
        ("html", {"status": 400, "body": ""}),
        ("cut_json", {}),
        ("drop", {}),
        ("short_bulk", {}),
    ],
    ids=str,
)
def test_transient_errors_do_not_end_it(platform, started, fault, options, caplog):
    export_id = started()
    platform.trouble(fault, path=GET, times=6, **options)
    with caplog.at_level(logging.INFO):
        assert event_of(export_id)["status"] == "terminal"
    assert len(polls(platform)) == 7


@pytest.mark.parametrize(
    ("trouble", "options"),
    [
        ("error", {"status": 503, "code": 0}),
        ("error", {"status": 503, "code": 90005}),
        ("error", {"status": 429, "code": 1000}),
        ("html", {"status": 502}),
        ("drop", {}),
    ],
    ids=str,
)
def test_a_failing_poll_of_many_tasks_is_one_line_in_the_log_of_each(
    platform, monkeypatch, caplog, capsys, trouble, options
):
    """When it begins and when it ends, however often it is repeated; and it names no other task's export."""
    platform.knobs.stuck = True
    files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(25)]
    ids = [SevenBridgesHook().start_export(file, "demo/results", f"{file}.txt").id for file in files]
    logs, contexts = defaultdict(list), []

    def write(context, logger, lines):
        contexts.append(context)
        logs[id(context)].extend(lines)

    monkeypatch.setattr("airflow_sb_provider.triggers.base.log_writer.write", write)
    caplog.set_level(logging.INFO)
    capsys.readouterr()
    fault = platform.trouble(trouble, path=GET, times=0, **options)

    async def wait():
        waits = [
            asyncio.create_task(first_event(SevenBridgesExportTrigger([job_id], CONNECTION, 0.1))) for job_id in ids
        ]
        while len(logs) < 25 or fault.struck < 6:
            await asyncio.sleep(0.05)
        platform.troubles.clear()
        while not all("Polling recovered." in lines for lines in logs.values()):
            await asyncio.sleep(0.05)
        platform.knobs.stuck = False
        return await asyncio.gather(*waits)

    assert {event["status"] for event in asyncio.run(wait())} == {"terminal"}
    assert fault.struck >= 6
    assert len(logs) == 25
    for lines in logs.values():
        failed, recovered = [line for line in lines if line.startswith("Polling")]
        assert failed.startswith("Polling failed; still waiting: ")
        assert "\n" not in failed
        assert not any(job_id in failed for job_id in ids)
        assert recovered == "Polling recovered."
    assert not [record for record in caplog.records if record.name.startswith("airflow")]
    assert "Polling" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_rejection_ends_it_at_the_third_poll(platform, started, status):
    export_id = started()
    platform.trouble("error", path=GET, times=0, status=status, code=9000 + status, message="Who are you?")
    event = event_of(export_id)
    assert event["status"] == "rejected"
    assert "Who are you?" in event["message"]
    assert export_id in event["message"]
    assert len(polls(platform)) == 3
    assert platform.token not in json.dumps(event)


@pytest.mark.parametrize("body", ["router", "empty"])
def test_a_rejected_token_with_another_response_body_ends_it_too(platform, started, monkeypatch, body):
    export_id = started()
    platform.knobs.unauthorized_body = body
    use_token(monkeypatch, platform, "f" * 32)
    assert event_of(export_id)["status"] == "rejected"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_temporary_rejection_does_not_end_it(platform, started, status):
    platform.knobs.running_seconds = 0.3
    export_id = started()
    platform.trouble("error", path=GET, times=2, status=status, code=9000 + status)
    platform.trouble("error", path=GET, times=2, after=3, status=status, code=9000 + status)
    assert event_of(export_id)["status"] == "terminal"


@pytest.mark.parametrize("status", [403, 404])
def test_a_new_job_that_is_not_visible_yet_is_waited_for(platform, started, monkeypatch, status):
    """However often it is polled while the Platform may not yet know its id or its permission."""
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 30.0)
    export_id = started()
    platform.trouble("error", path=GET, times=8, status=status, code=9000 + status)
    assert event_of(export_id)["status"] == "terminal"
    assert len(polls(platform)) == 9


def test_its_end_is_an_absolute_time(platform, started):
    platform.knobs.stuck = True
    export_id = started()
    end_time = time.time() + 2
    trigger = SevenBridgesExportTrigger([export_id], CONNECTION, 0.5, end_time)

    async def interrupted_then_restarted():
        first = asyncio.create_task(first_event(trigger))
        await asyncio.sleep(0.7)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return await first_event(trigger)

    event = asyncio.run(interrupted_then_restarted())
    assert event["status"] == "timeout"
    assert event["job"]["state"] == "PENDING"
    assert end_time <= time.time()


def test_two_triggers_of_one_export_both_get_its_event(platform, started):
    """Airflow may run a trigger twice for a moment."""
    platform.knobs.running_seconds = 0.3
    trigger = SevenBridgesExportTrigger([started()], CONNECTION, 0.05)

    async def both():
        return await asyncio.gather(first_event(trigger), first_event(trigger))

    assert [event["status"] for event in asyncio.run(both())] == ["terminal", "terminal"]
    assert len(platform.exports) == 1


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_canceled_trigger_leaves_no_task(platform, started):
    platform.knobs.stuck = True
    trigger = SevenBridgesExportTrigger([started()], CONNECTION, 0.05)

    async def cancel():
        task = asyncio.create_task(first_event(trigger))
        while not polls(platform):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [left for left in asyncio.all_tasks() if left is not asyncio.current_task()]

    assert asyncio.run(cancel()) == []
    polls_before = len(polls(platform))
    time.sleep(0.2)
    assert len(polls(platform)) == polls_before


def test_a_job_that_finished_while_no_triggerer_ran_finished_in_time(platform, started):
    export_id = started()
    while platform.exports[0].state != "COMPLETED":
        time.sleep(0.01)
    assert event_of(export_id, end_time=time.time() - 60)["status"] == "terminal"


def test_after_the_end_an_unavailable_platform_does_not_extend_the_wait(platform, started, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.FINAL_POLL_TIMEOUT", 0.5)
    export_id = started()
    platform.knobs.offline = True
    assert event_of(export_id, end_time=time.time() - 60)["status"] == "timeout"
