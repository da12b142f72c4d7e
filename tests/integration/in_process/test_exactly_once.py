"""Guarantees for one export and for many, whatever the Platform responds: few requests, and no data is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from airflow_sb_provider.engine.submitter import MAX_POSTS
from airflow_sb_provider.exceptions import SevenBridgesConnectionError, SevenBridgesError
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from tests.integration.in_process.conftest import Runner, first_event, forget, paths, run_until_polled

BYTES, OLD = b"some bytes", b"old"
MOVE_OVER, COPY_OVER = {"overwrite": True}, {"overwrite": True, "copy_only": True}
SUBMISSIONS = ("/v2/storage/exports", "/v2/bulk/storage/exports/create")


@pytest.fixture(params=["single", "bulk"])
def task(request, platform):
    """Create the single or the bulk operator for one file."""

    def make(file=None, volume="demo/results", location="a/b.txt", deferrable=False, **fields):
        file = file or platform.add_file("a.txt", BYTES).id
        common = {"task_id": "export", "retries": 2, "poll_interval": 0.1, "deferrable": deferrable}
        if request.param == "single":
            return SevenBridgesExportOperator(file=file, volume=volume, location=location, **common, **fields)
        wanted = {"file": file, "volume": volume, "location": location, **fields}
        return SevenBridgesBulkExportOperator(exports=[wanted], **common)

    return make


def posts(platform):
    return [record for record in platform.requests if record.method == "POST" and record.path in SUBMISSIONS]


def trouble(platform, kind, **options):
    for path in SUBMISSIONS:
        platform.trouble(kind, method="POST", path=path, times=0, **options)


def completed(hook, job):
    while not hook.get_export(job.id).ended:
        pass


# The number of requests


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("html", {"status": 502}),
        ("html", {"status": 200}),
        ("html", {"status": 403}),
        ("text", {}),
        ("text", {"status": 409, "body": "{}"}),
        ("drop", {}),
        ("error", {"status": 500}),
        ("error", {"status": 503, "code": 0}),
        ("error", {"status": 409, "code": 9107}),
        ("error", {"status": 403, "code": 9006}),
        ("error", {"status": 400, "code": 9000}),
    ],
    ids=str,
)
@pytest.mark.parametrize("intent", [{}, {"copy_only": True}, MOVE_OVER, COPY_OVER], ids=str)
def test_a_submission_that_never_succeeds_fails_the_task(platform, runner, task, deferrable, kind, options, intent):
    trouble(platform, kind, **options)
    with pytest.raises(AirflowException):
        runner.run(task(deferrable=deferrable, **intent))
    assert len(posts(platform)) <= MAX_POSTS


@pytest.mark.parametrize("resets", [True, False])
def test_a_rate_limit_at_the_submission_is_waited_out_for_a_limited_time(platform, runner, task, monkeypatch, resets):
    pauses = []
    monkeypatch.setattr("airflow_sb_provider.engine.submitter.time.sleep", pauses.append)
    trouble(platform, "error", status=429, code=90005)
    if not resets:
        platform.trouble("no_rate_headers", times=0)
    with pytest.raises(AirflowException) as caught:
        runner.run(task())
    assert not isinstance(caught.value, AirflowFailException)
    assert len(posts(platform)) == MAX_POSTS
    assert len([seconds for seconds in pauses if seconds]) >= MAX_POSTS - 1


@pytest.mark.parametrize(("failures", "ends"), [(3, "COMPLETED"), (100, None)])
def test_a_request_that_never_reached_the_platform_is_resubmitted_a_few_times(
    platform, runner, task, monkeypatch, failures, ends
):
    real, pauses, tried = SevenBridgesHook.send, [], []

    def send(self, call, **options):
        if call.method == "POST" and f"/v2/{call.path}" in SUBMISSIONS:
            tried.append(call)
            if len(tried) <= failures:
                raise SevenBridgesConnectionError("no route", sent=False)
        return real(self, call, **options)

    operator = task(deferrable=True)
    monkeypatch.setattr(SevenBridgesHook, "send", send)
    monkeypatch.setattr("airflow_sb_provider.engine.submitter.time.sleep", pauses.append)
    if ends:
        assert runner.run(operator)["state"] == ends
    else:
        with pytest.raises(AirflowException, match="no route"):
            runner.run(operator)
    assert len(tried) == min(failures + 1, 5)
    assert len(platform.exports) == bool(ends)


def test_a_job_that_is_not_shown_any_more_is_in_doubt(platform, runner, task, deferrable):
    platform.knobs.stuck = True
    platform.on("accepted", lambda _: platform.platform.exports.clear())
    with pytest.raises(AirflowException, match="It may be in flight") as caught:
        runner.run(task(deferrable=deferrable))
    assert not isinstance(caught.value, AirflowFailException)
    assert len(posts(platform)) == 1


@pytest.mark.parametrize("code", [9107, 9006, 9100, 9103])
@pytest.mark.parametrize("intent", [{}, {"copy_only": True}, MOVE_OVER, COPY_OVER], ids=str)
def test_repeatedly_failing_jobs_fail_the_task(platform, runner, task, deferrable, code, intent):
    trouble(platform, "job_fails", code=code)
    with pytest.raises(AirflowException):
        runner.run(task(deferrable=deferrable, **intent))
    assert len(posts(platform)) <= MAX_POSTS


@pytest.mark.parametrize("intent", [MOVE_OVER, COPY_OVER], ids=str)
def test_an_object_that_cannot_be_deleted_fails_the_task_after_one_job(platform, runner, task, deferrable, intent):
    platform.knobs.overwrite_denied = True
    platform.put_object("demo/results", "a/b.txt", OLD)
    with pytest.raises(AirflowFailException, match="object lock"):
        runner.run(task(deferrable=deferrable, **intent))
    assert len(platform.exports) == len(posts(platform)) == 1
    assert platform.object_bytes("demo/results", "a/b.txt") == OLD


# The file's own bytes


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("includes_prefix", [False, True])
def test_a_copy_onto_the_object_that_the_file_is_an_alias_of(platform, runner, task, retry, includes_prefix):
    platform.knobs.update(overwrite_deletes_first=True, alias_location_includes_prefix=includes_prefix)
    file = platform.add_file("moved.txt", BYTES).id
    Runner().run(task(file))
    if retry:
        runner.try_number = 1
    before = len(posts(platform))
    with pytest.raises(AirflowFailException, match="alias"):
        runner.run(task(file, **COPY_OVER))
    assert len(posts(platform)) == before
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


# Records


class Killed(BaseException):
    """Simulates SIGKILL."""


def killed_after_the_submission(runner, operator, monkeypatch):
    real = SevenBridgesHook.send

    def send(self, call, **options):
        if call.method == "GET" or f"/v2/{call.path}" not in SUBMISSIONS:
            return real(self, call, **options)
        with suppress(SevenBridgesError):
            real(self, call, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(SevenBridgesHook, "send", send)
        with pytest.raises(Killed):
            runner.run(operator)


UNREADABLE = ["s3://bucket/state/7", "", 7, [], {}, {"version": 2}, {"version": 1}, ["x"]]


@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
@pytest.mark.parametrize("intent", [{}, MOVE_OVER, COPY_OVER], ids=str)
def test_a_record_that_cannot_be_read_is_in_doubt(platform, runner, task, monkeypatch, value, intent):
    """The request of the first try is accepted late; a second one would delete the object of the first."""
    if intent:
        platform.put_object("demo/results", "a/b.txt", OLD)
    operator = task(**intent)
    for path in SUBMISSIONS:
        platform.trouble("late_accept", path=path, seconds=0.2)
    killed_after_the_submission(runner, operator, monkeypatch)
    for key in list(runner.store.values):
        runner.store.values[key] = value
    assert runner.run(operator)["state"] == "COMPLETED"
    # The late request may be in flight when the retry checks: then the retry adopts it.
    assert len(platform.exports) in ((1, 2) if intent is COPY_OVER else (1,))
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


def test_a_record_of_a_later_version_is_in_doubt(platform, runner, task, monkeypatch):
    operator = task()
    platform.knobs.running_seconds = 0.5
    killed_after_the_submission(runner, operator, monkeypatch)
    [record] = runner.store.values.values()
    record["entries"][0]["record"]["outcome"] = "queued"
    assert runner.run(operator)["adopted" if "state" not in record else "state"]
    assert len(platform.exports) == 1


@pytest.mark.parametrize("intent", [{}, MOVE_OVER], ids=str)
def test_a_try_without_a_store_is_in_doubt_for_a_retry_with_one(platform, task, monkeypatch, intent):
    if intent:
        platform.put_object("demo/results", "a/b.txt", OLD)
    operator, first, second = task(**intent), Runner(store=False), Runner()
    for path in SUBMISSIONS:
        platform.trouble("late_accept", path=path, seconds=0.2)
    killed_after_the_submission(first, operator, monkeypatch)
    second.try_number = 1
    assert second.run(operator)["state"] == "COMPLETED"
    assert len(platform.exports) == 1
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


def test_an_error_before_an_overwriting_move_leaves_no_doubt(platform, runner, task):
    """The record that is written before the check shows that nothing was submitted."""
    platform.put_object("demo/results", "a/b.txt", OLD)
    operator = task(**MOVE_OVER)
    platform.trouble("error", method="GET", path="/v2/storage/exports", status=403, code=9020)
    with pytest.raises(AirflowException):
        runner.run(operator)
    runner.clear()
    assert runner.run(operator)["state"] == "COMPLETED"
    assert len(platform.exports) == 1


# The right object


@pytest.mark.parametrize("includes_prefix", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_alias_that_matches_one_reading_does_not_prove_the_export(
    platform, runner, task, includes_prefix, overwrite
):
    """The file was moved to a key with the prefix twice, and another object of the same size is at its destination."""
    platform.knobs.alias_location_includes_prefix = includes_prefix
    file = platform.add_file("a.txt", BYTES).id
    Runner().run(task(file, location="exports/a.txt"))
    platform.put_object("demo/results", "a.txt", b"FOREIGN!!!")
    with pytest.raises(AirflowException):
        runner.run(task(file, location="a.txt", overwrite=overwrite))
    assert platform.object_bytes("demo/results", "a.txt") == b"FOREIGN!!!"
    assert platform.object_bytes("demo/results", "exports/a.txt") == BYTES


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("apart", [60, 0], ids=["a minute apart", "in the same second"])
def test_an_object_of_a_later_job_is_not_adopted_as_the_copy(platform, runner, task, again, apart):
    hook = SevenBridgesHook()
    file, other = platform.add_file("a.txt", BYTES).id, platform.add_file("b.txt", b"FOREIGN!!!").id
    completed(hook, hook.start_export(file, "demo/results", "a/b.txt", copy_only=True))
    completed(hook, hook.start_export(other, "demo/results", "a/b.txt", copy_only=True, overwrite=True))
    if again:
        completed(hook, hook.start_export(file, "demo/results", "a/b.txt", copy_only=True, overwrite=True))
    for number, job in enumerate(platform.exports):
        job.finished_on = platform.exports[0].finished_on + timedelta(seconds=number * apart)
    if again and apart:
        assert runner.run(task(file, copy_only=True))["state"] == "COMPLETED"
        return
    with pytest.raises(AirflowFailException, match="already holds an object"):
        runner.run(task(file, copy_only=True))


def test_a_move_whose_object_is_missing_is_not_reported_as_completed(platform, runner, task):
    file = platform.add_file("a.txt", BYTES).id
    Runner().run(task(file))
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*/object", times=0, status=404, code=9105)
    with pytest.raises(AirflowException, match="no object is there"):
        runner.run(task(file))


def test_a_cleared_move_whose_object_is_missing_is_not_reported_as_completed(platform, runner, task):
    operator = task()
    runner.run(operator)
    runner.clear()
    assert runner.run(operator)["state"] == "COMPLETED"
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*/object", times=0, status=404, code=9105)
    runner.clear()
    with pytest.raises(AirflowException, match="no object is there"):
        runner.run(operator)
    assert len(platform.exports) == 1


def test_an_adopted_export_with_other_properties_logs_a_warning(platform, runner, task, capsys):
    run_until_polled(platform)
    file = platform.add_file("a.txt", BYTES).id
    SevenBridgesHook().start_export(file, "demo/results", "a/b.txt", properties={"sse_algorithm": "AES256"})
    runner.try_number = 1
    runner.run(task(file, properties={"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "key"}))
    assert "was submitted with properties" in capsys.readouterr().out


def test_an_error_while_exports_are_in_flight_names_them(platform, runner, task, capsys):
    platform.knobs.stuck = True
    operator = task(deferrable=False)
    real = runner.store.set

    def fail_after_the_response(key, value):
        if "accepted" in str(value):
            raise OSError("the API server does not answer")
        real(key, value)

    runner.store.set = fail_after_the_response
    with pytest.raises(OSError, match="does not answer"):
        runner.run(operator)
    [job] = platform.exports
    assert f"Still in flight at the Platform: export {job.id}" in capsys.readouterr().out


# Deferrals


def test_a_method_that_is_resumed_in_a_retry_submits_nothing_twice(platform, task):
    """Airflow 3.0 runs the method again with the same event and XComs after the resumed try has failed."""
    file = platform.add_file("a.txt", BYTES).id
    operator, xcom = task(file, deferrable=True), {}

    def context(try_number):
        ti = SimpleNamespace(
            dag_id="d",
            run_id="r",
            task_id="export",
            map_index=-1,
            try_number=try_number,
            max_tries=2,
            xcom_push=lambda key, value: xcom.__setitem__(key, value),
            xcom_pull=lambda task_ids, key, map_indexes: xcom.get(key),
        )
        return {"ti": ti, "outlet_events": {}}

    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context(1))
    event = asyncio.run(first_event(deferred.value.trigger))
    forget(operator)
    method, arguments = operator.resume, {"event": event}
    while True:
        try:
            result = method(context(2), **arguments)
            break
        except TaskDeferred as again:
            forget(operator)
            arguments = {"event": asyncio.run(first_event(again.trigger))}
    assert result["state"] == "COMPLETED"
    assert Counter(job.file for job in platform.exports) == {file: 1}


def test_counters_survive_deferrals(platform, runner, task):
    trouble(platform, "drop")
    with pytest.raises(AirflowException):
        runner.run(task(deferrable=True))
    assert runner.deferrals
    assert len(posts(platform)) == 2
    assert "GET storage/exports" in paths(platform)
