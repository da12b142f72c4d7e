"""A try ends at a chosen point and the next one continues, with a record and without one (as on older Airflows)."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesExportFailed,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
)
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from tests.integration.in_process.conftest import (
    GATEWAY_TIMEOUT,
    Runner,
    paths,
    run_until_polled,
    submissions,
    use_token,
)

NEW, OLD = b"some bytes", b"old"
MOVE, COPY = {}, {"copy_only": True}
MOVE_OVER, COPY_OVER = {"overwrite": True}, {"overwrite": True, "copy_only": True}
INTENTS = [MOVE, MOVE_OVER, COPY, COPY_OVER]


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(params=[True, False], ids=["store", "no store"])
def has_store(request):
    return request.param


def kill(runner, operator, monkeypatch, point):
    """Run a try that is killed before its submission, before the response, or at its first poll."""
    real = SevenBridgesHook.send

    def send(self, call, **options):
        submits = (call.method, call.path) == ("POST", "storage/exports")
        if submits and point == "before the submission":
            raise Killed
        if call.path == "bulk/storage/exports/get" and point == "at a poll":
            raise Killed
        answer = real(self, call, **options)
        if submits and point == "before the response":
            raise Killed
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(SevenBridgesHook, "send", send)
        with pytest.raises(Killed):
            runner.run(operator)


@pytest.mark.parametrize("intent", [MOVE, COPY, COPY_OVER], ids=str)
def test_after_a_kill_before_the_submission_a_retry_submits_once(platform, export, monkeypatch, has_store, intent):
    runner, operator = Runner(store=has_store), export(**intent)
    before = time.time()
    kill(runner, operator, monkeypatch, "before the submission")
    result = runner.run(operator)
    assert not result["adopted"]
    assert len(platform.exports) == 1
    if intent is MOVE:
        assert submissions(platform)[0].time - before >= GATEWAY_TIMEOUT, "the first submission may have been accepted"


def test_after_a_kill_before_a_move_with_overwrite_a_retry_is_in_doubt(
    platform, export, monkeypatch, has_store, deferrable
):
    platform.put_object("demo/results", "a/b.txt", OLD)
    runner, operator = Runner(store=has_store), export(deferrable=deferrable, **MOVE_OVER)
    kill(runner, operator, monkeypatch, "before the submission")
    with pytest.raises(AirflowException, match="Check the object there and the file") as caught:
        runner.run(operator)
    assert isinstance(caught.value.__cause__, SevenBridgesInDoubt)
    assert not submissions(platform)
    assert platform.object_bytes("demo/results", "a/b.txt") == OLD


@pytest.mark.parametrize("instant", [False, True], ids=["running", "finished"])
@pytest.mark.parametrize("intent", INTENTS, ids=str)
def test_after_a_kill_before_the_response_a_retry_adopts_the_export(
    platform, export, monkeypatch, has_store, intent, instant
):
    platform.knobs.instant = instant
    if not instant:
        run_until_polled(platform)
    if intent.get("overwrite"):
        platform.put_object("demo/results", "a/b.txt", OLD)
    runner, operator = Runner(store=has_store), export(**intent)
    kill(runner, operator, monkeypatch, "before the response")
    result = runner.run(operator)
    may_repeat = intent is COPY_OVER and instant and not has_store
    assert result["adopted"] is not may_repeat
    assert len(platform.exports) == (2 if may_repeat else 1)
    assert platform.object_bytes("demo/results", "a/b.txt") == NEW


@pytest.mark.parametrize("instant", [False, True], ids=["running", "finished"])
@pytest.mark.parametrize("intent", INTENTS, ids=str)
def test_after_a_kill_at_a_poll_a_retry_adopts_the_export(platform, runner, export, monkeypatch, intent, instant):
    platform.knobs.running_seconds = 0.5
    operator = export(**intent)
    kill(runner, operator, monkeypatch, "at a poll")
    [job] = platform.exports
    while instant and job.state != "COMPLETED":
        time.sleep(0.02)
    result = runner.run(operator)
    assert result["adopted"]
    assert result["export_id"] == runner.xcom["export_id"] == job.id
    assert len(submissions(platform)) == 1


@pytest.mark.parametrize("intent", INTENTS, ids=str)
def test_a_cleared_task_adopts_the_running_export(platform, export, monkeypatch, has_store, deferrable, intent):
    run_until_polled(platform)
    runner = Runner(store=has_store)
    kill(runner, export(file=platform.add_file("a.txt", NEW).id, **intent), monkeypatch, "at a poll")
    runner.clear()
    [job] = platform.exports
    result = runner.run(export(file=job.file, deferrable=deferrable, **intent))
    assert result["adopted"]
    assert result["export_id"] == job.id
    assert len(platform.exports) == 1


def test_the_race_that_retries_a_deferred_task_exports_once(platform, runner, export):
    """Airflow 3.3.2 can mark a task failed while it is deferring; its trigger is then dropped."""
    platform.knobs.running_seconds = 0.5
    operator = export(deferrable=True)
    context = {"ti": _Instance(), "task_state_store": runner.store}
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    runner.try_number = 1
    assert runner.run(operator)["adopted"]
    assert len(platform.exports) == 1


class _Instance:
    try_number, max_tries = 1, 2

    def xcom_push(self, key, value):
        pass


def test_the_id_is_pushed_before_the_wait(platform, runner, export, monkeypatch):
    pushed = []

    def record_xcom(record):
        if record.path == "/v2/bulk/storage/exports/get":
            pushed.append(dict(runner.xcom))

    platform.on("request", record_xcom)
    runner.run(export())
    assert pushed[0]["export_id"] == platform.exports[0].id
    assert pushed[0]["sevenbridges_status"]["state"] == "PENDING"


@pytest.mark.parametrize("keep_task_state", [True, False])
@pytest.mark.parametrize("intent", INTENTS, ids=str)
def test_a_clear_that_discards_the_record_of_a_rejection(platform, runner, export, capsys, intent, keep_task_state):
    """As documented: without the record, the rejected request may still be accepted, as far as the task knows."""
    platform.trouble("error", status=403, code=9103)
    operator = export(**intent)
    with pytest.raises(AirflowFailException):
        runner.run(operator)
    runner.clear(keep_task_state=keep_task_state)
    if intent is MOVE_OVER and not keep_task_state:
        with pytest.raises(AirflowException, match=r"keep the task state .* start a new run") as caught:
            runner.run(operator)
        assert isinstance(caught.value, SevenBridgesInDoubt)
        assert len(platform.exports) == 0
        Runner().run(operator)
    else:
        assert not runner.run(operator)["adopted"]
        assert ("keep the task state" in capsys.readouterr().out) != keep_task_state
    assert len(platform.exports) == 1


def test_after_a_rejected_try_a_clear_checks_and_submits_once(platform, export, has_store):
    platform.trouble("error", status=403, code=9103, message="You may not.")
    runner, operator = Runner(store=has_store), export()
    with pytest.raises(AirflowFailException, match="You may not") as caught:
        runner.run(operator)
    assert isinstance(caught.value.__cause__, SevenBridgesApiError)
    runner.clear()
    before = len(platform.requests)
    result = runner.run(operator)
    assert not result["adopted"]
    assert len(platform.exports) == 1
    second_try = paths(platform)[before:]
    assert second_try.index("GET storage/exports") < second_try.index("POST storage/exports")
    if has_store:
        assert second_try.count("GET storage/exports") == 2, "the record shows that no submission is in doubt"


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferrable"])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (9006, AirflowFailException),
        (9101, AirflowFailException),
        (9103, AirflowFailException),
        (9107, AirflowFailException),
        (9100, AirflowException),
    ],
)
def test_the_platforms_message_of_a_failed_job_is_reported(platform, runner, export, deferrable, code, kind):
    platform.trouble("job_fails", code=code, message="The bucket said: no such key policy.")
    with pytest.raises(kind, match="The bucket said: no such key policy") as caught:
        runner.run(export(deferrable=deferrable))
    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert isinstance(caught.value.__cause__, SevenBridgesExportFailed)
    assert caught.value.__cause__.job.error.code == code


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferrable"])
@pytest.mark.parametrize("intent", INTENTS, ids=str)
def test_a_retry_after_a_failed_job_says_so_in_log_and_tab(platform, runner, export, capsys, intent, deferrable):
    platform.trouble("job_fails", code=9100, message="The bucket did not respond.")
    operator = export(deferrable=deferrable, **intent)
    with pytest.raises(AirflowException):
        runner.run(operator)
    [failed] = platform.exports
    capsys.readouterr()
    assert runner.run(operator)["state"] == "COMPLETED"
    log = capsys.readouterr().out
    why = f"Export {failed.id} failed (9100: The bucket did not respond.); submitting again."
    assert log.count(why) == 1
    assert "shows nothing" not in log
    assert runner.xcom["sevenbridges_status"]["why"].startswith(why)


def test_a_move_to_another_destination_is_not_submitted_while_the_first_runs(
    platform, runner, export, monkeypatch, caplog
):
    platform.knobs.running_seconds = 30
    operator = export()
    kill(runner, operator, monkeypatch, "at a poll")
    operator.location = "elsewhere.txt"
    with pytest.raises(AirflowException, match=platform.exports[0].id) as caught:
        runner.run(operator)
    assert isinstance(caught.value.__cause__, SevenBridgesInDoubt)
    assert len(submissions(platform)) == 1


@pytest.mark.parametrize("intent", [MOVE, MOVE_OVER], ids=str)
def test_a_request_in_doubt_of_another_token_stays_in_doubt(platform, runner, export, monkeypatch, intent):
    operator = export(**intent)
    kill(runner, operator, monkeypatch, "before the submission")
    use_token(monkeypatch, platform, platform.add_token("somebody else"))
    with pytest.raises(AirflowException, match="another token"):
        runner.run(operator)
    assert not submissions(platform)


# The timeout counts from the submission


def backdate(platform, runner, seconds):
    """Move the submission into the past."""
    if runner.store:
        [record] = runner.store.values.values()
        record["entries"][0]["record"]["sent_at"] -= seconds
    platform.exports[-1].started_on -= timedelta(seconds=seconds)


def test_in_a_later_try_the_timeout_counts_from_the_submission(platform, export, monkeypatch, has_store):
    platform.knobs.running_seconds = 30
    runner = Runner(store=has_store)
    operator = export(timeout=100)
    kill(runner, operator, monkeypatch, "at a poll")
    backdate(platform, runner, 1000)
    with pytest.raises(AirflowException, match="the Platform cannot cancel") as caught:
        runner.run(operator)
    assert isinstance(caught.value.__cause__, SevenBridgesExportTimeout)
    assert not isinstance(caught.value, AirflowFailException)


def test_the_deadline_of_a_deferral_is_absolute(platform, runner, export):
    runner.run(export(deferrable=True, timeout=1234))
    [deferred] = runner.deferrals
    assert deferred.trigger.end_time == pytest.approx(submissions(platform)[0].time + 1234, abs=60)


def test_a_job_that_a_later_try_submits_has_its_own_timeout(platform, export, has_store, deferrable):
    platform.trouble("job_fails", code=9100)
    runner = Runner(store=has_store)
    operator = export(timeout=100, deferrable=deferrable)
    with pytest.raises(AirflowException):
        runner.run(operator)
    backdate(platform, runner, 1000)
    platform.knobs.running_seconds = 0.5
    assert runner.run(operator)["state"] == "COMPLETED"


def test_a_resubmitted_copy_with_overwrite_has_its_own_timeout(platform, runner, export):
    operator = export(timeout=100, **COPY_OVER)
    runner.run(operator)
    backdate(platform, runner, 1000)
    runner.clear()
    platform.knobs.running_seconds = 0.5
    assert not runner.run(operator)["adopted"]
    assert len(platform.exports) == 2


def test_an_adopted_job_of_another_task_has_its_own_timeout(platform, runner, export):
    platform.trouble("error", status=403, code=9103)
    operator = export(timeout=100)
    with pytest.raises(AirflowFailException):
        runner.run(operator)
    [record] = runner.store.values.values()
    record["entries"][0]["record"]["sent_at"] -= 1000
    platform.knobs.running_seconds = 0.5
    Runner().run(export(file=operator.file, wait_for_completion=False))
    runner.clear()
    assert runner.run(operator)["adopted"]


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferrable"])
def test_a_timeout_without_a_response_to_any_poll_names_the_export(platform, runner, export, deferrable):
    platform.trouble("drop", path="/v2/bulk/storage/exports/get", times=0)
    with pytest.raises(AirflowException, match="the Platform cannot cancel") as caught:
        runner.run(export(deferrable=deferrable, timeout=0.4))
    assert platform.exports[0].id in str(caught.value)


# Concurrent tasks with the same export


@pytest.mark.parametrize("instant", [False, True])
def test_the_second_of_two_concurrent_tasks_logs_the_export_it_adopts(platform, export, capsys, instant):
    """The second task logs the export that it adopts."""
    platform.knobs.update(running_seconds=0.3, instant=instant)
    file = platform.add_file("twin.txt", NEW).id
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(Runner().run(export(file=file, copy_only=True))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result["state"] for result in results} == {"COMPLETED"}
    [made] = [job for job in platform.exports if job.state == "COMPLETED"]
    assert {result["export_id"] for result in results} == {made.id}
    assert sorted(result["adopted"] for result in results) == [False, True]
    assert made.id in next(line for line in capsys.readouterr().out.splitlines() if "adopting it" in line)


@pytest.mark.parametrize("refuse_in_job", [False, True], ids=["at submission", "in the job"])
def test_an_archived_file_is_named_as_a_cause(platform, runner, export, deferrable, refuse_in_job):
    platform.knobs.refuse_in_job = refuse_in_job
    file = platform.add_file("old.bam", NEW, archived=True)
    with pytest.raises(AirflowFailException, match="archive"):
        runner.run(export(file=file.id, deferrable=deferrable))


def test_the_record_is_small_and_plain(platform, runner, export):
    runner.run(export())
    [record] = runner.store.values.values()
    assert len(json.dumps(record)) < 1000
