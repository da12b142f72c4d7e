"""Asset events and hook lineage of exports, against the local Platform."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.lineage import HookLineageReader, get_hook_lineage_collector

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.lineage.outlets import asset_uri
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.in_process.conftest import Runner

ALIAS = AssetAlias("exports")
RESULTS = Asset("s3://demo-results/exports")
URI = "s3://demo-results/exports/a/b.txt"
DETAILS = ("GET", "/v2/storage/volumes/*")


@pytest.fixture
def lineage(monkeypatch):
    """The collected hook lineage, with a reader configured."""
    monkeypatch.setattr("airflow.sdk.plugins_manager.get_hook_lineage_readers_plugins", lambda: [HookLineageReader])
    get_hook_lineage_collector.cache_clear()
    yield lambda: get_hook_lineage_collector().collected_assets
    get_hook_lineage_collector.cache_clear()


def events(runner, alias=ALIAS):
    """The URIs and extras of an alias's events, which Airflow can store."""
    asset_events = runner.outlet_events[alias].asset_alias_events
    # Airflow 2.11 keeps them in a set.
    assert all(hash(frozenset(event.extra.items())) for event in asset_events)
    return [(event.dest_asset_key.uri, json.loads(json.dumps(event.extra))) for event in asset_events]


def bulk(files, **fields):
    exports = [{"file": file, "volume": "demo/results", "location": f"many/{file}"} for file in files]
    return SevenBridgesBulkExportOperator(
        **{"task_id": "bulk", "exports": exports, "outlets": [ALIAS, RESULTS], "poll_interval": 0.1, **fields}
    )


def sensor(export_id, **fields):
    return SevenBridgesExportSensor(
        **{"task_id": "wait", "export_id": export_id, "outlets": [ALIAS, RESULTS], "poke_interval": 0.1, **fields}
    )


def test_a_completed_export_emits_an_event(platform, runner, export, deferrable):
    operator = export(deferrable=deferrable, copy_only=True, outlets=[ALIAS, RESULTS])
    result = runner.run(operator)
    extra = {
        "uri": URI,
        "file": operator.file,
        "name": "a.txt",
        "size": 10,
        "etag": result["etag"],
        "project": platform.platform.files[operator.file].project,
        "volume": "demo/results",
        "location": "a/b.txt",
        "export_id": platform.exports[0].id,
        "copy_only": True,
        "overwrite": False,
        "adopted": False,
    }
    assert events(runner) == [(URI, extra)]
    assert runner.outlet_events[RESULTS].extra == extra


@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
def test_an_export_that_a_retry_adopts_emits_its_event_again(export, deferrable, store):
    runner = Runner(store=store)
    operator = export(deferrable=deferrable, outlets=[ALIAS])
    runner.run(operator)
    [(_, first)] = events(runner)
    runner.run(operator)
    [(uri, extra)] = events(runner)
    assert (uri, extra["adopted"], extra["size"], extra["etag"]) == (URI, True, 10, first["etag"])


def test_an_alias_given_twice_gets_one_event_and_two_aliases_get_one_each(runner, export):
    runner.run(export(outlets=[ALIAS, AssetAlias("exports"), AssetAlias("others")]))
    assert events(runner) == events(runner, AssetAlias("others"))
    assert len(events(runner)) == 1


def test_no_event_for_a_dry_run_or_without_waiting(runner, export):
    runner.run(export(validate_only=True, outlets=[ALIAS, RESULTS]))
    assert (events(runner), runner.outlet_events[RESULTS].extra) == ([], {})
    operator = export(wait_for_completion=False, outlets=[ALIAS, RESULTS])
    runner.run(operator)
    assert (events(runner), runner.outlet_events[RESULTS].extra) == ([], {})


@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
def test_no_event_for_a_finished_move_adopted_without_waiting(export, store):
    runner = Runner(store=store)
    operator = export(outlets=[ALIAS])
    runner.run(operator)
    operator.wait_for_completion = False
    assert runner.run(operator)["adopted"] is True
    assert events(runner) == []


def test_no_event_for_a_failed_export(platform, runner, export, deferrable):
    platform.trouble("job_fails", code=9100)
    with pytest.raises(AirflowException):
        runner.run(export(deferrable=deferrable, outlets=[ALIAS]))
    assert events(runner) == []


