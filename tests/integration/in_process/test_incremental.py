"""The nightly job: export only what is new, and report it apart from what was exported before."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.lineage import outlets as outlets_module
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.integration.in_process.conftest import Runner, paths

PROJECT = "demo/nightly"
ALIAS = AssetAlias("nightly")


def nightly(**fields):
    defaults = {
        "task_id": "nightly",
        "retries": 2,
        "poll_interval": 0.1,
        "project": PROJECT,
        "volume": "demo/results",
        "location_pattern": "nightly/{name}",
        "skip_exported": True,
        "skip_not_exportable": True,
        "outlets": [ALIAS],
    }
    return SevenBridgesBulkExportOperator(**defaults | fields)


@pytest.fixture
def add(platform):
    """Adds a file to the project; returns its id."""

    def make(name, **details):
        return platform.add_file(name, b"x" * 10, PROJECT, **details).id

    return make


@pytest.fixture(params=[False, True], ids=["without-prefix", "with-prefix"])
def alias_reading(platform, request):
    """Whether an alias's location includes the prefix of its volume, which is not documented."""
    platform.knobs.alias_location_includes_prefix = request.param


def night(**fields):
    """Run the task of a new DAG run."""
    runner = Runner()
    return runner.run(nightly(**fields)), runner


def figures(summary):
    return {key: summary[key] for key in ("exported_now", "exported_before", "skipped", "failed", "total")}


def events(runner):
    return [event.dest_asset_key.uri for event in runner.outlet_events[ALIAS].asset_alias_events]


@pytest.mark.usefixtures("alias_reading")
def test_each_night_exports_what_is_new(platform, add):
    add("a.vcf")
    first, _ = night()
    assert figures(first) == {"exported_now": 1, "exported_before": 0, "skipped": 0, "failed": 0, "total": 1}
    add("b.vcf")
    second, runner = night()
    assert figures(second) == {"exported_now": 1, "exported_before": 1, "skipped": 0, "failed": 0, "total": 1}
    assert events(runner) == ["s3://demo-results/exports/nightly/b.vcf"]
    assert len(platform.exports) == 2


@pytest.mark.usefixtures("alias_reading")
def test_a_quiet_night_costs_three_requests_and_those_of_the_list(platform, add, tmp_path):
    for number in range(150):
        add(f"{number}.vcf")
    imported = platform.add_file("imported.vcf", b"", PROJECT, alias=("demo/archive", "in/imported.vcf")).id
    night()
    before = len(paths(platform))
    manifest = tmp_path / "night.csv"
    summary, runner = night(manifest=str(manifest))
    assert figures(summary) == {"exported_now": 0, "exported_before": 150, "skipped": 1, "failed": 0, "total": 1}
    assert len(paths(platform)) - before <= 3 + 2
    assert events(runner) == []
    [row] = csv.DictReader(manifest.open())
    assert (row["file"], row["state"], row["code"]) == (imported, "SKIPPED", "9006")
    assert "already an alias of demo/archive/in/imported.vcf" in row["message"]
    assert runner.store.values == {}, "nothing needs to be kept"


def test_an_empty_manifest_has_its_header(add, tmp_path):
    manifest = tmp_path / "night.csv"
    add("a.vcf", tags=("old",))
    for _ in range(2):
        night(tag_exported="old", manifest=str(manifest), manifest_metadata=["sample_id"])
    assert manifest.read_text().startswith("file,name,project,path,tags,metadata.sample_id,size,")
    assert len(manifest.read_text().splitlines()) == 1


@pytest.mark.parametrize("copy_only", [False, True])
def test_a_tag_marks_what_is_exported(platform, add, copy_only):
    file_id = add("a.vcf", tags=("raw",))
    fields = {"skip_exported": False, "tag_exported": "exported", "copy_only": copy_only}
    night(**fields)
    assert platform.platform.files[file_id].tags == ("raw", "exported")
    before = len(paths(platform))
    summary, runner = night(**fields)
    assert figures(summary)["exported_before"] == 1
    assert summary["total"] == 0
    assert len(paths(platform)) - before == 2, "the list and the volume"
    assert events(runner) == []


def test_a_tag_that_cannot_be_set_fails_nothing(platform, add, capsys):
    add("a.vcf")
    platform.trouble("error", path="/v2/bulk/files/edit", status=403, code=5001)
    summary, _ = night(tag_exported="exported")
    assert summary["exported_now"] == 1
    assert "1 of 1 exported files did not get the tag 'exported'" in capsys.readouterr().out


def test_files_are_selected_by_their_times(platform, add):
    old = {"created_on": datetime(2026, 1, 1, tzinfo=UTC), "modified_on": datetime(2026, 6, 1, tzinfo=UTC)}
    add("old.vcf", **old)
    new = add("new.vcf")
    since = datetime(2026, 3, 1, tzinfo=UTC)
    summary, _ = night(created_after=since, validate_only=True)
    assert [row["file"] for row in summary["exports"]] == [new]
    for text in ("2026-06-01", "2026-06-01T00:00:00Z", "2026-06-01 02:00:00+02:00"):
        summary, _ = night(modified_after=text, validate_only=True)
        assert summary["total"] == 2, "the time itself is included"
    summary, _ = night(modified_after="2026-06-01T00:00:01+00:00", validate_only=True)
    assert summary["total"] == 1


