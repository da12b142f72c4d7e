"""Many files in one task, against the local Platform."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.integration.faces.conftest import paths, use_token

CREATE = "/v2/bulk/storage/exports/create"
PROJECT = "demo/many"
IN_FLIGHT = ("PENDING", "RUNNING")


@pytest.fixture
def files(platform):
    """Makes files in a project of their own and returns their ids."""

    def make(count, **details):
        return [platform.add_file(f"{n:05}.vcf", b"x" * 10, PROJECT, **details).id for n in range(count)]

    return make


def bulk(**fields):
    return SevenBridgesBulkExportOperator(
        **{"task_id": "bulk", "retries": 2, "poll_interval": 0.1, "deferrable": True, **fields}
    )


def project(**fields):
    return bulk(**{"project": PROJECT, "volume": "demo/results", "location_pattern": "many/{name}", **fields})


def listed(ids, **fields):
    return [{"file": each, "volume": "demo/results", "location": f"many/{each}", **fields} for each in ids]


def creates(platform):
    return [record for record in platform.requests if record.path == CREATE]


def jobs_by_file(platform):
    return Counter(job.file for job in platform.exports)


def aliases(platform, ids):
    return [platform.platform.files[each].alias for each in ids]


def once_each(platform, ids):
    """Every file was moved, by one job."""
    assert jobs_by_file(platform) == Counter(ids)
    assert all(aliases(platform, ids))


def test_a_project(platform, runner, files, deferrable):
    ids = files(250)
    result = runner.run(project(deferrable=deferrable))
    once_each(platform, ids)
    assert (result["state"], result["total"], result["counts"]) == ("COMPLETED", 250, {"COMPLETED": 250})
    assert (result["bytes"], result["adopted"], result["errors"]) == (2500, 0, [])
    assert len(json.dumps(result)) < 1000
    assert [len(record.json["items"]) for record in creates(platform)] == [100, 100, 50]
    assert platform.platform.files[ids[7]].alias == ("demo/results", "many/00007.vcf")


def test_a_list(platform, runner, files, deferrable):
    ids = files(150)
    runner.run(bulk(exports=listed(ids), deferrable=deferrable))
    once_each(platform, ids)
    asked = Counter(path for path in paths(platform) if "exports/get" not in path)
    assert asked == {
        "POST bulk/files/get": 2,
        "POST bulk/storage/exports/create": 2,
        "GET storage/volumes/demo/results": 1,
    }


def test_without_a_store(platform, storeless_runner, files):
    ids = files(250)
    storeless_runner.run(project(max_active=100))
    once_each(platform, ids)


def test_no_more_are_in_flight_than_allowed(platform, runner, files, deferrable):
    ids = files(200)
    most = []
    platform.on("accepted", lambda record: most.append(sum(job.state in IN_FLIGHT for job in platform.exports)))
    runner.run(project(max_active=60, deferrable=deferrable))
    once_each(platform, ids)
    assert max(most) <= 60
    if deferrable:
        waves = [deferred.trigger for deferred in runner.deferrals]
        assert waves[0].enough == 30
        assert waves[-1].enough is None


def test_copies_and_moves_go_apart(platform, runner, files):
    ids = files(20)
    wanted = listed(ids[:10]) + listed(ids[10:], copy_only=True)
    runner.run(bulk(exports=wanted))
    assert [bool(each) for each in aliases(platform, ids)] == [True] * 10 + [False] * 10
    assert sorted(record.query.get("copy_only", "") for record in creates(platform)) == ["", "true"]


def test_bad_ones_do_not_cost_the_others(platform, runner, files, deferrable):
    ids = files(20)
    bad = [
        platform.add_file("public.vcf", b"x", PROJECT, public=True).id,
        platform.add_file("archived.vcf", b"x", PROJECT, archived=True).id,
        platform.add_file("alias.vcf", b"x", PROJECT, alias=("demo/archive", "elsewhere.vcf")).id,
    ]
    with pytest.raises(AirflowFailException) as caught:
        runner.run(project(deferrable=deferrable))
    assert all(aliases(platform, ids))
    for each in bad:
        assert each in str(caught.value)
    assert "3 of 23 files were not exported" in str(caught.value)
    assert runner.xcom["summary"]["counts"] == {"COMPLETED": 20, "REFUSED": 3}
    assert {error["file"] for error in runner.xcom["summary"]["errors"]} == set(bad)


def test_a_folder_in_a_list_is_reported(platform, runner, files):
    [file] = files(1)
    folder = platform.platform.add_folder("sub", PROJECT).id
    with pytest.raises(AirflowFailException, match=r"sub.*is a folder; export its files"):
        runner.run(bulk(exports=listed([file, folder])))
    assert jobs_by_file(platform) == {file: 1}


def test_report_never_fails_for_a_bad_one(platform, runner, files):
    files(3)
    platform.trouble("job_fails", code=9100)
    result = runner.run(project(on_error="report"))
    assert result["state"] == "FAILED"
    assert result["counts"] == {"COMPLETED": 2, "FAILED": 1}
    assert result["errors"][0]["code"] == 9100


def test_fail_fast_asks_for_nothing_more(platform, runner, files, deferrable):
    files(50)
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException, match="1 of 50 files"):
        runner.run(project(on_error="fail_fast", max_active=10, deferrable=deferrable))
    assert len(platform.exports) < 50


def test_a_retry_asks_only_for_what_is_missing(platform, runner, files):
    ids = files(10)
    platform.trouble("job_fails", code=9100, times=2)
    with pytest.raises(AirflowException):
        runner.run(project())
    failed = [job.file for job in platform.exports if job.state == "FAILED"]
    result = runner.run(project())
    assert result["counts"] == {"COMPLETED": 10}
    assert jobs_by_file(platform) == Counter(ids) + Counter(failed)


def test_a_new_run_finds_all_done(platform, runner, files):
    ids = files(150)
    runner.run(project())
    before = len(platform.requests)
    result = type(runner)().run(project())
    once_each(platform, ids)
    assert (result["counts"], result["adopted"]) == ({"COMPLETED": 150}, 150)
    reads = [path for path in paths(platform)[before:] if path.endswith("/object")]
    assert len(reads) == 150, "each object is read: an alias alone does not show that its object is still there"
    assert len(platform.requests) - before <= 150 + 8


@pytest.mark.parametrize("trouble", ["lose_reply", "short_bulk", "swapped_bulk", "cut_json"])
def test_the_lost_answer_for_a_hundred(platform, runner, files, trouble, deferrable):
    ids = files(250)
    platform.trouble(trouble, path=CREATE)
    result = runner.run(project(deferrable=deferrable))
    once_each(platform, ids)
    assert result["counts"] == {"COMPLETED": 250}
    assert result["adopted"] == 100


@pytest.mark.parametrize("trouble", ["drop", "late_accept"])
def test_a_hundred_that_did_not_arrive_or_arrive_late(platform, runner, files, trouble, deferrable, monkeypatch):
    # A busy machine may be late too: what is accepted after the gateway's time-out cannot be told from what never is.
    use_token(monkeypatch, platform, platform.token, gateway_timeout=3)
    ids = files(250)
    platform.trouble(trouble, path=CREATE)
    runner.run(project(deferrable=deferrable))
    once_each(platform, ids)


def test_killed_between_two_hundreds(platform, runner, files):
    ids = files(250)
    platform.trouble("error", path=CREATE, after=1, status=401, code=90001)
    with pytest.raises(AirflowException):
        runner.run(project())
    assert len(platform.exports) == 100
    runner.run(project())
    once_each(platform, ids)


def test_one_export_that_spoils_a_whole_call_is_found(platform, runner, files):
    ids = files(8)
    platform.trouble("error", path=CREATE, status=400, code=9000, times=2)
    runner.run(project(on_error="report"))
    moved = sum(bool(each) for each in aliases(platform, ids))
    assert moved == 7


def test_the_manifest(platform, runner, files, tmp_path):
    ids = files(5, metadata={"sample_id": "S1"})
    platform.add_file("alias.vcf", b"x", PROJECT, alias=("demo/archive", "elsewhere.vcf"))
    place = tmp_path / "audit" / "manifest.jsonl"
    with pytest.raises(AirflowFailException, match="1 of 6"):
        runner.run(project(manifest=f"file://{place}", manifest_metadata=["sample_id"]))
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    assert {row["file"] for row in rows} >= set(ids)
    row = next(row for row in rows if row["file"] == ids[3])
    assert row["uri"] == "s3://demo-results/exports/many/00003.vcf"
    assert (row["state"], row["size"], row["metadata.sample_id"], row["adopted"]) == ("COMPLETED", 10, "S1", False)
    assert (row["dag_id"], row["run_id"], row["task_id"], row["try_number"]) == ("dag", "run", "bulk", 1)
    assert row["export_id"] in {job.id for job in platform.exports}
    assert row["started_on"] <= row["finished_on"]
    bad = next(row for row in rows if row["name"] == "alias.vcf")
    assert bad["state"] == "REFUSED"
    assert "already an alias" in bad["message"]


def test_the_manifest_as_csv(platform, runner, files, tmp_path):
    files(2)
    runner.run(project(manifest=str(tmp_path / "manifest.csv"), properties={"sse_algorithm": "AES256"}))
    rows = list(csv.DictReader((tmp_path / "manifest.csv").open()))
    assert [row["state"] for row in rows] == ["COMPLETED", "COMPLETED"]
    assert rows[0]["properties"] == '{"sse_algorithm": "AES256"}'


def test_a_dry_run_changes_nothing(platform, runner, files):
    files(3)
    result = runner.run(project(validate_only="true"))
    assert (result["validate_only"], result["total"], result["bytes"]) == (True, 3, 30)
    assert result["exports"][0]["uri"] == "s3://demo-results/exports/many/00000.vcf"
    assert platform.exports == []


def test_the_time_is_over(platform, runner, files, deferrable):
    files(3)
    platform.knobs.stuck = True
    with pytest.raises(AirflowException, match="goes on at the Platform"):
        runner.run(project(timeout=0.5, deferrable=deferrable))
    assert runner.xcom["summary"]["state"] == "RUNNING"


def test_overwriting_moves_look_at_each_object(platform, runner, files):
    ids = files(3)
    platform.put_object("demo/results", "many/00001.vcf", b"old")
    runner.run(project(overwrite=True))
    once_each(platform, ids)
    assert [item["overwrite"] for item in creates(platform)[0].json["items"]] == [False, True, False]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "project, folder, file_ids"),
        ({"exports": [], "project": "a/b"}, "not both"),
        ({"exports": [{"file": "x"}]}, r"exports\[0\].file"),
        ({"project": PROJECT, "volume": "demo/results", "manifest": "a.xml"}, "manifest: 'a.xml'"),
        ({"project": PROJECT, "volume": "demo/results", "max_files": "many"}, "max_files: 'many'"),
        ({"project": PROJECT, "volume": "demo/results", "validate_only": "perhaps"}, "validate_only: 'perhaps'"),
        ({"project": PROJECT, "volume": "demo/results", "location_pattern": "{nme}"}, "location_pattern"),
    ],
)
def test_wrong_input_is_named_before_any_request(platform, runner, fields, words):
    with pytest.raises(AirflowFailException, match=words):
        runner.run(bulk(**fields))
    assert platform.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"on_error": "shrug"}, "on_error: 'shrug'"),
        ({"max_active": 1001}, "max_active: 1001"),
        ({"max_active": True}, "max_active: True"),
        ({"timeout": -1}, "timeout: -1"),
    ],
)
def test_what_is_not_templated_is_checked_at_once(fields, words):
    with pytest.raises(Exception, match=words):
        bulk(**fields)


def test_what_cannot_be_meant_is_refused_before_anything_changes(platform, runner, files):
    ids = files(3)
    for wanted, words in [
        ({"exports": listed([ids[0], ids[0]])}, "twice"),
        ({"exports": listed(ids, location="same")}, "would both become"),
        ({"project": PROJECT, "volume": "demo/results", "max_files": 2}, "max_files: there are 3"),
        ({"project": PROJECT, "volume": "demo/results", "name": "*.bam"}, "nothing to export"),
    ]:
        with pytest.raises(AirflowFailException, match=words):
            runner.run(bulk(**wanted))
    assert platform.exports == []
