"""Asset events, hook lineage and OpenLineage of apps, against the local Platform."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.emulator.seed import BAM, GZIP, VCF, WORD_COUNT
from tests.integration.in_process.conftest import Runner
from tests.integration.in_process.test_openlineage import complete, failure, named
from tests.integration.in_process.test_outlets import events, lineage  # noqa: F401 - a fixture
from tests.integration.in_process.test_task_operator import RUN, make

ALIAS, PLAIN = AssetAlias("outputs"), Asset("x-demo://counts")


@pytest.fixture(autouse=True)
def quick_tasks(platform):
    platform.knobs.update(task_queued_seconds=0.02, task_running_seconds=0.02)


@pytest.fixture
def space(platform):
    return f"sevenbridges://{urlsplit(platform.url).netloc}"


def run_app(**fields):
    return make(GZIP, {"file": VCF}, outlets=[ALIAS, PLAIN], **fields)


def run_batch(**fields):
    inputs = {"files": [VCF, BAM]}
    return make(WORD_COUNT, inputs, batch_by="item", batch_input="files", outlets=[ALIAS, PLAIN], **fields)


def test_each_output_file_of_an_app_emits_an_event(runner, space, deferrable):
    result = runner.run(run_app(deferrable=deferrable))
    [output] = result["output_files"]
    uri = f"{space}/{output['id']}"
    extra = {
        "uri": uri,
        "id": output["id"],
        "name": "NA12878.vcf.gz",
        "size": output["size"],
        "port": "compressed",
        "task_id": result["task_id"],
        "app": result["app"],
    }
    assert events(runner, ALIAS) == [(uri, extra)]
    assert runner.outlet_events[PLAIN].extra == {
        "task_id": result["task_id"],
        "app": result["app"],
        "project": "demo/genomics",
        "adopted": False,
        "total": 1,
        "bytes": output["size"],
    }


def test_a_retry_that_adopts_the_task_emits_its_events_again(runner):
    runner.run(run_app())
    first = events(runner, ALIAS)
    assert runner.run(run_app())["adopted"]
    assert events(runner, ALIAS) == first
    assert runner.outlet_events[PLAIN].extra["adopted"] is True


def test_the_outputs_of_all_tasks_of_a_batch_emit_events(runner, space):
    result = runner.run(run_batch())
    assert {uri for uri, _ in events(runner, ALIAS)} == {f"{space}/{file}" for file in result["file_ids"]}
    assert len(result["file_ids"]) == 2


def test_on_airflow_34_one_event_stands_for_all(runner, space, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.lineage.outlets.BATCHES_ASSET_EVENTS", False)
    result = runner.run(run_batch())
    [event] = runner.outlet_events[ALIAS].asset_alias_events
    assert event.dest_asset_key.uri.rstrip("/") == space
    assert {item["id"] for item in event.extra["files"]} == set(result["file_ids"])


@pytest.mark.parametrize("fields", [{"validate_only": True}, {"wait_for_completion": False}], ids=str)
def test_no_event_for_a_dry_run_or_without_waiting(runner, fields):
    runner.run(run_app(**fields))
    assert (events(runner, ALIAS), runner.outlet_events[PLAIN].extra) == ([], {})


def test_input_and_output_files_are_hook_lineage(runner, space, lineage):  # noqa: F811
    result = runner.run(run_app())
    collected = lineage()
    assert [each.asset.uri for each in collected.inputs] == [f"{space}/{VCF}"]
    assert [each.asset.uri for each in collected.outputs] == [f"{space}/{result['outputs']['compressed']}"]


def test_openlineage_has_input_and_output_files_and_the_task(platform, runner, space, deferrable):
    task = run_app(deferrable=deferrable)
    result = runner.run(task)
    found = complete(task)
    [output] = result["output_files"]
    assert named(found.inputs) == [(space, VCF)]
    assert named(found.outputs) == [(space, output["id"])]
    [written] = found.outputs
    assert written.outputFacets["outputStatistics"].size == output["size"]
    assert written.facets["documentation"].description == "File NA12878.vcf.gz at port compressed"
    query = found.run_facets["externalQuery"]
    assert (query.externalQueryId, query.source) == (result["task_id"], platform.url)


def test_a_failed_app_has_no_outputs_and_nothing_is_reported_before_there_is_a_task(platform, runner, deferrable):
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    task = run_app(deferrable=deferrable)
    with pytest.raises(AirflowException):
        runner.run(task)
    assert failure(task).outputs == []
    assert failure(task).run_facets["externalQuery"].externalQueryId == runner.xcom["task_id"]
    rejected = make(GZIP, {})
    with pytest.raises(AirflowException):
        Runner().run(rejected)
    assert failure(rejected) is None