def test_a_file_of_unknown_age_is_reported(platform, add):
    file_id = add("a.vcf")
    platform.knobs.omit = {"file.created_on"}
    summary, _ = night(created_after="2026-01-01", on_error="report")
    [error] = summary["errors"]
    assert (error["file"], error["state"]) == (file_id, "REFUSED")
    assert "created_after: the Platform does not show when the file was created" in error["message"]


@pytest.mark.parametrize("value", ["yesterday", "2026-13-01", 7, "{{ ds }}"])
def test_a_wrong_time_is_named(platform, value):
    with pytest.raises(AirflowFailException, match=r"created_after: .* is not a time; use ISO 8601 text"):
        night(created_after=value)
    assert paths(platform) == []


@pytest.mark.parametrize("source", [{}, {"project": None, "file_ids": []}, {"project": None, "exports": []}])
def test_nothing_to_export_is_no_failure_unless_it_should_be(platform, source):
    platform.add_file("other.vcf", b"x", PROJECT, tags=("old",))
    if not source:
        source = {"tag_exported": "old"}
    if "exports" in source:
        source = {**source, "volume": None, "location_pattern": "{path}/{name}"}
    summary, runner = night(**source)
    assert (summary["state"], summary["total"]) == ("COMPLETED", 0)
    with pytest.raises(AirflowSkipException, match="nothing to export"):
        night(**source, on_empty="skip")
    with pytest.raises(AirflowFailException, match="nothing to export"):
        night(**source, on_empty="fail")
    assert events(runner) == []


def test_an_unknown_choice_is_named():
    with pytest.raises(SevenBridgesInputError, match="on_empty: 'ignore' is not known; use succeed, skip, fail"):
        nightly(on_empty="ignore")


def test_exports_of_others_are_announced_only_if_asked(platform, add):
    add("a.vcf")
    night()
    fields = {"skip_exported": False}
    summary, runner = night(**fields)
    assert figures(summary) == {"exported_now": 0, "exported_before": 1, "skipped": 0, "failed": 0, "total": 1}
    assert events(runner) == []
    _, runner = night(**fields, emit_adopted=True)
    assert events(runner) == ["s3://demo-results/exports/nightly/a.vcf"]


@pytest.mark.parametrize("store", [False, True], ids=["without-store", "with-store"])
@pytest.mark.parametrize("skip_exported", [False, True])
def test_a_retry_reports_what_its_first_try_has_exported(platform, add, skip_exported, store):
    """Files that the first try moved appear as those of an earlier night."""
    add("old.vcf")
    night()
    for job in platform.exports:
        job.started_on -= timedelta(days=1)
    add("a.vcf")
    add("b.vcf")
    runner = Runner(store=store)
    platform.trouble("job_fails", path="/v2/bulk/storage/exports/create", code=9100)
    with pytest.raises(Exception, match="1 of"):
        runner.run(nightly(skip_exported=skip_exported))
    summary = runner.run(nightly(skip_exported=skip_exported))
    # Without a record, an export that the first try found done may be its own: it is rather announced twice than never.
    names = ["a", "b"] if store or skip_exported else ["a", "b", "old"]
    assert figures(summary)["exported_now"] == len(names)
    assert figures(summary)["exported_before"] == 3 - len(names)
    assert sorted(events(runner)) == [f"s3://demo-results/exports/nightly/{name}.vcf" for name in names]


def test_max_files_counts_what_is_to_be_exported(platform, add):
    for number in range(120):
        add(f"{number}.vcf")
    night()
    add("new.vcf")
    summary, _ = night(max_files=1)
    assert summary["exported_now"] == 1
    add("1.bam")
    add("2.bam")
    with pytest.raises(AirflowFailException, match="max_files"):
        night(max_files=1)


def test_one_event_for_each_task_where_each_would_start_a_run(platform, add, monkeypatch):
    monkeypatch.setattr(outlets_module, "BATCHES_ASSET_EVENTS", False)
    for name in "abc":
        add(f"{name}.vcf")
    _, runner = night()
    [event] = runner.outlet_events[ALIAS].asset_alias_events
    assert event.dest_asset_key.uri == "s3://demo-results/exports/nightly"
    assert [export["uri"][-5:] for export in event.extra["exports"]] == ["a.vcf", "b.vcf", "c.vcf"]
    assert event.extra["exported_now"] == 3


def test_a_quiet_night_updates_an_asset_only_by_its_success(platform, add):
    asset = Asset("s3://demo-results/exports/nightly")
    add("a.vcf")
    night()
    _, runner = night(outlets=[asset])
    assert runner.outlet_events[asset].extra["exported_now"] == 0


def test_rejected_rows_have_their_codes(platform, add, tmp_path):
    add("public.vcf", public=True)
    manifest = tmp_path / "night.csv"
    summary, _ = night(
        project=None,
        file_ids=[add("a.vcf"), "f" * 24, add("public2.vcf", public=True)],
        skip_not_exportable=False,
        on_error="report",
        manifest=str(manifest),
    )
    codes = {row["name"]: row["code"] for row in csv.DictReader(manifest.open())}
    assert codes == {"a.vcf": "", "": "5002", "public2.vcf": "9006"}
    assert {error["code"] for error in summary["errors"]} == {5002, 9006}
