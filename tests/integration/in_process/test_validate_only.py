from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

BYTES = b"some bytes"


def test_the_report_of_a_dry_run_that_submits_nothing(platform, runner, export):
    platform.put_object("demo/results", "a/b.txt", b"old")
    operator = export(validate_only="true", overwrite=True)
    report = runner.run(operator)
    assert report == {
        "validate_only": True,
        "username": "demo",
        "intent": "move, overwrite",
        "file": operator.file,
        "name": "a.txt",
        "size": len(BYTES),
        "volume": "demo/results",
        "location": "a/b.txt",
        "uri": "s3://demo-results/exports/a/b.txt",
        "replaces": {"size": 3, "etag": report["replaces"]["etag"], "export_id": None, "aliases": []},
    }
    assert not platform.exports
    assert {record.path for record in platform.requests if record.method != "GET"} == {"/v2/bulk/files/get"}
    assert runner.xcom["export_id"] is None


def test_a_dry_run_reports_all_problems(platform, runner, export):
    platform.add_volume("demo/off", active=False, access_mode="RO")
    alias = platform.add_file("b.txt", BYTES, alias=("demo/archive", "old"))
    with pytest.raises(AirflowFailException) as caught:
        runner.run(export(file=alias.id, volume="demo/off", validate_only=True))
    text = str(caught.value)
    for words in ("access mode RO", "not active", "alias of an object at demo/archive/old"):
        assert words in text
    assert not platform.exports


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"file": "f" * 24}, "file: "),
        ({"volume": "demo/none"}, "volume: "),
        ({"file": "5f00000000000000000000f1"}, "is a folder"),
    ],
)
def test_a_dry_run_reports_an_invalid_file_or_volume(platform, runner, export, fields, words):
    with pytest.raises(AirflowFailException, match=words):
        runner.run(export(validate_only=True, **fields))


def test_a_dry_run_reports_a_taken_location(platform, runner, export):
    platform.put_object("demo/results", "a/b.txt", b"old")
    with pytest.raises(AirflowFailException, match="already holds an object"):
        runner.run(export(validate_only=True))


def test_without_permission_to_read_the_object_a_dry_run_succeeds(platform, runner, export):
    platform.trouble("error", method="GET", path="/v2/storage/volumes/*/object", status=403, code=9020)
    assert runner.run(export(validate_only=True))["replaces"] is None
