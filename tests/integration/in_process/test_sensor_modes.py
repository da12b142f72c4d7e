"""The sensor behaves the same whether it pokes, is rescheduled or deferred."""

from __future__ import annotations

import json
import threading
import time

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.in_process.conftest import use_token

GET = "/v2/bulk/storage/exports/get"


@pytest.fixture
def started(platform):
    """Starts exports of new files and returns their ids."""

    def start(count=1):
        hook = SevenBridgesHook()
        files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(count)]
        return [hook.start_export(file, "demo/results", f"s/{file}").id for file in files]

    return start


def test_one_export(platform, started, wait):
    platform.knobs.running_seconds = 0.3
    [export_id] = started()
    result = wait(export_id)
    assert (result["export_id"], result["state"], result["size"]) == (export_id, "COMPLETED", 10)
    assert json.loads(json.dumps(result)) == result


@pytest.mark.parametrize("form", [list, str, json.dumps])
def test_several_exports(platform, started, wait, form):
    platform.knobs.running_seconds = 0.3
    ids = started(3)
    assert [result["export_id"] for result in wait(form(ids))] == ids


@pytest.mark.parametrize("nothing", [None, "None", [], "[]", [None], "[None]"])
def test_without_ids_no_request_is_sent(platform, wait, nothing):
    assert wait(nothing) is None
    assert not platform.requests


@pytest.mark.parametrize("junk", ["", "a/b", "../files", 1.5, ["ok", True], {"export_id": "x"}])
@pytest.mark.parametrize("soft_fail", [False, True])
def test_invalid_ids_are_rejected(platform, wait, junk, soft_fail):
    with pytest.raises(AirflowFailException):
        wait(junk, soft_fail=soft_fail)
    assert not platform.requests


def test_more_than_a_thousand_ids_are_rejected(platform, wait):
    with pytest.raises(AirflowFailException, match="1001 ids are too many"):
        wait([f"e{number}" for number in range(1001)])
    assert not platform.requests


@pytest.mark.parametrize("finished_before", [True, False], ids=["before the first poll", "later"])
@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_failed_export_fails_or_skips_the_sensor(platform, started, wait, finished_before, soft_fail):
    platform.trouble("job_fails", code=9101, message="Read-only, according to the bucket.")
    platform.knobs.running_seconds = 0 if finished_before else 0.3
    [export_id] = started()
    while finished_before and platform.exports[0].state != "FAILED":
        time.sleep(0.01)
    with pytest.raises(AirflowSkipException if soft_fail else AirflowFailException) as caught:
        wait(export_id, soft_fail=soft_fail)
    failure = caught.value.__cause__ if soft_fail else caught.value
    assert export_id in str(failure)
    assert "Read-only, according to the bucket." in str(failure)


@pytest.mark.parametrize("soft_fail", [False, True])
def test_a_timeout_fails_or_skips_the_sensor(platform, started, wait, soft_fail):
    platform.knobs.stuck = True
    [export_id] = started()
    with pytest.raises(AirflowSkipException if soft_fail else AirflowSensorTimeout):
        wait(export_id, timeout=0.3, soft_fail=soft_fail)
    assert platform.exports[0].state == "PENDING"


@pytest.mark.parametrize("soft_fail", [False, True])
def test_an_unknown_export_fails_the_sensor(platform, wait, soft_fail, monkeypatch):
    # A sensor gives the triggerer a second or more between polls.
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.MAX_CONSECUTIVE_REJECTIONS", 2)
    with pytest.raises(AirflowException) as caught:
        wait("A" * 32, soft_fail=soft_fail)
    assert not isinstance(caught.value, AirflowSkipException)
    assert "A" * 32 in str(caught.value)
    assert "token" in str(caught.value)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_new_job_that_is_not_visible_yet_is_waited_for(platform, started, wait, monkeypatch, status):
    """A rescheduled sensor, which does not know the polls before, waits for it too."""
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 30.0)
    [export_id] = started()
    hidden = platform.trouble("error", path=GET, times=5, status=status, code=9000 + status)
    assert wait(export_id)["state"] == "COMPLETED"
    assert hidden.struck == 5


