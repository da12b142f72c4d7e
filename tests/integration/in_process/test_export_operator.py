from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.api.environments import ENVIRONMENTS, Environment
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesExportTimeout,
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesReplyLost,
)
from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from tests.integration.in_process.conftest import Runner, paths, run_until_polled, submissions, use_token

BYTES = b"some bytes"


def failure(runner, operator, kind, cause):
    with pytest.raises(kind) as caught:
        runner.run(operator)
    assert isinstance(caught.value, AirflowFailException) is (kind is AirflowFailException)
    assert isinstance(caught.value.__cause__, cause)
    return str(caught.value)


def test_a_move(platform, runner, export, deferrable):
    operator = export(deferrable=deferrable)
    result = runner.run(operator)
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES
    assert platform.platform.files[operator.file].alias == ("demo/results", "a/b.txt")
    assert len(runner.deferrals) == deferrable
    job = platform.exports[0]
    assert json.loads(json.dumps(result)) == result
    assert result["result"]["id"] == operator.file
    assert result["started_on"] <= result["finished_on"]
    known = {key: result[key] for key in result if key not in ("result", "started_on", "finished_on", "etag")}
    assert known == {
        "export_id": job.id,
        "state": "COMPLETED",
        "file": operator.file,
        "volume": "demo/results",
        "location": "a/b.txt",
        "uri": "s3://demo-results/exports/a/b.txt",
        "size": len(BYTES),
        "copy_only": False,
        "overwrite": False,
        "adopted": False,
    }
    assert len(result["etag"]) == 32
    assert runner.xcom["export_id"] == job.id


def test_a_first_try_without_errors_sends_one_post_the_polls_and_two_reads(platform, runner, export, deferrable):
    runner.run(export(deferrable=deferrable))
    requests = paths(platform)
    polls = [path for path in requests if path == "POST bulk/storage/exports/get"]
    assert requests == [
        "POST storage/exports",
        *polls,
        "GET storage/volumes/demo/results/object",
        "GET storage/volumes/demo/results",
    ]


@pytest.mark.parametrize(("limit", "reads"), [(20, 2), (2, 0)])
def test_file_and_volume_are_fetched_for_the_links_while_half_of_the_rate_limit_is_left(
    platform, runner, export, monkeypatch, limit, reads
):
    monkeypatch.setitem(ENVIRONMENTS, "local", Environment("Local", platform.url, "https://platform.example"))
    platform.knobs.rate_limit = limit
    runner.run(export(wait_for_completion=False))
    requests = paths(platform)
    assert [path.rpartition("/")[0] for path in requests[1 : 1 + reads]] == ["GET files", "GET storage/volumes/demo"][
        :reads
    ]
    assert sum(path.startswith("GET files") for path in requests) == reads / 2


def test_a_copy_keeps_the_file(platform, runner, export, deferrable):
    operator = export(copy_only="True", deferrable=deferrable)
    result = runner.run(operator)
    assert result["copy_only"] is True
    assert platform.platform.files[operator.file].alias is None
    [post] = submissions(platform)
    assert dict(post.query) == {"copy_only": "true"}


@pytest.mark.parametrize("as_text", [False, True])
def test_properties_are_submitted(platform, runner, export, as_text):
    properties = {
        "sse_algorithm": "aws:kms",
        "sse_aws_kms_key_id": "key",
        "aws_canned_acl": "bucket-owner-full-control",
        "aws_storage_class": "GLACIER",
    }
    runner.run(export(properties=json.dumps(properties) if as_text else properties))
    [post] = submissions(platform)
    assert post.json["properties"] == properties


def test_no_encryption_is_submitted_as_null(platform, runner, export):
    runner.run(export(properties={"sse_algorithm": None}))
    assert submissions(platform)[0].json["properties"] == {"sse_algorithm": None}


def test_overwrite_replaces_the_object(platform, runner, export, deferrable, caplog):
    platform.put_object("demo/results", "a/b.txt", b"old")
    runner.run(export(overwrite=True, deferrable=deferrable))
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES
    assert submissions(platform)[0].json["overwrite"] is True


