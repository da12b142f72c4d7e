"""Invalid input: all problems are reported together, before any request and without retries."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.jobs.ids import read_job_ids
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import use_token

BAD = [
    ("file", "", "24 hexadecimal digits|file id"),
    ("file", None, "file id"),
    ("file", "None", "file id"),
    ("file", "567890abc9b0307bc041416", "24 hexadecimal digits"),
    ("file", "567890abc9b0307bc041416z", "24 hexadecimal digits"),
    ("file", "/folder/a.vcf", "not its name or path"),
    ("volume", "", "rfranklin/output"),
    ("volume", "output", "owner/name"),
    ("volume", "rfranklin/", "owner/name"),
    ("volume", "/output", "owner/name"),
    ("volume", "a//b", "owner/name"),
    ("location", "", "results/output.vcf"),
    ("location", "/a.vcf", "starts with a slash"),
    ("location", "a/", "ends with a slash"),
    ("location", "s3://demo-archive/n/output.vcf", "write 'n/output.vcf'"),
    ("location", "gs:/demo-archive/n/output.vcf", "write 'n/output.vcf'"),
    ("location", 5.6e22, "5.6e+22 is a number: native rendering"),
    ("file", 5.6e22, "5.6e+22 is a number: native rendering"),
    ("file", True, "True is a boolean"),
    ("volume", 1.5, "1.5 is a number"),
    ("overwrite", "maybe", "true or false"),
    ("overwrite", "", "true or false"),
    ("copy_only", "None", "true or false"),
    ("copy_only", 1, "true or false"),
    ("validate_only", "perhaps", "true or false"),
    ("properties", {"storage_class": "GLACIER"}, "aws_storage_class"),
    ("properties", {"sse_algorithm": "rot13"}, "AES256"),
    ("properties", {"sse_aws_kms_key_id": "key"}, "aws:kms"),
    ("properties", {"sse_algorithm": "AES256", "sse_aws_kms_key_id": "key"}, "aws:kms"),
    ("properties", {"aws_canned_acl": "everybody"}, "bucket-owner-full-control"),
    ("properties", {"aws_storage_class": ""}, "leave it out"),
    ("properties", "{'sse_algorithm': 'AES256'}", "tojson"),
    ("properties", "[]", "mapping"),
    ("sevenbridges_conn_id", "", "connection"),
    ("sevenbridges_conn_id", None, "connection"),
]


def rejection(operator, runner):
    ti = type("TI", (), {"try_number": 1, "max_tries": 2, "xcom_push": lambda *_, **__: None})()
    with pytest.raises(AirflowFailException) as caught:
        operator.execute({"ti": ti, "task_state_store": runner.store})
    return caught.value


@pytest.mark.parametrize(("field", "value", "fix"), BAD, ids=lambda value: repr(value)[:40])
def test_a_wrong_value(platform, runner, export, field, value, fix):
    error = rejection(export(**{field: value}), runner)
    assert isinstance(error.__cause__, SevenBridgesInputError)
    text = str(error)
    assert text.startswith(f"{field}: ")
    assert any(word in text for word in fix.split("|"))
    assert "\n" not in text, "one wrong field, one line"
    if isinstance(value, str) and value:
        assert value in text
    assert not platform.requests
    assert not runner.store.values


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in ("wait_for_completion", "deferrable")
        for value in (None, "", "perhaps", 0, 1, [], object())
    ],
)
def test_an_invalid_switch_is_rejected_by_the_constructor(export, field, value):
    with pytest.raises(SevenBridgesInputError, match=rf"^{field}: .* use true or false.*not templated"):
        export(**{field: value})


def test_a_switch_that_only_airflow_can_resolve_is_rejected(export):
    """In a mapped task group a field that is not templated keeps the argument itself, which is true."""
    with DAG("d", start_date=datetime(2026, 1, 1)):

        @task
        def choose():
            return False

        chosen = choose()
        for field in ("wait_for_completion", "deferrable"):
            with pytest.raises(SevenBridgesInputError, match=rf"^{field}: .*not templated"):
                export(**{field: chosen, "task_id": field})
        with pytest.raises(SevenBridgesInputError, match="manifest_metadata: "):
            SevenBridgesBulkExportOperator(task_id="bulk", manifest_metadata=chosen)
        with pytest.raises(SevenBridgesInputError, match="start_from_trigger: "):
            SevenBridgesExportSensor(task_id="sensor", export_id="x", start_from_trigger=chosen)


def test_a_switch_may_be_text(platform, runner, export):
    operator = export(wait_for_completion="false", deferrable="False")
    assert (operator.wait_for_completion, operator.deferrable) == (False, False)
    platform.knobs.stuck = True
    assert runner.run(operator)["state"] in ("PENDING", "RUNNING")


@pytest.mark.parametrize("value", [None, "30", True, 0, -1, float("nan"), float("inf"), [30]])
def test_an_invalid_poll_interval_is_rejected_by_the_constructor(export, value):
    with pytest.raises(SevenBridgesInputError, match=r"^poll_interval: .* not a number of seconds"):
        export(poll_interval=value)


def test_an_id_of_digits_may_be_a_number(platform, runner, export):
    """Native rendering converts the text of a number."""
    platform.add_file("digits.txt", b"some bytes", "demo/genomics", file_id="1" * 24)
    result = runner.run(export(file=int("1" * 24), location=20260101))
    assert (result["file"], result["location"]) == ("1" * 24, "20260101")
    assert read_job_ids(int("1" * 24), EXPORT) == ["1" * 24]
    assert read_job_ids([int("1" * 24), "a"], EXPORT) == ["1" * 24, "a"]
    for wrong in (1e23, True):
        with pytest.raises(SevenBridgesInputError, match="is not a valid export id"):
            read_job_ids(wrong, EXPORT)


def test_one_id_is_not_split_into_characters(platform, runner, export):
    export_id = runner.run(export())["export_id"]
    file_id = platform.exports[0].file
    hook = SevenBridgesHook()
    before = len(platform.requests)
    assert [job.id for job in hook.get_exports(export_id)] == [export_id]
    assert [file.id for file in hook.get_files(file_id)] == [file_id]
    assert [job.id for job in hook.list_exports(states="COMPLETED")] == [export_id]
    project = platform.platform.files[file_id].project
    assert [file.id for file in hook.list_files(project=project, names="a.txt")] == [file_id]
    assert hook.list_files(project=project, tags="ab", metadata={"s": "12"}) == []
    assert len(platform.requests) == before + 5
    query = platform.requests[-1].query
    assert (query["tag"], query["metadata.s"]) == ("ab", "12")
    assert SevenBridgesExportTrigger(export_id).export_ids == (export_id,)
    assert SevenBridgesExportTrigger(iter([export_id])).export_ids == (export_id,)


@pytest.mark.parametrize(
    "ids", [None, b"abc", {"a": 1}, 7, 1.5, [None], [b"a"], [["a"]], [1.5], [True], [""]], ids=repr
)
def test_invalid_ids_are_rejected(platform, ids):
    hook = SevenBridgesHook()
    for call in (hook.get_exports, hook.get_files, SevenBridgesExportTrigger):
        with pytest.raises(SevenBridgesInputError, match=r"(export|file)_ids"):
            call(ids)
    with pytest.raises(SevenBridgesInputError):
        hook.start_exports({"file": "a"} if ids is None else "abc")
    assert platform.requests == []


def test_all_invalid_fields_are_reported_in_order(platform, runner, export, deferrable):
    operator = export(
        file="x",
        volume="y",
        location="z/",
        overwrite="o",
        copy_only="c",
        properties={"p": "q"},
        validate_only="d",
        sevenbridges_conn_id=" ",
        deferrable=deferrable,
    )
    error = rejection(operator, runner)
    assert [line.partition(":")[0] for line in str(error).splitlines()] == [
        "file",
        "volume",
        "location",
        "overwrite",
        "copy_only",
        "properties",
        "validate_only",
        "sevenbridges_conn_id",
    ]
    assert not platform.requests


@pytest.mark.parametrize("validate_only", [False, True])
def test_a_connection_that_does_not_exist_is_reported(platform, runner, export, validate_only):
    error = rejection(export(sevenbridges_conn_id="nowhere", validate_only=validate_only), runner)
    assert "nowhere" in str(error)
    assert "sevenbridges_conn_id" in str(error)
    assert not platform.requests


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": ""}, "password"),
        ({"password": None}, "password"),
        ({"password": "two words"}, "password"),
        ({"host": "http://example.org/v2"}, "allow_http"),
        ({"host": "", "extra": {"environment": "mars"}}, "environment: its value is not known"),
        ({"host": ""}, "environment"),
        ({"extra": {"read_timeout": "soon"}}, "read_timeout"),
    ],
    ids=str,
)
@pytest.mark.parametrize("validate_only", [False, True])
def test_an_invalid_connection_is_reported(platform, runner, export, monkeypatch, fields, words, validate_only):
    connection = json.loads(platform.connection_json()) | fields
    monkeypatch.setenv("AIRFLOW_CONN_SEVENBRIDGES_DEFAULT", json.dumps(connection))
    error = rejection(export(validate_only=validate_only), runner)
    assert isinstance(error.__cause__, SevenBridgesInputError)
    assert words in str(error)
    assert "sevenbridges_default" in str(error)
    assert platform.token not in str(error)
    assert not platform.requests
    assert not runner.store.values


def test_a_rejected_token_is_not_repeated_in_the_error(platform, runner, export, monkeypatch):
    use_token(monkeypatch, platform, "s3cr3t" * 6)
    error = rejection(export(), runner)
    assert "s3cr3t" not in f"{error} {error.__cause__!r} {error.__cause__.__cause__!r}"
    assert [record.status for record in platform.requests] == [401]