def test_a_worker_tolerates_a_temporary_rejection_after_the_trigger(platform, started, monkeypatch):
    """The worker's reads may lag behind the triggerer's."""
    monkeypatch.setattr("airflow_sb_provider.jobs.watch.REJECTED_FOR", 30.0)
    ids = started(2)
    while any(job.state != "COMPLETED" for job in platform.exports):
        time.sleep(0.01)
    hidden = platform.trouble("spoiled_bulk", path=GET, times=3, ids=ids[1], how="refused")
    sensor = SevenBridgesExportSensor(task_id="wait", export_id=ids, poke_interval=0.1, deferrable=True)
    results = sensor.execute_complete({}, {"status": "terminal"})
    assert [result["export_id"] for result in results] == ids
    assert hidden.struck == 3


def test_an_object_that_appears_late_is_read(platform, started, wait, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 30.0)
    monkeypatch.setattr("airflow_sb_provider.engine.result.OBJECT_RECHECK_INTERVAL", 0.05)
    [export_id] = started()
    path = "/v2/storage/volumes/demo/results/object"
    hidden = platform.trouble("error", path=path, method="GET", times=5, status=404, code=9105)
    assert wait(export_id)["size"] == 10
    assert hidden.struck == 5


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("error", {"status": 429, "code": 1000}),
        ("error", {"status": 503, "code": 0}),
        ("error", {"status": 500, "code": 90004}),
        ("html", {"status": 502}),
        ("html", {"status": 200}),
        ("html", {"status": 404, "body": "default backend - 404"}),
        ("html", {"status": 403}),
        ("html", {"status": 401}),
        ("html", {"status": 400, "body": ""}),
        ("cut_json", {}),
        ("drop", {}),
        ("short_bulk", {}),
    ],
    ids=str,
)
def test_transient_errors_do_not_end_the_wait(platform, started, wait, fault, options):
    ids = started(2)
    struck = platform.trouble(fault, path=GET, times=5, **options)
    assert [result["state"] for result in wait(ids)] == ["COMPLETED", "COMPLETED"]
    assert struck.struck == 5


def test_responses_in_another_order_are_put_in_order(platform, started, wait):
    ids = started(3)
    platform.trouble("swapped_bulk", path=GET, times=0)
    assert [result["export_id"] for result in wait(ids)] == ids


def test_a_spoiled_id_is_named(platform, started, wait, mode, caplog):
    platform.knobs.running_seconds = 0.3
    ids = started(5)
    platform.trouble("spoiled_bulk", path=GET, times=0, ids=ids[2], how="refused")
    with pytest.raises(AirflowException, match=f"Export {ids[2]} cannot be polled"):
        wait(ids)


@pytest.mark.parametrize("knob", ["offline", "maintenance"])
def test_an_outage_does_not_end_the_wait(platform, started, wait, knob):
    [export_id] = started()
    platform.knobs.update(**{knob: True})
    threading.Timer(0.7, platform.knobs.update, kwargs={knob: False}).start()
    assert wait(export_id)["state"] == "COMPLETED"


def test_a_token_replaced_during_the_wait_is_used(platform, started, wait, monkeypatch, mode):
    platform.trouble("job_stuck", state="RUNNING")
    [export_id] = started()
    user, old = platform.platform.users[platform.token], platform.token
    tokens = []

    def rotate(record):
        tokens.append(record.headers["X-SBG-Auth-Token"])
        if len(tokens) == 1:
            # From the next request on only the new token is valid; then the connection gets it.
            platform.platform.users["n" * 32] = user
        elif len(tokens) == 2:
            platform.platform.users.pop(old, None)
            use_token(monkeypatch, platform, "n" * 32)
        elif tokens[-1] != old:
            platform.release(export_id)

    platform.on("request", rotate)
    assert wait(export_id)["state"] == "COMPLETED"
    assert tokens[0] == old
    assert tokens[-1] == "n" * 32
