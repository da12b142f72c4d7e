"""Many files in one task, against the local Platform."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.integration.in_process.conftest import paths, use_token

CREATE = "/v2/bulk/storage/exports/create"
PROJECT = "demo/many"
IN_FLIGHT = ("PENDING", "RUNNING")


@pytest.fixture
def files(platform):
    """Return a function that creates files in a project of their own and returns their ids."""

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
    """Assert that every file was moved, by one job."""
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
    requests = Counter(path for path in paths(platform) if "exports/get" not in path)
    assert requests == {
        "POST bulk/files/get": 2,
        "POST bulk/storage/exports/create": 2,
        "GET storage/volumes/demo/results": 1,
    }


def test_without_a_store(platform, storeless_runner, files):
    ids = files(250)
    storeless_runner.run(project(max_active=100))
    once_each(platform, ids)


def test_at_most_max_active_exports_are_in_flight(platform, runner, files, deferrable):
    ids = files(200)
    most = []
    platform.on("accepted", lambda record: most.append(sum(job.state in IN_FLIGHT for job in platform.exports)))
    runner.run(project(max_active=60, deferrable=deferrable))
    once_each(platform, ids)
    assert max(most) <= 60
    if deferrable:
        waves = [deferred.trigger for deferred in runner.deferrals]
        assert waves[0].min_finished == 30
        assert waves[-1].min_finished is None


def test_copies_and_moves_are_submitted_in_separate_calls(platform, runner, files):
    ids = files(20)
    wanted = listed(ids[:10]) + listed(ids[10:], copy_only=True)
    runner.run(bulk(exports=wanted))
    assert [bool(each) for each in aliases(platform, ids)] == [True] * 10 + [False] * 10
    assert sorted(record.query.get("copy_only", "") for record in creates(platform)) == ["", "true"]


def test_rejected_exports_do_not_affect_the_others(platform, runner, files, deferrable):
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
    with pytest.raises(AirflowFailException, match=r"sub.*is a folder. Export its files"):
        runner.run(bulk(exports=listed([file, folder])))
    assert jobs_by_file(platform) == {file: 1}


def test_on_error_report_does_not_fail_the_task(platform, runner, files):
    files(3)
    platform.trouble("job_fails", code=9100)
    result = runner.run(project(on_error="report"))
    assert result["state"] == "FAILED"
    assert result["counts"] == {"COMPLETED": 2, "FAILED": 1}
    assert result["errors"][0]["code"] == 9100


def test_fail_fast_submits_no_more_exports(platform, runner, files, deferrable):
    files(50)
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException, match="1 of 50 files"):
        runner.run(project(on_error="fail_fast", max_active=10, deferrable=deferrable))
    assert len(platform.exports) < 50


def test_a_retry_submits_only_the_missing_exports(platform, runner, files, capsys):
    ids = files(10)
    platform.trouble("job_fails", code=9100, times=2)
    with pytest.raises(AirflowException):
        runner.run(project())
    failed = [job.file for job in platform.exports if job.state == "FAILED"]
    failed_ids = [job.id for job in platform.exports if job.state == "FAILED"]
    capsys.readouterr()
    result = runner.run(project())
    log = capsys.readouterr().out
    assert log.count("submitting again") == 2
    assert all(f"Export {job_id} failed (9100: " in log for job_id in failed_ids)
    assert result["counts"] == {"COMPLETED": 10}
    assert jobs_by_file(platform) == Counter(ids) + Counter(failed)


def test_a_new_run_adopts_all_completed_exports(platform, runner, files):
    ids = files(150)
    runner.run(project())
    before = len(platform.requests)
    result = type(runner)().run(project())
    once_each(platform, ids)
    assert (result["counts"], result["adopted"]) == ({"COMPLETED": 150}, 150)
    reads = [path for path in paths(platform)[before:] if path.endswith("/object")]
    assert len(reads) == 150, "each object is read: an alias alone does not show that its object is still there"
    assert len(platform.requests) - before <= 150 + 8


@pytest.mark.parametrize("fault", ["lose_reply", "short_bulk", "swapped_bulk", "cut_json"])
def test_exports_whose_bulk_response_is_lost_are_adopted(platform, runner, files, fault, deferrable):
    ids = files(250)
    platform.trouble(fault, path=CREATE)
    result = runner.run(project(deferrable=deferrable))
    once_each(platform, ids)
    assert result["counts"] == {"COMPLETED": 250}
    assert result["adopted"] == 100


@pytest.mark.parametrize("fault", ["drop", "late_accept"])
def test_a_bulk_request_that_is_dropped_or_late_exports_each_file_once(
    platform, runner, files, fault, deferrable, monkeypatch
):
    # Allow for a busy machine: a request accepted after the gateway timeout counts as never accepted.
    use_token(monkeypatch, platform, platform.token, gateway_timeout=3)
    ids = files(250)
    platform.trouble(fault, path=CREATE)
    runner.run(project(deferrable=deferrable))
    once_each(platform, ids)


def test_a_task_that_fails_between_two_bulk_requests_exports_each_file_once(platform, runner, files):
    ids = files(250)
    platform.trouble("error", path=CREATE, after=1, status=401, code=90001)
    with pytest.raises(AirflowException):
        runner.run(project())
    assert len(platform.exports) == 100
    runner.run(project())
    once_each(platform, ids)


def test_an_export_that_fails_its_bulk_request_is_isolated(platform, runner, files):
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


def rows_of(place):
    return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]


def test_a_manifest_has_tags_and_lists_as_json(platform, runner, files, tmp_path):
    files(1, tags=("final", "a,b"), metadata={"kinds": ["x", 'y"z'], "n": -5, "ok": True})
    for name in ("manifest.jsonl", "manifest.csv"):
        runner.run(project(manifest=str(tmp_path / name), manifest_metadata=["kinds", "n", "ok", "none"]))
    [row] = rows_of(tmp_path / "manifest.jsonl")
    assert (row["tags"], row["metadata.kinds"], row["metadata.n"]) == (["final", "a,b"], ["x", 'y"z'], -5)
    [cells] = csv.DictReader((tmp_path / "manifest.csv").open(newline=""))
    assert json.loads(cells["tags"]) == ["final", "a,b"]
    assert json.loads(cells["metadata.kinds"]) == ["x", 'y"z']
    assert (cells["metadata.n"], cells["metadata.ok"], cells["metadata.none"]) == ("-5", "true", "")


FORMULAS = ["=cmd", "+1+1", "-1+1", "@SUM(1)", " =1", "\u00a0=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201"]


def test_no_cell_is_a_formula(platform, runner, tmp_path):
    for number, text in enumerate(FORMULAS):
        tags, metadata = (text,), {"s": text, "tab": f"\t{text}", "return": f"\r{text}"}
        platform.add_file(f"{text}.{number}", b"x", PROJECT, tags=tags, metadata=metadata)
    fields = {"manifest_metadata": ["s", "tab", "return"], "location_pattern": "{name}"}
    result = runner.run(project(manifest=str(tmp_path / "m.csv"), **fields))
    assert result["counts"] == {"COMPLETED": len(FORMULAS)}
    cells = list(csv.DictReader((tmp_path / "m.csv").open(newline="", encoding="utf-8")))
    assert {cell["name"] for cell in cells} == {f"'{text}.{number}" for number, text in enumerate(FORMULAS)}
    assert {cell["metadata.s"] for cell in cells} == {f"'{text}" for text in FORMULAS}
    texts = [cell[key] for cell in cells for key in cell if key != "map_index"]
    assert not any(
        text.lstrip()[:1] in ("=", "+", "-", "@", *"＝＋－＠") or text[:1] in "\t\r\n" for text in texts if text
    )


def test_a_json_row_contains_no_unicode_line_break(platform, runner, tmp_path):
    name = "a\u2028b\u2029c"
    platform.add_file(name, b"x", PROJECT, metadata={"next": "a\x85b"})
    place = tmp_path / "m.jsonl"
    runner.run(project(manifest=str(place), manifest_metadata=["next"]))
    assert len(place.read_text(encoding="utf-8").splitlines()) == 1
    [row] = rows_of(place)
    assert (row["name"], row["metadata.next"]) == (name, "a\x85b")


# Addresses of manifests


def rendered(operator, **params):
    operator.render_template_fields({"params": params, "run_id": params.get("run_id", "manual__1")})
    return operator


def test_a_manifest_address_from_params_needs_a_prefix(platform, runner, files, tmp_path):
    files(1)
    for address in (str(tmp_path / "m.jsonl"), f"file://{tmp_path}/m.jsonl", "s3://other@bucket/x.csv"):
        with pytest.raises(AirflowFailException, match=r"manifest: .* set manifest_prefix"):
            runner.run(rendered(project(manifest="{{ params.manifest }}"), manifest=address))
    assert platform.requests == []
    assert list(tmp_path.iterdir()) == []
    result = runner.run(rendered(project(manifest="{{ params.manifest }}"), manifest=None))
    assert result["manifest"] is None


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_manifest_address_from_params_may_be_below_the_prefix(platform, runner, files, tmp_path, scheme, deferrable):
    files(1)
    fields = {"manifest": "{{ params.manifest }}", "manifest_prefix": str(tmp_path), "deferrable": deferrable}
    runner.run(rendered(project(**fields), manifest=f"{scheme}{tmp_path}/a/m.jsonl"))
    assert len(rows_of(tmp_path / "a" / "m.jsonl")) == 1


def test_a_manifest_template_that_begins_with_a_folder_stays_below_it(platform, runner, files, tmp_path):
    files(1)
    template = f"{tmp_path}/manifests/{{{{ run_id }}}}.jsonl"
    runner.run(rendered(project(manifest=template), run_id="manual__2026-01-01T00:00:00+00:00"))
    assert (tmp_path / "manifests" / "manual__2026-01-01T00:00:00+00:00.jsonl").exists()
    for run_id in (
        "../elsewhere",
        "a/../../elsewhere",
        "..\\elsewhere",
        "%2e%2e/elsewhere",
        "a/./b",
        "/x",
        "a\nb",
        "a?b",
    ):
        with pytest.raises(AirflowFailException, match="manifest: "):
            runner.run(rendered(project(manifest=template), run_id=run_id))
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_the_prefix_is_checked_again_after_a_deferral(platform, runner, files, tmp_path, monkeypatch):
    """A template may render to another text after the deferral."""
    files(1)
    operator = rendered(
        project(manifest="{{ params.manifest }}", manifest_prefix=str(tmp_path / "in")), manifest=f"{tmp_path}/in/m.csv"
    )
    resume = type(operator).resume

    def elsewhere(self, *arguments, **more):
        self.manifest = f"{tmp_path}/out.csv"
        return resume(self, *arguments, **more)

    monkeypatch.setattr(type(operator), "resume", elsewhere)
    with pytest.raises(AirflowFailException, match="is not below"):
        runner.run(operator)
    assert not (tmp_path / "out.csv").exists()


def test_a_mapped_task_needs_a_prefix(platform, runner, files, tmp_path, monkeypatch):
    """Its arguments may come from an upstream task."""
    files(1)
    run = runner.run

    def mapped(operator):
        execute = operator.execute

        def with_index(context, **more):
            context["ti"].map_index = 0
            return execute(context, **more)

        monkeypatch.setattr(type(operator), "execute", lambda self, context, **more: with_index(context, **more))
        return run(operator)

    with pytest.raises(AirflowFailException, match="set manifest_prefix"):
        mapped(project(manifest=f"{tmp_path}/m.csv"))
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        '{"file": "x"}\n',
        "\x00\xff",
        "[" * 100_000,
        '{"dag_id": "other", "task_id": "bulk", "map_index": -1, "file": 1, "volume": 1, "location": 1, "state": 1}\n',
        "dag_id,task_id,map_index,file,volume,location,state\ndag,other,-1,1,1,1,1\n",
        "dag_id,task_id,map_index,file,volume,location,state\n",
    ],
)
def test_only_a_manifest_of_the_same_task_is_overwritten(platform, runner, files, tmp_path, name, content):
    files(1)
    place = tmp_path / name
    place.write_text(content, encoding="latin-1")
    with pytest.raises(AirflowFailException, match=r"manifest: .* not a manifest of this task"):
        runner.run(project(manifest=str(place)))
    assert place.read_text(encoding="latin-1") == content
    assert platform.exports == []


def test_a_manifest_that_cannot_be_read_is_not_overwritten(platform, runner, files, tmp_path):
    files(1)
    (tmp_path / "m.csv").mkdir()
    with pytest.raises(AirflowFailException, match=r"manifest: .*m\.csv cannot be read"):
        runner.run(project(manifest=str(tmp_path / "m.csv")))
    assert platform.exports == []


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv"])
def test_a_retry_and_a_later_run_write_their_manifest_again(platform, runner, files, tmp_path, name):
    files(2)
    (tmp_path / name).touch()
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException):
        runner.run(project(manifest=str(tmp_path / name)))
    assert runner.run(project(manifest=str(tmp_path / name)))["counts"] == {"COMPLETED": 2}
    assert type(runner)().run(project(manifest=str(tmp_path / name)))["adopted"] == 2


@pytest.mark.parametrize("prefix", ["", "/", "s3://", "file:///", "./", "s3://a/../b?x", 7, "a\\b", "{{ params.x }}#"])
def test_a_prefix_that_allows_every_address_is_rejected(prefix):
    with pytest.raises(Exception, match="manifest_prefix: "):
        bulk(manifest_prefix=prefix)


# Rows of the manifest


def test_each_file_that_cannot_be_exported_is_a_row_of_the_manifest(platform, runner, files, tmp_path, deferrable):
    good = files(2, metadata={"s": "1"})
    missing = platform.add_file("no-sample.vcf", b"x", PROJECT).id
    odd = platform.add_file("odd\nname.vcf", b"x", PROJECT, metadata={"s": "1"}).id
    twins = [platform.add_file("twin.vcf", b"x", PROJECT, folder=n, metadata={"s": "1"}).id for n in ("a", "b")]
    place = tmp_path / "m.jsonl"
    fields = {"recursive": True, "location_pattern": "{metadata[s]}/{name}", "deferrable": deferrable}
    with pytest.raises(AirflowFailException, match="4 of 6 files were not exported"):
        runner.run(project(manifest=str(place), **fields))
    once_each(platform, good)
    summary = runner.xcom["summary"]
    assert (summary["state"], summary["counts"]) == ("FAILED", {"COMPLETED": 2, "REFUSED": 4})
    messages = {row["file"]: row["message"] for row in rows_of(place)}
    assert "{metadata[s]} is missing" in messages[missing]
    assert "U+000A at position 6" in messages[odd]
    assert all("would both become" in messages[twin] for twin in twins)
    assert {error["code"] for error in summary["errors"]} == {None}


def test_a_file_name_cannot_add_a_line_to_the_log(platform, runner, capfd):
    platform.add_file("a\n  COMPLETED forged\x1b[31m.vcf", b"x", PROJECT)
    with pytest.raises(AirflowFailException) as caught:
        runner.run(project())
    assert len(str(caught.value).splitlines()) == 2
    assert "\x1b" not in str(caught.value)
    assert "\n  COMPLETED forged" not in capfd.readouterr().out


def test_files_with_many_tags_are_exported(platform, runner, files, tmp_path):
    files(3, tags=tuple("\u00e9" * 100 for _ in range(1000)))
    assert runner.run(project(manifest=str(tmp_path / "m.jsonl")))["counts"] == {"COMPLETED": 3}
    assert all(0 < len(row["tags"]) <= 40 for row in rows_of(tmp_path / "m.jsonl"))


def test_a_file_name_that_is_not_printable_is_kept(platform, runner):
    name = "Screenshot 2026-05-12 at 4.42.48\u202fPM.png"
    file = platform.add_file(name, b"x", PROJECT).id
    assert runner.run(project())["counts"] == {"COMPLETED": 1}
    assert platform.platform.files[file].alias == ("demo/results", f"many/{name}")


def test_invalid_file_ids_affect_only_themselves(platform, runner, files):
    ids = files(2)
    folder = platform.platform.add_folder("sub", PROJECT).id
    gone = "f" * 24
    with pytest.raises(AirflowFailException, match="2 of 4 files"):
        runner.run(project(project=None, file_ids=[gone, *ids, folder]))
    once_each(platform, ids)
    errors = {error["file"]: error["message"] for error in runner.xcom["summary"]["errors"]}
    assert "is not visible" in errors[gone]
    assert "is the folder 'sub'" in errors[folder]


def test_invalid_locations_affect_only_their_exports(platform, runner, files):
    good, bad, address = files(3)
    wanted = [*listed([good]), {**listed([bad])[0], "location": "a\x00"}]
    wanted += [{**listed([address])[0], "location": "s3://demo-results/exports/x.vcf"}]
    with pytest.raises(AirflowFailException, match=r"write 'exports/x\.vcf'"):
        runner.run(bulk(exports=wanted))
    assert jobs_by_file(platform) == {good: 1}


def test_an_unusable_volume_affects_only_its_exports(platform, runner, files):
    platform.add_volume("demo/readonly", access_mode="RO")
    one, other = files(2)
    wanted = [*listed([one]), {**listed([other])[0], "volume": "demo/readonly"}]
    with pytest.raises(AirflowFailException, match="demo/readonly has access mode RO"):
        runner.run(bulk(exports=wanted))
    assert jobs_by_file(platform) == {one: 1}


# Skipped files


@pytest.fixture
def unexportable(platform):
    return [
        platform.add_file("public.vcf", b"x", PROJECT, public=True).id,
        platform.add_file("archived.vcf", b"x", PROJECT, archived=True).id,
        platform.add_file("alias.vcf", b"x", PROJECT, alias=("demo/archive", "elsewhere.vcf")).id,
    ]


@pytest.mark.parametrize("rejected_in", ["job", "submit"])
def test_files_that_cannot_be_exported_are_skipped(
    platform, runner, files, unexportable, tmp_path, deferrable, rejected_in
):
    platform.knobs.refuse_in_job = rejected_in == "job"
    ids = files(20)
    place = tmp_path / "m.jsonl"
    result = runner.run(project(skip_not_exportable="true", manifest=str(place), deferrable=deferrable))
    assert Counter(job.file for job in platform.exports if job.state == "COMPLETED") == Counter(ids)
    assert (result["state"], result["total"], result["errors"]) == ("COMPLETED", 23, [])
    assert result["counts"] == {"COMPLETED": 20, "SKIPPED": 3}
    assert result["bytes"] == 200
    rows = {row["file"]: row for row in rows_of(place)}
    assert {rows[each]["state"] for each in unexportable} == {"SKIPPED"}
    assert all(rows[each]["message"] for each in unexportable)
    # A later run.
    again = type(runner)().run(project(skip_not_exportable=True, manifest=str(place), deferrable=deferrable))
    assert (again["counts"], again["adopted"]) == ({"COMPLETED": 20, "SKIPPED": 3}, 20)


def test_a_retry_keeps_the_skipped_files(platform, runner, files, unexportable):
    files(3)
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException, match="1 of 6 files"):
        runner.run(project(skip_not_exportable=True))
    assert runner.xcom["summary"]["counts"] == {"COMPLETED": 2, "FAILED": 1, "SKIPPED": 3}
    assert runner.run(project(skip_not_exportable=True))["counts"] == {"COMPLETED": 3, "SKIPPED": 3}


def test_a_task_that_skips_all_files_succeeds(platform, runner, unexportable):
    result = runner.run(project(skip_not_exportable=True))
    assert (result["state"], result["counts"], result["total"]) == ("COMPLETED", {"SKIPPED": 3}, 3)


def test_fail_fast_does_not_stop_at_skipped_files(platform, runner, files, unexportable):
    files(3)
    result = runner.run(project(skip_not_exportable=True, on_error="fail_fast"))
    assert result["counts"] == {"COMPLETED": 3, "SKIPPED": 3}


def test_a_skipped_file_may_lack_the_metadata_of_its_location(platform, runner, files, unexportable):
    """An alias without the metadata that the pattern needs is skipped too."""
    [good] = files(1, metadata={"s": "1"})
    folder = platform.platform.add_folder("sub", PROJECT).id
    fields = {"file_ids": [good, unexportable[2], folder], "location_pattern": "{metadata[s]}/{name}"}
    result = runner.run(project(project=None, skip_not_exportable=True, **fields))
    assert result["counts"] == {"COMPLETED": 1, "SKIPPED": 2}


def test_other_failures_are_not_skipped(platform, runner, files):
    taken, good = files(2)
    platform.put_object("demo/results", "many/00000.vcf", b"another")
    with pytest.raises(AirflowFailException, match="2 of 3 files"):
        runner.run(project(project=None, file_ids=[taken, good, "f" * 24], skip_not_exportable=True))
    assert runner.xcom["summary"]["counts"] == {"COMPLETED": 1, "REFUSED": 2}


# One file, several destinations


def test_one_file_is_copied_to_two_volumes(platform, runner, files, deferrable):
    ids = files(3)
    wanted = listed(ids, copy_only=True) + listed(ids, copy_only=True, volume="demo/archive")
    result = runner.run(bulk(exports=wanted, deferrable=deferrable))
    assert result["counts"] == {"COMPLETED": 6}
    made = {(job.file, job.volume, job.location) for job in platform.exports}
    assert made == {(each["file"], each["volume"], each["location"]) for each in wanted}
    assert len(platform.exports) == 6
    assert all(
        len({item["source"]["file"] for item in c.json["items"]}) == len(c.json["items"]) for c in creates(platform)
    )


@pytest.mark.parametrize("fault", ["lose_reply", "swapped_bulk", "short_bulk"])
def test_two_copies_of_a_file_are_distinguished_after_a_lost_response(platform, runner, files, fault):
    ids = files(4)
    wanted = listed(ids, copy_only=True) + listed(ids, copy_only=True, volume="demo/archive")
    platform.trouble(fault, path=CREATE, times=2)
    assert runner.run(bulk(exports=wanted))["counts"] == {"COMPLETED": 8}
    made = Counter((job.file, job.volume) for job in platform.exports if job.state == "COMPLETED")
    assert made == Counter((each["file"], each["volume"]) for each in wanted)


@pytest.mark.parametrize("store", [True, False])
def test_a_retry_submits_only_the_missing_one_of_two_copies(platform, files, store, runner, storeless_runner):
    runner = runner if store else storeless_runner
    [file] = files(1)
    wanted = listed([file], copy_only=True) + listed([file], copy_only=True, volume="demo/archive")
    platform.trouble("job_fails", code=9100, after=1)
    with pytest.raises(AirflowException, match="1 of 2 files"):
        runner.run(bulk(exports=wanted))
    assert runner.run(bulk(exports=wanted))["counts"] == {"COMPLETED": 2}
    completed = Counter((job.file, job.volume) for job in platform.exports if job.state == "COMPLETED")
    assert completed == {(file, "demo/results"): 1, (file, "demo/archive"): 1}


def test_a_move_and_a_copy_of_one_file_are_rejected(platform, runner, files):
    one, other = files(2)
    wanted = listed([one, other]) + listed([one], copy_only=True, volume="demo/archive")
    with pytest.raises(AirflowFailException, match="copy it in an upstream task, then move it"):
        runner.run(bulk(exports=wanted))
    assert jobs_by_file(platform) == {other: 1}


def test_a_dry_run_changes_nothing(platform, runner, files):
    files(3)
    result = runner.run(project(validate_only="true"))
    assert (result["validate_only"], result["total"], result["bytes"]) == (True, 3, 30)
    assert result["exports"][0]["uri"] == "s3://demo-results/exports/many/00000.vcf"
    assert platform.exports == []


def test_at_its_timeout_the_task_fails_and_names_the_exports_in_flight(platform, runner, files, deferrable):
    files(3)
    platform.knobs.stuck = True
    with pytest.raises(AirflowException, match="the Platform cannot cancel"):
        runner.run(project(timeout=0.5, deferrable=deferrable))
    assert runner.xcom["summary"]["state"] == "RUNNING"


def test_moves_with_overwrite_check_each_object(platform, runner, files):
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
def test_invalid_input_is_reported_before_any_request(platform, runner, fields, words):
    with pytest.raises(AirflowFailException, match=words):
        runner.run(bulk(**fields))
    assert platform.requests == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"on_error": "shrug"}, "on_error: 'shrug'"),
        ({"max_active": 1001}, "max_active: 1001"),
        ({"max_active": True}, "max_active: True"),
        ({"max_active": "5"}, "max_active: '5'"),
        ({"timeout": -1}, "timeout: -1"),
        ({"timeout": "60"}, "timeout: '60'"),
        ({"timeout": float("nan")}, "timeout: nan"),
        ({"timeout": float("inf")}, "timeout: inf"),
        ({"poll_interval": None}, "poll_interval: None"),
        ({"poll_interval": "30"}, "poll_interval: '30'"),
        ({"poll_interval": True}, "poll_interval: True"),
        ({"deferrable": "perhaps"}, "deferrable: 'perhaps'"),
        ({"deferrable": None}, "deferrable: None"),
        ({"deferrable": object()}, "deferrable: .*not templated"),
        ({"manifest_metadata": {"s": 1}}, "manifest_metadata: {'s': 1}"),
        ({"manifest_metadata": b"s"}, "manifest_metadata: b's'"),
        ({"manifest_metadata": [["s"]]}, r"manifest_metadata: \['s'\]"),
        ({"manifest_metadata": 1.5}, "manifest_metadata: 1.5"),
    ],
)
def test_fields_that_are_not_templated_are_checked_by_the_constructor(fields, words):
    with pytest.raises(Exception, match=words):
        bulk(**fields)


def test_manifest_metadata_may_be_one_text(platform, runner, files, tmp_path):
    files(1, metadata={"sample_id": "S1"})
    for columns in ("sample_id", ("sample_id",), {"sample_id"}, iter(["sample_id"]), {"sample_id": 1}.keys()):
        runner.run(project(manifest=str(tmp_path / "m.jsonl"), manifest_metadata=columns))
        [row] = rows_of(tmp_path / "m.jsonl")
        assert [key for key in row if key.startswith("metadata.")] == ["metadata.sample_id"]


def test_deferrable_may_be_text(platform, runner, files):
    files(1)
    assert bulk(deferrable="false").deferrable is False
    assert bulk(deferrable="True").deferrable is True
    runner.run(project(deferrable="false"))
    assert runner.deferrals == []


def test_a_dry_run_reports_the_files_that_cannot_be_exported(platform, runner, files):
    files(2, metadata={"s": "1"})
    platform.add_file("x.vcf", b"x", PROJECT)
    fields = {"validate_only": True, "location_pattern": "{metadata[s]}/{name}"}
    with pytest.raises(AirflowFailException, match="1 of 3 files"):
        runner.run(project(**fields))
    result = runner.run(project(on_error="report", **fields))
    assert (result["total"], result["bytes"], result["counts"]) == (2, 20, {"REFUSED": 1})
    assert platform.exports == []


def test_more_files_than_expected_end_the_listing(platform, runner, files):
    files(350)
    with pytest.raises(AirflowFailException, match="max_files: there are at least 200 files to export, more than 150"):
        runner.run(project(max_files=150))
    assert [record.path for record in platform.requests] == ["/v2/files"] * 2
    with pytest.raises(AirflowFailException, match="max_files: there are 3 files"):
        runner.run(project(project=None, file_ids=["a" * 24, "b" * 24, "c" * 24], max_files=2))
    assert len(platform.requests) == 2


def test_conflicting_exports_are_rejected_before_any_submission(platform, runner, files):
    ids = files(3)
    for wanted, words in [
        ({"exports": listed([ids[0], ids[0]])}, "has two exports"),
        ({"exports": listed(ids, location="same")}, "would both become"),
        ({"project": PROJECT, "volume": "demo/results", "max_files": 2}, "max_files: there are at least 3"),
        ({"project": PROJECT, "volume": "demo/results", "name": "*.bam", "on_empty": "fail"}, "nothing to export"),
    ]:
        with pytest.raises(AirflowFailException, match=words):
            runner.run(bulk(**wanted))
    assert platform.exports == []
