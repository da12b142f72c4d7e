"""What a sensor reports of each id in its log and for its tab, in every mode and however it ends."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs import report as report_module
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.task_status import STATUS
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.test_status_schema import KINDS, check

CONNECTION = "sevenbridges_default"


@pytest.fixture
def started(platform):
    """Starts exports of new files and returns their ids."""

    def start(count=1):
        hook = SevenBridgesHook()
        numbers = range(len(platform.exports), len(platform.exports) + count)
        files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in numbers]
        return [
            hook.start_export(file, "demo/results", f"s/{number}").id
            for number, file in zip(numbers, files, strict=True)
        ]

    return start


def test_each_id_that_completed_is_in_log_and_tab(platform, started, wait, xcom, capsys):
    ids = started(3)
    wait(ids)
    log = capsys.readouterr().out
    for number, export_id in enumerate(ids):
        assert f"Export {export_id} is COMPLETED: demo/results/s/{number}, 10 bytes." in log
    assert "3 of 3 exports completed, 0 failed." in log
    status = xcom[STATUS]
    check(xcom.items())
    assert set(status) == set(KINDS["sensor"]["properties"])
    assert (status["kind"], status["total"], status["counts"], status["error"]) == ("sensor", 3, {"COMPLETED": 3}, None)
    assert status["jobs"] == [
        {"id": export_id, "state": "COMPLETED", "text": f"demo/results/s/{number}, 10 bytes"}
        for number, export_id in enumerate(ids)
    ]


@pytest.mark.parametrize("soft_fail", [False, True])
def test_the_failed_ones_come_first_with_their_reasons(platform, started, wait, xcom, capsys, soft_fail):
    platform.trouble("job_fails", after=1, code=9103, message="Access\ndenied.")
    ids = started(3)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as caught:
        wait(ids, soft_fail=soft_fail)
    log = capsys.readouterr().out
    assert "2 of 3 exports completed, 1 failed." in log
    assert f"Export {ids[0]} is COMPLETED" in log
    if soft_fail:
        # Airflow writes this text into the log.
        assert str(caught.value).startswith(f"Skipping because soft_fail is set: Export {ids[1]}")
        assert "Access denied." in str(caught.value)
    status = xcom[STATUS]
    check(xcom.items())
    assert [job["id"] for job in status["jobs"]] == [ids[1], ids[0], ids[2]]
    assert status["jobs"][0]["state"] == "FAILED"
    assert "Access denied." in status["jobs"][0]["text"]
    assert (status["counts"], status["error"]["outcome"]) == ({"COMPLETED": 2, "FAILED": 1}, "FAILED")


@pytest.mark.parametrize("flag", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)
def test_a_time_out_names_what_is_still_open(platform, started, wait, xcom, capsys, flag):
    ids = started(2)
    while any(job.state != "COMPLETED" for job in platform.exports):
        time.sleep(0.01)
    platform.knobs.stuck = True
    ids += started()
    with pytest.raises(AirflowSkipException if flag else AirflowSensorTimeout) as caught:
        wait(ids, timeout=0.3, **flag)
    log = capsys.readouterr().out + str(caught.value)
    assert f"1 of 3 exports did not finish in time: {ids[2]} (PENDING). They continue on the Platform." in log
    # Airflow writes this text into the log. It is its own if the sensor pokes and soft_fail is set.
    assert "Skipping because" in str(caught.value) or "Sensor has timed out" in str(caught.value) or not flag
    check(xcom.items())
    assert xcom[STATUS]["error"]["outcome"] == "TIMEOUT"
    assert [(job["id"], job["state"]) for job in xcom[STATUS]["jobs"]] == [
        (ids[2], "PENDING"),
        (ids[0], "COMPLETED"),
        (ids[1], "COMPLETED"),
    ]


def test_an_export_that_finished_after_the_trigger_had_timed_out(platform, started, xcom):
    [export_id] = started()
    while platform.exports[0].state != "COMPLETED":
        time.sleep(0.01)
    ti = SimpleNamespace(try_number=1, xcom_push=lambda key, value: xcom.update({key: value}))
    sensor = SevenBridgesExportSensor(task_id="wait", export_id=export_id, deferrable=True)
    with pytest.raises(AirflowSensorTimeout, match="The last export finished after the time to wait"):
        sensor.resume_execution("execute_complete", {"event": {"status": "timeout"}}, {"ti": ti})
    assert xcom[STATUS]["jobs"][0]["state"] == "COMPLETED"


def test_ids_that_cannot_be_polled(platform, wait, xcom):
    with pytest.raises(AirflowException, match="cannot be polled"):
        wait(["A" * 32])
    check(xcom.items())
    assert xcom[STATUS]["jobs"] == [{"id": "A" * 32, "state": "UNKNOWN", "text": ""}]
    assert xcom[STATUS]["error"]["outcome"] == "IN_DOUBT"


@pytest.mark.parametrize("nothing", [None, []])
def test_nothing_to_wait_for(platform, wait, xcom, nothing):
    wait(nothing)
    check(xcom.items())
    assert (xcom[STATUS]["total"], xcom[STATUS]["jobs"]) == (0, [])


def test_of_very_many_the_tab_lists_the_first(platform, started, wait, xcom, capsys, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_LISTED", 2)
    platform.trouble("job_fails", after=3, code=9103)
    ids = started(4)
    with pytest.raises(AirflowFailException):
        wait(ids)
    assert [job["id"] for job in xcom[STATUS]["jobs"]] == [ids[3], ids[0]]
    assert (xcom[STATUS]["total"], xcom[STATUS]["counts"]) == (4, {"COMPLETED": 3, "FAILED": 1})
    assert "3 of 4 exports completed, 1 failed." in capsys.readouterr().out


# The task of a deferred wait is cleared or marked


@pytest.fixture
def canceled(platform, started, monkeypatch):
    """Starts exports, waits in a trigger, cancels it as Airflow does, and returns the ids and the log lines."""

    def run(count, *, kill, finished=0):
        lines, polls = [], "/v2/bulk/storage/exports/get"
        ids = started(finished)
        while any(job.state != "COMPLETED" for job in platform.exports):
            time.sleep(0.01)
        platform.knobs.stuck = True
        ids += started(count)
        write = lambda context, logger, new: lines.extend(new)  # noqa: E731
        monkeypatch.setattr("airflow_sb_provider.triggers.base.log_writer", SimpleNamespace(write=write))
        trigger = SevenBridgesExportTrigger(ids, CONNECTION, 0.05)

        async def cancel():
            task = asyncio.create_task(anext(trigger.run()))
            while sum(record.path == polls for record in platform.requests) < 2:
                await asyncio.sleep(0.01)
            lines.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if kill:
                await trigger.on_kill()

        asyncio.run(cancel())
        return ids, lines

    return run


def test_a_deferred_task_that_is_cleared_or_marked_logs_that_its_exports_continue(canceled):
    ids, [line] = canceled(2, kill=True)
    assert line.startswith("Airflow ended this wait: the task was cleared or marked")
    assert f"The Platform cannot cancel the exports {ids[0]}, {ids[1]}, which may continue." in line


def test_it_names_only_the_exports_that_are_open(canceled):
    ids, [line] = canceled(1, kill=True, finished=1)
    assert f"cannot cancel the export {ids[1]}, which" in line
    assert ids[0] not in line


def test_it_names_ten_of_many(canceled):
    ids, [line] = canceled(12, kill=True)
    assert ids[9] in line
    assert ids[10] not in line
    assert "and 2 more" in line


def test_a_triggerer_that_stops_logs_nothing(canceled):
    assert canceled(1, kill=False)[1] == []


def test_before_airflow_3_3_a_canceled_trigger_logs_it(canceled, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.triggers.base.TRIGGERS_ARE_KILLED", False)
    [export_id], [line] = canceled(1, kill=False)
    assert export_id in line


def test_a_trigger_that_never_polled_has_nothing_to_log():
    asyncio.run(SevenBridgesExportTrigger(["a"], CONNECTION, 0.05).on_kill())
