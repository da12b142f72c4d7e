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


def test_an_untroubled_first_try_costs_one_post_the_polls_and_a_look_at_the_end(platform, runner, export, deferrable):
    runner.run(export(deferrable=deferrable))
    asked = paths(platform)
    polls = [path for path in asked if path == "POST bulk/storage/exports/get"]
    assert asked == [
        "POST storage/exports",
        *polls,
        "GET storage/volumes/demo/results/object",
        "GET storage/volumes/demo/results",
    ]


@pytest.mark.parametrize(("limit", "looks"), [(20, 2), (2, 0)])
def test_for_links_file_and_volume_are_looked_at_while_half_of_the_rate_limit_is_left(
    platform, runner, export, monkeypatch, limit, looks
):
    monkeypatch.setitem(ENVIRONMENTS, "local", Environment("Local", platform.url, "https://platform.example"))
    platform.knobs.rate_limit = limit
    runner.run(export(wait_for_completion=False))
    asked = paths(platform)
    assert [path.rpartition("/")[0] for path in asked[1 : 1 + looks]] == ["GET files", "GET storage/volumes/demo"][
        :looks
    ]
    assert sum(path.startswith("GET files") for path in asked) == looks / 2


def test_a_copy_keeps_the_file(platform, runner, export, deferrable):
    operator = export(copy_only="True", deferrable=deferrable)
    result = runner.run(operator)
    assert result["copy_only"] is True
    assert platform.platform.files[operator.file].alias is None
    [post] = submissions(platform)
    assert dict(post.query) == {"copy_only": "true"}


@pytest.mark.parametrize("as_text", [False, True])
def test_properties_reach_the_platform(platform, runner, export, as_text):
    properties = {
        "sse_algorithm": "aws:kms",
        "sse_aws_kms_key_id": "key",
        "aws_canned_acl": "bucket-owner-full-control",
        "aws_storage_class": "GLACIER",
    }
    runner.run(export(properties=json.dumps(properties) if as_text else properties))
    [post] = submissions(platform)
    assert post.json["properties"] == properties


def test_no_encryption_is_told_as_null(platform, runner, export):
    runner.run(export(properties={"sse_algorithm": None}))
    assert submissions(platform)[0].json["properties"] == {"sse_algorithm": None}


def test_overwrite_replaces_what_the_log_names(platform, runner, export, deferrable, caplog):
    platform.put_object("demo/results", "a/b.txt", b"old")
    runner.run(export(overwrite=True, deferrable=deferrable))
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES
    assert submissions(platform)[0].json["overwrite"] is True


@pytest.mark.parametrize("copy_only", [False, True])
def test_an_export_that_finds_nothing_to_overwrite_does_not_request_it(platform, runner, export, copy_only):
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


def test_a_copy_with_overwrite_checks_what_it_replaces_and_names_it_first(platform, runner, export, deferrable, capsys):
    platform.put_object("demo/results", "a/b.txt", b"old")
    named = []
    platform.on("accepted", lambda _: named.append("3 bytes" in capsys.readouterr().out))
    runner.run(export(overwrite=True, copy_only=True, deferrable=deferrable))
    assert named == [True]
    assert submissions(platform)[0].json["overwrite"] is True
    assert platform.object_bytes("demo/results", "a/b.txt") == BYTES


def test_without_waiting_it_ends_with_the_submission(platform, runner, export):
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