@pytest.mark.parametrize("copy_only", [False, True])
def test_without_an_object_the_export_is_submitted_without_overwrite(platform, runner, export, copy_only):
    result = runner.run(export(overwrite=True, copy_only=copy_only))
    assert submissions(platform)[0].json["overwrite"] is False
    assert result["overwrite"] is True


@pytest.mark.parametrize("refuse_in_job", [False, True])
@pytest.mark.parametrize("copy_only", [False, True])
def test_an_object_that_appears_after_the_check_is_named_and_not_overwritten(
    platform, runner, export, deferrable, copy_only, refuse_in_job
):
    platform.knobs.refuse_in_job = refuse_in_job

    def strike(record):
        if record.method == "POST" and record.path == "/v2/storage/exports" and len(submissions(platform)) == 1:
            platform.put_object("demo/results", "a/b.txt", b"old")

    platform.on("request", strike)
    operator = export(overwrite=True, copy_only=copy_only, deferrable=deferrable)
    with pytest.raises(AirflowFailException, match=r"has appeared there since.*clear the task"):
        runner.run(operator)
    assert [post.json["overwrite"] for post in submissions(platform)] == [False]
    assert platform.object_bytes("demo/results", "a/b.txt") == b"old"
    runner.clear()
    assert runner.run(operator)["state"] == "COMPLETED"
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


def test_a_copy_with_overwrite_logs_the_object_before_it_is_submitted(platform, runner, export, deferrable, capsys):
    platform.put_object("demo/results", "a/b.txt", b"old")
    named = []
    platform.on("accepted", lambda _: named.append("3 bytes" in capsys.readouterr().out))
    runner.run(export(overwrite=True, copy_only=True, deferrable=deferrable))
    assert named == [True]
    assert submissions(platform)[0].json["overwrite"] is True
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


def test_without_wait_for_completion_the_task_ends_after_the_submission(platform, runner, export):
    platform.knobs.stuck = True
    result = runner.run(export(wait_for_completion=False))
    assert result["state"] == "PENDING"
    assert result["export_id"] == runner.xcom["export_id"] == platform.exports[0].id
    assert result["uri"] == "s3://demo-results/exports/a/b.txt"
    assert not runner.deferrals


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        (9101, AirflowFailException, "access mode to RW"),
        (9103, AirflowFailException, "write access to that location"),
        (9107, AirflowFailException, "another location"),
        (9100, AirflowException, "retry later"),
    ],
)
def test_a_failed_job_fails_the_task_with_its_own_error_and_advice(
    platform, runner, export, deferrable, code, kind, advice
):
    platform.trouble("job_fails", code=code)
    text = failure(runner, export(deferrable=deferrable), kind, SevenBridgesExportFailed)
    assert platform.exports[0].id in text
    assert f"code {code}" in text
    assert advice in text


