"""The objects of exports are compared with the bucket: at the end of a bulk task, or later by an earlier manifest."""

from __future__ import annotations

import csv
import json
from collections import Counter
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.exceptions import (
    SevenBridgesBatchFailed,
    SevenBridgesForbiddenError,
    SevenBridgesVerificationFailed,
)
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesVerifyExportsOperator
from tests.integration.in_process.conftest import paths, use_token
from tests.integration.in_process.test_bulk_export import PROJECT, aliases, once_each, rows_of

HOUR = 3600.0
RESULTS = "demo/results"
LIST, OBJECT = (f"/v2/storage/volumes/{RESULTS}/{name}" for name in ("list", "object"))
DATA = b"x" * 10


@pytest.fixture
def files(platform):
    """Makes files in a project of their own and returns their ids."""

    def make(count, data=DATA, **details):
        return [platform.add_file(f"{n:05}.vcf", data, PROJECT, **details).id for n in range(count)]

    return make


@pytest.fixture
def manifest(tmp_path):
    return tmp_path / "manifest.jsonl"


def bulk(**fields):
    defaults = {"task_id": "bulk", "retries": 2, "poll_interval": 0.1, "deferrable": True, "copy_only": True}
    if "exports" not in fields:
        defaults |= {"project": PROJECT, "volume": RESULTS, "location_pattern": "many/{name}"}
    return SevenBridgesBulkExportOperator(**{**defaults, **fields})


def verify(manifest, **fields):
    return SevenBridgesVerifyExportsOperator(task_id="verify", manifest=str(manifest), **fields)


def counts(result):
    return {key: value for key, value in result.items() if key != "errors" and value}


def reads(platform, since=0):
    """How many requests listed or read objects."""
    found = Counter(path.rpartition("/")[2] for path in paths(platform)[since:] if "/volumes/" in path)
    return found["list"], found["object"]


def remove(platform, location, volume=RESULTS):
    volume = platform.platform.volumes[volume]
    platform.platform.storage.delete(volume.bucket, platform.platform.key(volume, location))


# An earlier manifest


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_an_earlier_manifest_is_verified_by_lists(platform, runner, files, tmp_path, name):
    files(250)
    runner.run(bulk(manifest=str(tmp_path / name)))
    before = len(platform.requests)
    result = runner.run(verify(tmp_path / name))
    assert result == {"total": 250, "verified": 250, "missing": 0, "changed": 0, "unknown": 0, "errors": []}
    assert runner.xcom["summary"] == result
    assert reads(platform, before) == (3, 0)
    assert len(platform.requests) - before == 3


def test_what_is_missing_or_changed_is_named(platform, runner, files, manifest):
    ids = files(5)
    runner.run(bulk(manifest=str(manifest)))
    remove(platform, "many/00003.vcf")
    platform.put_object(RESULTS, "many/00001.vcf", b"longer than before")
    with pytest.raises(AirflowFailException) as caught:
        runner.run(verify(manifest))
    assert isinstance(caught.value, SevenBridgesVerificationFailed)
    text = str(caught.value)
    assert "1 of 5 objects of the manifest" in text
    assert f"missing  file {ids[3]}: No object is at {RESULTS}/many/00003.vcf." in text
    assert f"changed  file {ids[1]}: The object at {RESULTS}/many/00001.vcf has 18 bytes instead of 10." in text
    summary = runner.xcom["summary"]
    assert counts(summary) == {"total": 5, "verified": 3, "missing": 1, "changed": 1}
    assert summary["errors"][1] == {
        "file": ids[3],
        "uri": "s3://demo-results/exports/many/00003.vcf",
        "state": "missing",
        "message": f"No object is at {RESULTS}/many/00003.vcf.",
    }
    assert runner.run(verify(manifest, on_error="report")) == summary


def test_the_first_of_each_kind_is_named_and_ten_are_returned(platform, runner, files, manifest):
    ids = files(30)
    runner.run(bulk(manifest=str(manifest)))
    for n in range(29):
        remove(platform, f"many/{n:05}.vcf")
    platform.put_object(RESULTS, "many/00029.vcf", b"")
    with pytest.raises(AirflowFailException) as caught:
        runner.run(verify(manifest))
    assert [each in str(caught.value) for each in ids] == [True, *[False] * 28, True]
    assert [error["file"] for error in runner.xcom["summary"]["errors"]] == ids[:10]