def test_a_job_that_failed_for_a_while_is_asked_for_again_by_a_retry(platform, runner, export):
    platform.trouble("job_fails", code=9100)
    operator = export()
    failure(runner, operator, AirflowException, SevenBridgesExportFailed)
    assert runner.run(operator)["state"] == "COMPLETED"
    assert [job.state for job in platform.exports] == ["FAILED", "COMPLETED"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_fails_the_task_without_retries(platform, runner, export, status):
    platform.trouble("error", status=status, code=9000 + status, message="no")
    text = failure(runner, export(), AirflowFailException, SevenBridgesApiError)
    assert "no" in text
    assert not platform.exports


def test_a_time_out_says_that_the_export_goes_on(platform, runner, export, deferrable):
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


def test_two_lost_replies_leave_it_to_the_next_try(platform, runner, export):
    platform.trouble("drop", times=2)
    operator = export()
    failure(runner, operator, AirflowException, SevenBridgesReplyLost)
    assert runner.run(operator)["state"] == "COMPLETED"
    assert len(platform.exports) == 1


# Retries, clears, other runs


@pytest.mark.parametrize(
    ("options", "jobs"), [({}, 1), ({"copy_only": True}, 1), ({"copy_only": True, "overwrite": True}, 2)], ids=str
)
def test_a_cleared_task_takes_over_all_but_an_overwriting_copy(platform, runner, export, deferrable, options, jobs):
    operator = export(deferrable=deferrable, **options)
    runner.run(operator)
    runner.clear()
    assert runner.run(operator)["adopted"] is (jobs == 1)
    assert len(platform.exports) == jobs


def test_a_new_run_of_a_finished_move_takes_it_over_without_a_job(platform, runner, export):
    operator = export()
    runner.run(operator)
    again = Runner()
    result = again.run(operator)
    assert result["adopted"]
    assert result["export_id"] is None
    assert again.xcom["export_id"] is None
    assert result["size"] == len(BYTES)
    assert len(platform.exports) == 1


def test_a_changed_template_is_not_mixed_up_with_the_record(platform, runner, export):
    operator = export(copy_only=True)
    runner.run(operator)
    operator.location = "elsewhere.txt"
    result = runner.run(operator)
    assert not result["adopted"]
    assert result["location"] == "elsewhere.txt"
    assert len(platform.exports) == 2


def test_a_record_of_another_token_is_doubt(platform, runner, export, monkeypatch):
    platform.knobs.stuck = True
    operator = export(wait_for_completion=False)
    runner.run(operator)
    use_token(monkeypatch, platform, platform.add_token("somebody else"))
    text = failure(runner, operator, AirflowException, SevenBridgesInDoubt)
    assert "token" in text
    assert len(platform.exports) == 1


def test_nothing_is_asked_for_when_the_record_cannot_be_written(platform, runner, export):
    def refuse(key, value):
        raise RuntimeError("409: the task has moved on")

    runner.store.set = refuse
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
def test_twins_do_no_harm(platform, export, refuse_in_job, copy_only):
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


# Refusals say which cause holds


@pytest.mark.parametrize("refuse_in_job", [False, True])
def test_taken_by_another_file(platform, runner, export, deferrable, refuse_in_job):
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
def test_not_exportable(platform, runner, export, refuse_in_job, details, words):
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
def test_what_nobody_knows_of_the_platform_does_not_matter(platform, runner, export, knobs):
    platform.knobs.update(**knobs)
    operator = export()
    assert runner.run(operator)["state"] == "COMPLETED"
    assert Runner().run(operator)["adopted"]
    assert len(platform.exports) == 1


def test_an_adopted_copy_is_no_move(platform, runner, export):
    run_until_polled(platform)
    file = platform.add_file("c.txt", BYTES).id
    Runner().run(export(file=file, copy_only=True, wait_for_completion=False))
    retry = Runner(store=False)
    retry.try_number = 1
    text = failure(retry, export(file=file), AirflowFailException, SevenBridgesExportRefused)
    assert "was a copy" in text


def test_a_completed_export_without_its_object_is_no_success(platform, runner, export):
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*/object", status=404, code=9105)
    text = failure(runner, export(), AirflowException, SevenBridgesInDoubt)
    assert "no object" in text


def test_an_object_that_may_not_be_looked_at_is_a_line_in_the_log(platform, runner, export):
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*", times=0, status=403, code=9020)
    result = runner.run(export())
    assert result["state"] == "COMPLETED"
    assert result["uri"] is None
    assert result["etag"] is None
    assert result["size"] == len(BYTES)


# Bad input


@pytest.mark.parametrize("field", ["poll_interval", "timeout"])
@pytest.mark.parametrize("value", [0, -1, "10", True])
def test_numbers_that_are_not_templated_are_checked_at_once(export, field, value):
    with pytest.raises(SevenBridgesInputError, match=field):
        export(**{field: value})


def test_templated_fields():
    assert set(SevenBridgesExportOperator.template_fields) == {
        "file",
        "volume",
        "location",
        "overwrite",
        "copy_only",
        "properties",
        "validate_only",
        "sevenbridges_conn_id",
    }


def test_killed_it_says_that_the_export_goes_on(platform, runner, export, capsys):
    platform.knobs.stuck = True
    operator = export(wait_for_completion=False)
    operator.on_kill()
    runner.run(operator)
    operator.on_kill()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "the Platform cannot cancel" in line]
    assert platform.exports[0].id in line


def test_trouble_before_the_submission_is_waited_for(platform, runner, export, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.retry.MAINTENANCE_PAUSE", 0.01)
    monkeypatch.setattr("airflow_sb_provider.hooks.retry.random.uniform", lambda low, high: low)
    platform.trouble("error", status=503, code=0, method="GET", path="/v2/storage/exports")
    result = runner.run(export(overwrite=True))
    assert result["state"] == "COMPLETED"
    assert not result["adopted"]


@pytest.mark.parametrize("done", [False, True])
def test_maintenance_at_the_submission_is_doubt(platform, runner, export, deferrable, done):
    """A gateway may say so of a request that the Platform has accepted."""
    platform.knobs.running_seconds = 0.6
    platform.trouble("error", status=503, code=0, done=done)
    assert runner.run(export(deferrable=deferrable))["adopted"] is done
    assert len(platform.exports) == 1
    assert len(submissions(platform)) == (1 if done else 2)
