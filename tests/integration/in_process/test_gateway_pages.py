"""A gateway in front of the API responds instead of it: no operator fails, and nothing is submitted twice."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.integration.in_process.conftest import paths, submissions

CREATE = "/v2/bulk/storage/exports/create"
GET = "/v2/bulk/storage/exports/get"
PAGES = [
    {"status": 404, "body": "default backend - 404"},
    {"status": 403},
    {"status": 400, "body": ""},
    {"status": 409, "body": '{"detail": "conflict"}'},
    {"status": 413},
    {"status": 401},
    {"status": 503},
    {"status": 504, "body": "upstream request timeout"},
]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page["status"]))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.retry._backoff", lambda state: 0.05)
    monkeypatch.setattr("airflow_sb_provider.engine.result.PAGE_PATIENCE", 0.3)


@pages
@pytest.mark.parametrize("done", [False, True])
def test_a_gateway_page_instead_of_the_response_to_a_submission_exports_once(
    platform, runner, export, deferrable, page, done
):
    platform.trouble("html", done=done, **page)
    result = runner.run(export(deferrable=deferrable))
    assert result["state"] == "COMPLETED"
    assert len(platform.exports) == 1
    assert len(submissions(platform)) == (1 if done else 2)


@pages
def test_a_few_gateway_pages_for_every_request_export_once(platform, runner, export, deferrable, page):
    platform.trouble("html", method="*", path="*", times=9, **page)
    assert runner.run(export(deferrable=deferrable))["state"] == "COMPLETED"
    assert len(platform.exports) == 1


@pages
def test_a_persistent_gateway_page_fails_the_task_and_a_retry_succeeds(platform, runner, export, page):
    platform.trouble("html", times=2, **page)
    operator = export(deferrable=False)
    with pytest.raises(AirflowException) as caught:
        runner.run(operator)
    assert not isinstance(caught.value, AirflowFailException)
    assert runner.run(operator)["state"] == "COMPLETED"
    assert len(platform.exports) == 1


@pages
def test_gateway_pages_do_not_end_a_wait(platform, runner, export, deferrable, page):
    platform.knobs.running_seconds = 1
    platform.trouble("html", path=GET, times=6, **page)
    assert runner.run(export(deferrable=deferrable))["state"] == "COMPLETED"
    assert runner.try_number == 1


@pages
@pytest.mark.parametrize("done", [False, True])
def test_a_gateway_page_instead_of_the_response_to_a_bulk_submission_exports_once(platform, runner, page, done):
    ids = [platform.add_file(f"{number}.vcf", b"x", "demo/many").id for number in range(100)]
    platform.trouble("html", path=CREATE, done=done, **page)
    operator = SevenBridgesBulkExportOperator(
        task_id="bulk",
        exports=[{"file": each, "volume": "demo/results", "location": f"m/{each}"} for each in ids],
        retries=2,
        poll_interval=0.1,
        deferrable=True,
    )
    summary = runner.run(operator)
    assert (summary["state"], summary["counts"]) == ("COMPLETED", {"COMPLETED": 100})
    assert sorted(job.file for job in platform.exports) == sorted(ids)
    assert paths(platform).count("POST bulk/storage/exports/create") == (1 if done else 2)


@pytest.mark.parametrize(
    "page", [*PAGES, {"status": 502, "body": "<h1>nginx</h1>"}], ids=lambda page: str(page["status"])
)
@pytest.mark.parametrize("path", ["/v2/storage/volumes/demo/results/object", "/v2/storage/volumes/*"])
def test_gateway_pages_after_the_export_are_only_logged(platform, runner, export, deferrable, page, path, capsys):
    platform.trouble("html", method="GET", path=path, times=0, **page)
    result = runner.run(export(deferrable=deferrable))
    assert (result["state"], result["etag"], result["size"]) == ("COMPLETED", None, 10)
    [warning] = [line for line in capsys.readouterr().out.split("\n") if "size was not checked" in line]
    assert "[warning" in warning
    assert f"Export {result['export_id']} is COMPLETED" in warning


@pytest.mark.parametrize(
    ("fault", "options"), [("drop", {}), ("error", {"status": 503, "code": 9000}), ("cut_json", {})], ids=str
)
def test_an_error_while_the_object_is_read_is_only_logged(platform, runner, export, deferrable, fault, options, capsys):
    path = "/v2/storage/volumes/demo/results/object"
    platform.trouble(fault, method="GET", path=path, times=0, **options)
    assert runner.run(export(deferrable=deferrable))["state"] == "COMPLETED"
    assert "size was not checked" in capsys.readouterr().out


def test_a_missing_object_is_in_doubt(platform, runner, export, deferrable):
    path = "/v2/storage/volumes/demo/results/object"
    platform.trouble("error", method="GET", path=path, times=0, status=404, code=9105)
    with pytest.raises(AirflowException, match="no object is at"):
        runner.run(export(deferrable=deferrable))


def test_gateway_pages_while_a_project_is_listed_are_retried(platform, runner):
    platform.add_file("a.vcf", b"x", "demo/many")
    platform.trouble("html", method="GET", path="/v2/files", times=12, status=504)
    operator = SevenBridgesBulkExportOperator(
        task_id="bulk", project="demo/many", volume="demo/results", poll_interval=0.1, deferrable=False
    )
    assert runner.run(operator)["counts"] == {"COMPLETED": 1}


@pytest.mark.parametrize("state", ["ABORTED", "CANCELED"])
def test_a_terminal_state_that_is_not_documented_fails_the_task_with_its_error(
    platform, runner, export, deferrable, state
):
    platform.trouble("job_fails", code=5034, message="The volume was deactivated.", state=state)
    with pytest.raises(AirflowException, match=f"its state is {state}: The volume was deactivated.*5034"):
        runner.run(export(deferrable=deferrable))
    assert len(platform.exports) == 1


def test_a_terminal_state_that_is_not_documented_fails_one_of_many(platform, runner):
    ids = [platform.add_file(f"{number}.vcf", b"x", "demo/many").id for number in range(3)]
    platform.trouble("job_fails", path=CREATE, code=5034, message="The volume was deactivated.", state="ABORTED")
    operator = SevenBridgesBulkExportOperator(
        task_id="bulk",
        exports=[{"file": each, "volume": "demo/results", "location": f"m/{each}"} for each in ids],
        on_error="report",
        poll_interval=0.1,
        deferrable=True,
    )
    summary = runner.run(operator)
    assert summary["counts"] == {"COMPLETED": 2, "FAILED": 1}
    assert summary["errors"][0]["code"] == 5034