@pytest.mark.parametrize("knobs", [{"etag_style": "md5"}, {"etag_style": "quoted"}, {"etag_style": "multipart"}])
def test_another_etag_with_the_same_size_is_a_change(platform, runner, files, manifest, knobs):
    files(3)
    platform.knobs.update(**knobs)
    runner.run(bulk(manifest=str(manifest), verify=True))
    assert counts(runner.run(verify(manifest))) == {"total": 3, "verified": 3}
    platform.put_object(RESULTS, "many/00001.vcf", b"y" * 10)
    with pytest.raises(AirflowFailException, match=r"1 changed:\n.*has the ETag \w+(-2)? instead of"):
        runner.run(verify(manifest))


def test_the_content_decides_on_google_cloud_storage(platform, runner, files, manifest):
    platform.add_volume("demo/gcs", service_type="GCS")
    files(3, hosted_on=("google:us-west1",))
    runner.run(bulk(volume="demo/gcs", manifest=str(manifest), verify=True))
    checksums = {(row["md5"], row["crc32c"]) for row in rows_of(manifest)}
    assert [(len(md5), len(crc32c)) for md5, crc32c in checksums] == [(24, 8)]
    # The same content under another ETag, as after a change of its storage class.
    platform.knobs.etag_style = "multipart"
    assert counts(runner.run(verify(manifest))) == {"total": 3, "verified": 3}
    platform.put_object("demo/gcs", "many/00001.vcf", b"y" * 10)
    with pytest.raises(AirflowFailException, match="has the MD5 "):
        runner.run(verify(manifest))


def test_only_completed_exports_are_compared(platform, runner, files, manifest):
    files(3)
    platform.add_file("public.vcf", b"x", PROJECT, public=True)
    runner.run(bulk(manifest=str(manifest), on_error="report"))
    assert counts(runner.run(verify(manifest))) == {"total": 3, "verified": 3}


def test_an_object_that_nothing_is_known_of_is_unknown(platform, runner, files, manifest):
    files(3)
    runner.run(bulk(manifest=str(manifest)))
    platform.knobs.omit = {"object.metadata"}
    assert counts(runner.run(verify(manifest))) == {"total": 3, "unknown": 3}


def test_a_list_that_is_late_is_not_believed(platform, runner, files, manifest):
    files(5)
    platform.knobs.volume_list_lag_seconds = HOUR
    runner.run(bulk(manifest=str(manifest)))
    before = len(platform.requests)
    assert counts(runner.run(verify(manifest))) == {"total": 5, "verified": 5}
    assert reads(platform, before) == (1, 5)


def test_an_object_that_is_late_is_read_again(platform, runner, files, manifest, monkeypatch):
    files(3)
    platform.knobs.object_lag_seconds = HOUR
    runner.run(bulk(manifest=str(manifest)))
    paused = []

    def sleep(seconds):
        paused.append(seconds)
        platform.knobs.object_lag_seconds = 0

    monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 600.0)
    monkeypatch.setattr("airflow_sb_provider.engine.verification.time", SimpleNamespace(sleep=sleep))
    assert counts(runner.run(verify(manifest))) == {"total": 3, "verified": 3}
    [seconds] = paused
    assert 0 < seconds <= 600


def test_an_old_object_that_is_missing_is_not_waited_for(platform, runner, files, manifest, monkeypatch):
    files(3)
    runner.run(bulk(manifest=str(manifest)))
    rows = [{**row, "finished_on": "2026-01-01T00:00:00+00:00"} for row in rows_of(manifest)]
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    remove(platform, "many/00001.vcf")

    def sleep(seconds):
        raise AssertionError(seconds)

    monkeypatch.setattr("airflow_sb_provider.engine.result.APPEARS_WITHIN", 600.0)
    monkeypatch.setattr("airflow_sb_provider.engine.verification.time", SimpleNamespace(sleep=sleep))
    with pytest.raises(AirflowFailException, match="1 of 3 objects"):
        runner.run(verify(manifest))


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("slash", [False, True])
def test_objects_in_many_folders(platform, runner, manifest, recursive, slash):
    platform.knobs.update(volume_list_recursive=recursive, prefix_joined_with_slash=slash)
    for n in range(3):
        for folder in ("", "a", "a/b", "a/b/c"):
            platform.add_file(f"{n}.vcf", DATA, PROJECT, folder=folder or None)
    platform.add_file("alone.vcf", DATA, PROJECT, folder="d")
    runner.run(bulk(manifest=str(manifest), recursive=True, location_pattern="{path}/{name}"))
    before = len(platform.requests)
    assert counts(runner.run(verify(manifest))) == {"total": 13, "verified": 13}
    # A folder for each list; the object that is alone is read.
    assert reads(platform, before) == (4, 1)