def test_a_retry_resubmits_a_job_that_failed_with_a_transient_error(platform, runner, export):
    platform.trouble("job_fails", code=9100)
    operator = export()
    failure(runner, operator, AirflowException, SevenBridgesExportFailed)
    assert runner.run(operator)["state"] == "COMPLETED"
    assert [job.state for job in platform.exports] == ["FAILED", "COMPLETED"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_rejection_fails_the_task_without_retries(platform, runner, export, status):
    platform.trouble("error", status=status, code=9000 + status, message="no")
    text = failure(runner, export(), AirflowFailException, SevenBridgesApiError)
    assert "no" in text
    assert not platform.exports


def test_a_timeout_reports_that_the_export_is_still_running(platform, runner, export, deferrable):
    platform.knobs.stuck = True
    operator = export(deferrable=deferrable, timeout=0.3)
    text = failure(runner, operator, AirflowException, SevenBridgesExportTimeout)
    assert platform.exports[0].id in text
    assert "the Platform cannot cancel" in text
    failure(runner, operator, AirflowException, SevenBridgesExportTimeout)
    assert len(platform.exports) == 1


def test_execution_timeout_counts_while_deferred(platform, runner, export):
    platform.knobs.stuck = True
    operator = export(deferrable=True, execution_timeout=timedelta(seconds=0.3))
    failure(runner, operator, AirflowException, SevenBridgesExportTimeout)


def test_after_two_lost_responses_the_next_try_exports_once(platform, runner, export):
    platform.trouble("drop", times=2)
    operator = export()
    failure(runner, operator, AirflowException, SevenBridgesReplyLost)
    assert runner.run(operator)["state"] == "COMPLETED"
    assert len(platform.exports) == 1


# Retries, clears, other runs


@pytest.mark.parametrize(
    ("options", "jobs"), [({}, 1), ({"copy_only": True}, 1), ({"copy_only": True, "overwrite": True}, 2)], ids=str
)
def test_a_cleared_task_adopts_its_export_except_a_copy_with_overwrite(
    platform, runner, export, deferrable, options, jobs
):
    operator = export(deferrable=deferrable, **options)
    runner.run(operator)
    runner.clear()
    assert runner.run(operator)["adopted"] is (jobs == 1)
    assert len(platform.exports) == jobs


def test_a_new_run_adopts_a_completed_move_without_a_job(platform, runner, export):
    operator = export()
    runner.run(operator)
    again = Runner()
    result = again.run(operator)
    assert result["adopted"]
    assert result["export_id"] is None
    assert again.xcom["export_id"] is None
    assert result["size"] == len(BYTES)
    assert len(platform.exports) == 1


def test_a_changed_template_is_a_new_export(platform, runner, export):
    operator = export(copy_only=True)
    runner.run(operator)
    operator.location = "elsewhere.txt"
    result = runner.run(operator)
    assert not result["adopted"]
    assert result["location"] == "elsewhere.txt"
    assert len(platform.exports) == 2


def test_a_record_of_another_token_is_in_doubt(platform, runner, export, monkeypatch):
    platform.knobs.stuck = True
    operator = export(wait_for_completion=False)
    runner.run(operator)
    use_token(monkeypatch, platform, platform.add_token("somebody else"))
    text = failure(runner, operator, AirflowException, SevenBridgesInDoubt)
    assert "token" in text
    assert len(platform.exports) == 1


def test_nothing_is_submitted_when_the_record_cannot_be_written(platform, runner, export):
    def reject(key, value):
        raise RuntimeError("409: the task has moved on")

    runner.store.set = reject
    with pytest.raises(RuntimeError):
        runner.run(export())
    assert not submissions(platform)


def test_the_record_holds_no_token(platform, runner, export):
    runner.run(export())
    assert platform.token not in json.dumps(runner.store.values)
    [record] = runner.store.values.values()
    assert record["entries"][0]["record"]["job_id"] == platform.exports[0].id


@pytest.mark.parametrize("refuse_in_job", [False, True])
@pytest.mark.parametrize("copy_only", [False, True])
def test_concurrent_tasks_with_the_same_export_complete_one_job(platform, export, refuse_in_job, copy_only):
    platform.knobs.refuse_in_job = refuse_in_job
    file = platform.add_file("twin.txt", BYTES).id
    results = []

    def run():
        results.append(Runner().run(export(file=file, copy_only=copy_only)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["state"] for result in results] == ["COMPLETED", "COMPLETED"]
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES
    assert sum(job.state == "COMPLETED" for job in platform.exports) == 1


# Causes of rejections


@pytest.mark.parametrize("refuse_in_job", [False, True])
def test_a_location_taken_by_another_file_is_reported(platform, runner, export, deferrable, refuse_in_job):
    platform.knobs.refuse_in_job = refuse_in_job
    platform.put_object("demo/results", "a/b.txt", b"another")
    cause = SevenBridgesExportFailed if refuse_in_job else SevenBridgesExportRefused
    text = failure(runner, export(deferrable=deferrable), AirflowFailException, cause)
    assert "made from something else" in text
    assert platform.object_bytes("demo/results", "a/b.txt") == b"another"


@pytest.mark.parametrize("refuse_in_job", [False, True])
@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"public": True}, "public file"),
        ({"alias": ("demo/archive", "old.txt")}, "already an alias of demo/archive/old.txt"),
    ],
)
def test_a_file_that_cannot_be_exported_is_reported(platform, runner, export, refuse_in_job, details, words):
    platform.knobs.refuse_in_job = refuse_in_job
    file = platform.add_file("b.txt", BYTES, **details)
    cause = SevenBridgesExportFailed if refuse_in_job else SevenBridgesExportRefused
    text = failure(runner, export(file=file.id), AirflowFailException, cause)
    assert words in text


