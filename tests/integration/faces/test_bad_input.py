"""Input that cannot be used: told at once, in full, before any request, without retries, in every half of a task."""

from __future__ import annotations

import json

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_sb_provider.exceptions import SevenBridgesInputError
from tests.integration.faces.conftest import use_token

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


@pytest.fixture(params=["execute", "look_again", "execute_complete"])
def half(request):
    return request.param


def refused(operator, runner, half="execute"):
    ti = type("TI", (), {"try_number": 1, "max_tries": 2, "xcom_push": lambda *_, **__: None})()
    arguments = {} if half == "execute" else {"event": {"status": "ended"}}
    with pytest.raises(AirflowFailException) as caught:
        getattr(operator, half)({"ti": ti, "task_state_store": runner.store}, **arguments)
    return caught.value


@pytest.mark.parametrize(("field", "value", "fix"), BAD, ids=lambda value: repr(value)[:40])
def test_a_wrong_value(platform, runner, export, half, field, value, fix):
    error = refused(export(**{field: value}), runner, half)
    assert isinstance(error.__cause__, SevenBridgesInputError)
    text = str(error)
    assert text.startswith(f"{field}: ")
    assert any(word in text for word in fix.split("|"))
    assert "\n" not in text, "one wrong field, one line"
    if isinstance(value, str) and value:
        assert value in text
    assert not platform.requests
    assert not runner.store.values


def test_everything_at_once(platform, runner, export, deferrable):
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
    error = refused(operator, runner)
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
def test_a_connection_that_does_not_exist(platform, runner, export, validate_only):
    error = refused(export(sevenbridges_conn_id="nowhere", validate_only=validate_only), runner)
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
def test_a_connection_that_cannot_be_used(platform, runner, export, monkeypatch, fields, words, validate_only):
    connection = json.loads(platform.connection_json()) | fields
    monkeypatch.setenv("AIRFLOW_CONN_SEVENBRIDGES_DEFAULT", json.dumps(connection))
    error = refused(export(validate_only=validate_only), runner)
    assert isinstance(error.__cause__, SevenBridgesInputError)
    assert words in str(error)
    assert "sevenbridges_default" in str(error)
    assert platform.token not in str(error)
    assert not platform.requests
    assert not runner.store.values


def test_a_token_that_is_refused_is_not_repeated_in_the_error(platform, runner, export, monkeypatch):
    use_token(monkeypatch, platform, "s3cr3t" * 6)
    error = refused(export(), runner)
    assert "s3cr3t" not in f"{error} {error.__cause__!r} {error.__cause__.__cause__!r}"
    assert [record.status for record in platform.requests] == [401]