def test_a_folder_full_of_other_objects_costs_at_most_two_requests_for_each(platform, runner, files, manifest):
    files(4)
    for n in range(700):
        platform.put_object(RESULTS, f"many/00-others-{n}", b"")
    runner.run(bulk(manifest=str(manifest)))
    before = len(platform.requests)
    assert counts(runner.run(verify(manifest))) == {"total": 4, "verified": 4}
    assert reads(platform, before) == (4, 4)


def test_a_volume_that_cannot_be_listed_is_read_object_by_object(platform, runner, files, manifest):
    files(3)
    runner.run(bulk(manifest=str(manifest)))
    before = len(platform.requests)
    platform.trouble("error", method="GET", path=LIST, times=0, status=403, code=9020)
    assert counts(runner.run(verify(manifest))) == {"total": 3, "verified": 3}
    assert reads(platform, before) == (1, 3)


def test_a_volume_that_cannot_be_read_is_an_error(platform, runner, files, manifest, monkeypatch):
    files(20)
    runner.run(bulk(manifest=str(manifest)))
    before = len(platform.requests)
    use_token(monkeypatch, platform, platform.add_token("outsider", access="none"))
    with pytest.raises(AirflowFailException, match=rf"Object many/00000.vcf on volume {RESULTS}: .*9020") as caught:
        runner.run(verify(manifest, on_error="report"))
    assert isinstance(caught.value, SevenBridgesForbiddenError)
    # Not one for each of the others.
    assert reads(platform, before) == (1, 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"manifest": "m.xml"}, "manifest: 'm.xml' has no known suffix"),
        ({"manifest": None}, "manifest: 'None' has no known suffix"),
        ({"manifest": "/nowhere/m.csv"}, "manifest: there is nothing at /nowhere/m.csv"),
        ({"manifest": "m.csv", "sevenbridges_conn_id": ""}, "sevenbridges_conn_id: "),
    ],
)
def test_what_cannot_be_read_is_named_before_any_request(platform, runner, fields, words):
    with pytest.raises(AirflowFailException, match=words):
        runner.run(verify(**fields))
    assert platform.requests == []


def test_a_folder_is_no_manifest(platform, runner, tmp_path):
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(AirflowFailException, match=r"manifest: what is at .*m\.csv cannot be read"):
        runner.run(verify(tmp_path / "m.csv"))


def test_an_invalid_row_is_an_error_that_names_its_line(platform, runner, files, manifest):
    files(2)
    runner.run(bulk(manifest=str(manifest)))
    manifest.write_text(manifest.read_text() + '{"file": "{{ conn.sevenbridges_default.password }}"}\n')
    with pytest.raises(AirflowFailException, match=r"manifest: .*, line 3: it is not a row of a manifest"):
        runner.run(verify(manifest))


def test_unknown_options_are_errors_when_the_dag_is_parsed():
    with pytest.raises(Exception, match="on_error: 'shrug' is not known; use fail, report"):
        verify("m.csv", on_error="shrug")


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_names_in_a_manifest_are_data(platform, runner, tmp_path, name):
    hostile = ["{{ 7*191 }}.vcf", "=HYPERLINK(1).vcf", "'=x.vcf", " a b .vcf ", "\u200b%2e%2e.vcf", 'a"b,c.vcf', "None"]
    for each in hostile:
        platform.add_file(each, DATA, PROJECT)
    runner.run(bulk(manifest=str(tmp_path / name), location_pattern="{name}"))
    assert counts(runner.run(verify(tmp_path / name))) == {"total": 7, "verified": 7}
    for each in hostile:
        remove(platform, each)
    with pytest.raises(AirflowFailException) as caught:
        runner.run(verify(tmp_path / name))
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert runner.xcom["summary"]["missing"] == 7


# At the end of a bulk export


def test_a_bulk_task_verifies_its_exports_once(platform, runner, files, manifest, deferrable):
    ids = files(250)
    result = runner.run(
        bulk(verify=True, manifest=str(manifest), deferrable=deferrable, max_active=100, copy_only=False)
    )
    once_each(platform, ids)
    assert result["counts"] == {"COMPLETED": 250}
    rows = rows_of(manifest)
    assert {(row["size"], row["md5"], row["crc32c"]) for row in rows} == {(10, None, None)}
    assert len({row["etag"] for row in rows}) == 1
    assert len(rows[0]["etag"]) == 32
    assert reads(platform) == (3, 0)