def test_without_access_to_the_volume_a_log_line_replaces_the_event(platform, runner, export, caplog):
    platform.trouble("error", *DETAILS, times=0, status=403, code=9020)
    with caplog.at_level("INFO"):
        result = runner.run(export(outlets=[ALIAS, RESULTS]))
    assert result["uri"] is None
    assert (events(runner), runner.outlet_events[RESULTS].extra) == ([], {})
    assert "No asset events or lineage for the exported objects on demo/results: their URIs are unknown" in caplog.text


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("a b/c+d@e=f&g;h,i~j.txt", "a b/c+d@e=f&g;h,i~j.txt"),
        ("a#b?c=d&a=b", "a%23b%3Fc=d&a=b"),
        ("50%/a%23b", "50%25/a%2523b"),
        ("x//y/../z", "x//y/../z"),
        ("büro.txt", "b%C3%BCro.txt"),
    ],
)
def test_a_key_is_encoded_so_that_airflow_keeps_all_of_it(platform, runner, export, key, encoded):
    operator = export(location=key, outlets=[ALIAS])
    runner.run(operator)
    [(uri, extra)] = events(runner)
    assert uri == f"s3://demo-results/exports/{encoded}"
    assert extra["uri"] == f"s3://demo-results/exports/{key}"
    assert platform.object_bytes("demo/results", extra["location"]) == b"some bytes"


def test_no_two_object_uris_become_one_asset_uri():
    addresses = ["s3://b/a#b", "s3://b/a%23b", "s3://b/a", "s3://b/a?b", "s3://b/a%3Fb", "s3://b/a%"]
    assert len({Asset(uri=asset_uri(address)).uri for address in addresses}) == len(addresses)


def test_a_uri_that_is_too_long_for_an_asset_loses_the_event_not_the_task(runner, export, caplog):
    operator = export(location="/".join(["%" * 50] * 12), outlets=[ALIAS, RESULTS])
    assert runner.run(operator)["state"] == "COMPLETED"
    assert events(runner) == []
    assert runner.outlet_events[RESULTS].extra["file"] == operator.file
    assert "cannot exceed 1500 characters" in caplog.text


def test_a_sensor_emits_the_event_of_its_export(platform, runner, deferrable):
    file = platform.add_file("a.txt", b"some bytes").id
    job = SevenBridgesHook().start_export(file, "demo/results", "a/b.txt")
    result = runner.run(sensor(job.id, deferrable=deferrable))
    [(uri, extra)] = events(runner)
    assert runner.outlet_events[RESULTS].extra == extra
    known = {key: extra[key] for key in ("file", "name", "size", "etag", "export_id", "copy_only", "adopted")}
    assert (uri, known) == (
        URI,
        {
            "file": file,
            "name": "a.txt",
            "size": 10,
            "etag": result["etag"],
            "export_id": job.id,
            "copy_only": None,
            "adopted": False,
        },
    )


def test_a_sensor_emits_an_event_for_each_of_a_list_and_none_if_one_failed(platform, runner, deferrable):
    hook = SevenBridgesHook()
    files = [platform.add_file(f"{number}.txt", b"some bytes").id for number in range(3)]
    ids = [hook.start_export(file, "demo/results", f"s/{file}").id for file in files]
    runner.run(sensor(ids, deferrable=deferrable))
    assert [extra["export_id"] for _, extra in events(runner)] == ids
    assert runner.outlet_events[RESULTS].extra == {
        "uri": None,
        "total": 3,
        "exported": 3,
        "exported_now": 3,
        "adopted": 0,
        "failed": 0,
        "bytes": 30,
    }
    platform.trouble("job_fails", code=9100)
    bad = hook.start_export(platform.add_file("bad.txt", b"x").id, "demo/results", "s/bad").id
    with pytest.raises(AirflowFailException):
        runner.run(sensor([*ids, bad], deferrable=deferrable))
    assert events(runner) == []


def test_a_sensor_without_an_id_emits_no_event(runner, platform):
    runner.run(sensor(None))
    assert (events(runner), runner.outlet_events[RESULTS].extra) == ([], {})