@pytest.mark.parametrize(
    "knobs",
    [
        {"alias_location_includes_prefix": True},
        {"prefix_joined_with_slash": False},
        {"alias_location_includes_prefix": True, "prefix_joined_with_slash": False},
        {"list_order": "oldest"},
        {"service_type_case": "lower", "timestamp_style": "offset", "code_type": "str"},
        {"etag_style": "quoted"},
        {"created_status": 201, "echo_properties": False},
        {"omit": "started_on,finished_on,export.result"},
    ],
    ids=str,
)
def test_undocumented_variants_of_the_api_are_supported(platform, runner, export, knobs):
    platform.knobs.update(**knobs)
    operator = export()
    assert runner.run(operator)["state"] == "COMPLETED"
    assert Runner().run(operator)["adopted"]
    assert len(platform.exports) == 1


def test_an_adopted_copy_does_not_count_as_a_move(platform, runner, export):
    run_until_polled(platform)
    file = platform.add_file("c.txt", BYTES).id
    Runner().run(export(file=file, copy_only=True, wait_for_completion=False))
    retry = Runner(store=False)
    retry.try_number = 1
    text = failure(retry, export(file=file), AirflowFailException, SevenBridgesExportRefused)
    assert "was a copy" in text


def test_a_completed_export_without_its_object_is_in_doubt(platform, runner, export):
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*/object", status=404, code=9105)
    text = failure(runner, export(), AirflowException, SevenBridgesInDoubt)
    assert "no object" in text


def test_without_permission_to_read_the_object_the_export_succeeds(platform, runner, export):
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*", times=0, status=403, code=9020)
    result = runner.run(export())
    assert result["state"] == "COMPLETED"
    assert result["uri"] is None
    assert result["etag"] is None
    assert result["size"] == len(BYTES)


# Invalid input


@pytest.mark.parametrize("field", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, "10", True])
def test_poll_interval_and_timeout_are_checked_by_the_constructor(export, field, value):
    with pytest.raises(SevenBridgesInputError, match=field):
        export(**{field: value})


def test_templated_fields():
    assert set(SevenBridgesExportOperator.template_fields) == {
        "file",
        "volume",
        "location",
        "overwrite",
        "overwrite_aliased",
        "copy_only",
        "properties",
        "validate_only",
        "sevenbridges_conn_id",
    }


def test_on_kill_logs_that_the_export_is_still_running(platform, runner, export, capsys):
    platform.knobs.stuck = True
    operator = export(wait_for_completion=False)
    operator.on_kill()
    runner.run(operator)
    operator.on_kill()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "the Platform cannot cancel" in line]
    assert platform.exports[0].id in line


def test_maintenance_before_the_submission_is_retried(platform, runner, export, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.retry.MAINTENANCE_PAUSE", 0.01)
    monkeypatch.setattr("airflow_sb_provider.hooks.retry.random.uniform", lambda low, high: low)
    platform.trouble("error", status=503, code=0, method="GET", path="/v2/storage/exports")
    result = runner.run(export(overwrite=True))
    assert result["state"] == "COMPLETED"
    assert not result["adopted"]


@pytest.mark.parametrize("done", [False, True])
def test_maintenance_at_the_submission_is_in_doubt(platform, runner, export, deferrable, done):
    """A gateway may return this for a request that the Platform has accepted."""
    platform.knobs.running_seconds = 0.6
    platform.trouble("error", status=503, code=0, done=done)
    assert runner.run(export(deferrable=deferrable))["adopted"] is done
    assert len(platform.exports) == 1
    assert len(submissions(platform)) == (1 if done else 2)