def test_without_verification_nothing_is_read(platform, runner, files, manifest):
    files(3)
    runner.run(bulk(manifest=str(manifest)))
    assert {(row["etag"], row["md5"], row["crc32c"]) for row in rows_of(manifest)} == {(None, None, None)}
    assert reads(platform) == (0, 0)


def test_the_columns_of_csv_are_always_there(platform, runner, files, tmp_path):
    files(1)
    runner.run(bulk(manifest=str(tmp_path / "m.csv")))
    [row] = csv.DictReader((tmp_path / "m.csv").open())
    assert [row[name] for name in ("etag", "md5", "crc32c")] == ["", "", ""]


def test_a_missing_object_is_in_doubt_and_a_retry_adopts_it(platform, runner, files, manifest, deferrable):
    ids = files(3)
    platform.knobs.object_lag_seconds = HOUR
    fields = {"verify": "true", "manifest": str(manifest), "deferrable": deferrable, "copy_only": False}
    with pytest.raises(AirflowException, match="3 of 3 files were not exported") as caught:
        runner.run(bulk(**fields))
    assert isinstance(caught.value, SevenBridgesBatchFailed)
    assert not isinstance(caught.value, AirflowFailException)
    assert "is COMPLETED, but no object is at demo/results/many/00000.vcf. Check the bucket." in str(caught.value)
    assert runner.xcom["summary"]["counts"] == {"IN_DOUBT": 3}
    assert {row["state"] for row in rows_of(manifest)} == {"IN_DOUBT"}
    platform.knobs.object_lag_seconds = 0
    result = runner.run(bulk(**fields))
    assert (result["counts"], result["adopted"]) == ({"COMPLETED": 3}, 3)
    once_each(platform, ids)
    assert all(row["etag"] for row in rows_of(manifest))


def test_an_object_of_another_size_is_in_doubt(platform, runner, files, manifest):
    ids = files(3)

    def replaced(record):
        if record.path == LIST:
            platform.put_object(RESULTS, "many/00001.vcf", b"")

    platform.on("request", replaced)
    result = runner.run(bulk(verify=True, manifest=str(manifest), on_error="report"))
    assert (result["state"], result["counts"]) == ("FAILED", {"COMPLETED": 2, "IN_DOUBT": 1})
    assert result["errors"][0]["file"] == ids[1]
    assert "has 0 bytes instead of 10. Check the object before you use it." in result["errors"][0]["message"]
    assert [row["state"] for row in rows_of(manifest)] == ["COMPLETED", "IN_DOUBT", "COMPLETED"]


def test_an_object_that_cannot_be_read_is_in_doubt(platform, runner, files, manifest):
    files(5)
    for path in (LIST, OBJECT):
        platform.trouble("error", method="GET", path=path, times=0, status=403, code=9201)
    with pytest.raises(AirflowException, match=r"could not be read: .*9201") as caught:
        runner.run(bulk(verify=True, manifest=str(manifest)))
    assert not isinstance(caught.value, AirflowFailException)
    assert runner.xcom["summary"]["counts"] == {"IN_DOUBT": 5}
    assert reads(platform) == (1, 3)


def test_adopted_exports_are_verified_too(platform, runner, files, manifest):
    ids = files(5)
    runner.run(bulk(copy_only=False))
    before = len(platform.requests)
    result = type(runner)().run(bulk(copy_only=False, verify=True, manifest=str(manifest)))
    assert (result["adopted"], all(aliases(platform, ids))) == (5, True)
    # The check of an adopted move reads its object.
    assert reads(platform, before) == (1, 5)
    assert all(row["etag"] for row in rows_of(manifest))


def test_two_volumes_and_lists_of_exports(platform, runner, files, manifest):
    ids = files(4)
    exports = [
        {"file": each, "volume": volume, "location": f"{folder}/{each}", "copy_only": True}
        for each in ids
        for volume, folder in ((RESULTS, "a"), ("demo/archive", "b"))
    ]
    operator = bulk(exports=exports, verify=True, manifest=str(manifest), copy_only=False)
    assert runner.run(operator)["counts"] == {"COMPLETED": 8}
    assert reads(platform) == (2, 0)
    assert counts(runner.run(verify(manifest))) == {"total": 8, "verified": 8}


def test_a_wrong_value_is_an_error_before_any_request(platform, runner, files):
    with pytest.raises(AirflowFailException, match="verify: 'perhaps' is not a boolean"):
        runner.run(bulk(verify="perhaps"))
    assert platform.requests == []