def test_a_bulk_export_emits_events_for_the_manifest_and_the_first_hundred(
    platform, runner, tmp_path, deferrable, caplog
):
    files = [platform.add_file(f"{number:03}.txt", b"x").id for number in range(120)]
    manifest = f"{tmp_path}/manifest.jsonl"
    with caplog.at_level("INFO"):
        runner.run(bulk(files, manifest=manifest, max_active=70, deferrable=deferrable))
    *each, (uri, summary) = events(runner)
    assert [extra["file"] for _, extra in each] == files[:100]
    assert {uri for uri, _ in each} == {f"s3://demo-results/exports/many/{file}" for file in files[:100]}
    jobs = {job.file: job.id for job in platform.exports}
    assert all(extra["export_id"] == jobs[extra["file"]] and extra["name"] for _, extra in each)
    assert uri == manifest
    none = {"adopted": 0, "failed": 0}
    assert summary == {"uri": manifest, "total": 120, "exported": 120, "exported_now": 120, **none, "bytes": 120}
    assert runner.outlet_events[RESULTS].extra == summary
    assert "emitted for the first 100 of 120 objects" in caplog.text


def test_exports_completed_beside_failed_ones_emit_events_if_the_task_succeeds(platform, runner, deferrable):
    good = platform.add_file("good.txt", b"x").id
    bad = platform.add_file("bad.txt", b"x", public=True).id
    runner.run(bulk([bad, good], on_error="report", deferrable=deferrable))
    assert [extra["file"] for _, extra in events(runner)] == [good]
    assert runner.outlet_events[RESULTS].extra["failed"] == 1


def test_a_bulk_export_that_a_retry_adopts_emits_its_events_again(platform, runner):
    files = [platform.add_file(f"{number:03}.txt", b"x").id for number in range(3)]
    operator = bulk(files, deferrable=True)
    runner.run(operator)
    assert [(extra["file"], extra["adopted"]) for _, extra in events(runner)] == [(file, False) for file in files]
    runner.run(operator)
    assert [(extra["file"], extra["adopted"]) for _, extra in events(runner)] == [(file, True) for file in files]


def test_a_bulk_dry_run_emits_no_event(platform, runner):
    runner.run(bulk([platform.add_file("a.txt", b"x").id], validate_only=True))
    assert (events(runner), runner.outlet_events[RESULTS].extra) == ([], {})


def test_without_outlets_and_lineage_readers_a_bulk_export_sends_no_extra_request(platform, runner):
    files = [platform.add_file("a.txt", b"x").id]
    runner.run(bulk(files, outlets=[], deferrable=True))
    assert sum(record.path == "/v2/storage/volumes/demo/results" for record in platform.requests) == 1


def test_hook_lineage_leads_from_the_file_to_the_object(platform, runner, export, deferrable, lineage):
    operator = export(deferrable=deferrable)
    runner.run(operator)
    [read], [written] = lineage().inputs, lineage().outputs
    assert read.asset.uri == f"sevenbridges://{urlsplit(platform.url).netloc}/{operator.file}"
    assert written.asset.uri == URI
    assert read.context is written.context is operator.hook


def test_hook_lineage_of_many_and_of_a_sensor(platform, runner, lineage):
    files = [platform.add_file(f"{number:03}.txt", b"x").id for number in range(120)]
    runner.run(bulk(files, outlets=[], deferrable=True))
    assert [each.asset.uri.rpartition("/")[2] for each in lineage().inputs] == files[:100]
    assert [each.asset.uri for each in lineage().outputs] == [
        f"s3://demo-results/exports/many/{file}" for file in files[:100]
    ]
    get_hook_lineage_collector.cache_clear()
    runner.run(sensor(platform.exports[0].id, outlets=[]))
    assert len(lineage().inputs) == len(lineage().outputs) == 1


def test_an_error_in_hook_lineage_is_only_logged(runner, export, lineage, monkeypatch, caplog):
    monkeypatch.setattr("airflow.sdk.lineage.HookLineageCollector.add_input_asset", None)
    assert runner.run(export())["state"] == "COMPLETED"
    assert "Could not collect hook lineage" in caplog.text
