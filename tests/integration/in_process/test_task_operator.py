"""The operator that runs an app, against the local Platform."""

from __future__ import annotations

import time
from datetime import timedelta

import pendulum
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.emulator.seed import CHECKSUMS, GZIP, PROJECT, VCF, WORD_COUNT
from airflow_sb_provider.engine.task_policy import TaskPolicy
from airflow_sb_provider.exceptions import (
    SevenBridgesInDoubt,
    SevenBridgesInputError,
    SevenBridgesTaskFailed,
    SevenBridgesTaskRefused,
    SevenBridgesTaskTimeout,
)
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.task import SevenBridgesFile, SevenBridgesTaskOperator
from tests.integration.in_process.conftest import Runner

CREATE, RUN = "/v2/tasks", "/v2/tasks/*/actions/run"


@pytest.fixture(autouse=True)
def quick_tasks(platform, monkeypatch):
    platform.knobs.update(task_queued_seconds=0.02, task_running_seconds=0.02, task_aborting_seconds=0.02)
    monkeypatch.setattr("airflow_sb_provider.engine.task_policy.ABORT_PAUSE", 0.1)
    monkeypatch.setattr("airflow_sb_provider.engine.task_result._PAUSES", (0.1, 0.2, 0.4, 0.8))


@pytest.fixture(params=[True, False], ids=["deferred", "in the worker"])
def deferrable(request):
    return request.param


@pytest.fixture
def runner():
    return Runner()


def make(app=WORD_COUNT, inputs=None, project=PROJECT, **fields):
    inputs = {"files": [VCF]} if inputs is None else inputs
    common = {"task_id": "run_app", "retries": 2, "poll_interval": 0.1, "deferrable": False}
    return SevenBridgesTaskOperator(app=app, project=project, inputs=inputs, **{**common, **fields})


def tasks(platform):
    return list(platform.platform.tasks.values())


def runs(platform):
    return [task for task in tasks(platform) if task.state != "DRAFT"]


def sent(platform, method, path):
    return [record for record in platform.requests if record.method == method and record.path == path]


def test_an_app_runs_and_its_outputs_are_returned(platform, runner, deferrable):
    result = runner.run(make(GZIP, {"file": SevenBridgesFile(VCF)}, deferrable=deferrable))
    [task] = tasks(platform)
    [output] = result["output_files"]
    assert runner.xcom["task_id"] == result["task_id"] == task.id
    assert (result["status"], result["app"].rpartition("/")[0], result["project"]) == ("COMPLETED", GZIP, PROJECT)
    assert result["outputs"]["compressed"] == output["id"]
    assert (output["name"], output["port"]) == ("NA12878.vcf.gz", "compressed")
    assert [index["name"] for index in output["index_files"]] == ["NA12878.vcf.gz.gzi"]
    assert result["file_ids"] == [output["id"], output["index_files"][0]["id"]]
    assert output["size"] == len(platform.platform.storage.read_source(output["id"]))
    assert not result["adopted"]
    assert result["url"].endswith(f"/tasks/{task.id}/")
    assert bool(runner.deferrals) == deferrable


def test_an_untroubled_run_is_few_requests(platform, runner):
    runner.run(make())
    polls = sent(platform, "POST", "/v2/bulk/tasks/get")
    # Project, app, input files; create, run; the task, its output files, and what is beside them.
    assert len(platform.requests) - len(polls) == 8


def test_a_first_try_searches_no_earlier_task(platform, runner):
    runner.run(make())
    assert not sent(platform, "GET", "/v2/tasks")


def test_without_a_store_it_lists_the_tasks_before_it_starts_one(platform):
    Runner(store=False).run(make())
    assert len(sent(platform, "GET", "/v2/tasks")) == 1
    order = [record.path.rpartition("/")[2] for record in platform.requests]
    assert order.index("tasks") < order.index("run")


def test_text_of_templates_is_converted(platform, runner):
    result = runner.run(make(CHECKSUMS, {"files": f"['{VCF}']", "algorithm": "md5"}))
    assert result["status"] == "COMPLETED"


WRONG = [
    ({"app": f"{PROJECT}/no-app"}, "app: "),
    ({"app": f"{WORD_COUNT}/99"}, "app: "),
    ({"project": "demo/none"}, "project: "),
    ({"inputs": {}}, "inputs.files: it is missing"),
    ({"inputs": {"files": VCF}}, "inputs.files: "),
    ({"inputs": {"files": ["f" * 24]}}, "inputs: File ffffffffffffffffffffffff"),
    ({"inputs": {"files": [VCF], "more": 1}}, "inputs.more: the app has no such input"),
    ({"inputs": {"files": ["5f00000000000000000000f1"]}}, "5f00000000000000000000f1 is a folder"),
    ({"batch_by": ["metadata.nothing"], "batch_input": "files"}, "batch_by: no file of inputs.files has"),
    ({"batch_by": "item", "batch_input": "none"}, "batch_input: the app has no input 'none'"),
]


@pytest.mark.parametrize("validate_only", [False, True])
@pytest.mark.parametrize(("fields", "problem"), WRONG, ids=str)
def test_wrong_input_fails_before_anything_exists(platform, runner, fields, problem, validate_only):
    with pytest.raises(AirflowFailException) as caught:
        runner.run(make(**{**fields, "validate_only": validate_only}))
    assert problem in str(caught.value)
    assert isinstance(caught.value, SevenBridgesTaskRefused)
    assert not tasks(platform)


def test_all_that_is_wrong_is_named_at_once(platform, runner):
    inputs = {"files": ["f" * 24, VCF], "more": 1}
    with pytest.raises(AirflowFailException) as caught:
        runner.run(make(inputs=inputs, batch_by=["metadata.nothing"], batch_input="files"))
    assert all(text in str(caught.value) for text in ("f" * 24, "inputs.more", "batch_by"))


def test_wrong_parameters_fail_before_any_request(platform, runner):
    with pytest.raises(SevenBridgesInputError, match="project: "):
        runner.run(make(app="app", project="project", execution_settings={"a": 1}))
    assert not platform.requests


def test_the_errors_of_a_draft_are_reported_and_the_draft_is_deleted(platform, runner):
    platform.knobs.no_funds = True
    with pytest.raises(AirflowFailException) as caught:
        runner.run(make())
    assert "funds" in str(caught.value)
    assert not tasks(platform)


def test_a_cleared_task_runs_when_the_cause_is_gone(platform, runner):
    platform.knobs.no_funds = True
    with pytest.raises(AirflowFailException):
        runner.run(make())
    platform.knobs.no_funds = False
    runner.clear()
    assert runner.run(make())["status"] == "COMPLETED"


def test_validate_only_runs_nothing_and_leaves_no_draft(platform, runner):
    result = runner.run(make(validate_only=True))
    assert (result["validate_only"], result["warnings"]) == (True, [])
    assert not tasks(platform)
    assert not sent(platform, "POST", RUN)


def test_a_draft_that_is_only_validated_carries_no_key(platform, runner):
    runner.run(make(validate_only=True))
    [created] = sent(platform, "POST", CREATE)
    assert "key" not in created.json["description"]


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("kind", ["lose_reply", "drop"])
def test_a_lost_response_to_the_creation_is_found_by_the_key(platform, kind, store):
    platform.trouble(kind, method="POST", path=CREATE)
    Runner(store=store).run(make(description="Two\nlines"))
    assert len(runs(platform)) == 1
    assert len(tasks(platform)) == 1


@pytest.mark.parametrize("kind", ["lose_reply", "drop", "html"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_response_to_the_start_starts_nothing_twice(platform, runner, kind, times):
    platform.trouble(kind, method="POST", path=RUN, times=times)
    assert runner.run(make())["status"] == "COMPLETED"
    assert len(tasks(platform)) == 1


@pytest.mark.parametrize("code", [7007, 7010])
def test_a_start_that_was_accepted_before_is_followed(platform, runner, code):
    platform.knobs.run_refused_code = code
    platform.trouble("lose_reply", method="POST", path=RUN)
    assert runner.run(make())["status"] == "COMPLETED"


def test_brief_lists_hide_no_task(platform):
    platform.knobs.brief_ignores_fields = True
    platform.trouble("lose_reply", method="POST", path=CREATE)
    Runner(store=False).run(make())
    assert len(tasks(platform)) == 1


def test_a_failed_task_is_replaced_by_a_retry(platform, runner, deferrable):
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    with pytest.raises(AirflowException) as caught:
        runner.run(make(deferrable=deferrable))
    assert isinstance(caught.value, SevenBridgesTaskFailed)
    assert not isinstance(caught.value, AirflowFailException)
    assert "The tool failed." in str(caught.value)
    assert "on the task's page" in str(caught.value)
    result = runner.run(make(deferrable=deferrable))
    assert result["status"] == "COMPLETED"
    assert not result["adopted"]
    assert sorted(task.state for task in tasks(platform)) == ["COMPLETED", "FAILED"]


def test_a_retry_adopts_the_task_of_a_killed_worker(platform, runner):
    platform.knobs.stuck = True
    killed = make(timeout=0.3)
    with pytest.raises(SevenBridgesTaskTimeout, match="continues on the Platform"):
        runner.run(killed)
    platform.knobs.stuck = False
    [task] = tasks(platform)
    platform.platform.release(task.id)
    assert runner.run(make())["adopted"]
    assert len(tasks(platform)) == 1


def test_a_retry_adopts_a_completed_task(platform, runner):
    first = runner.run(make())
    again = runner.run(make())
    assert (again["task_id"], again["adopted"]) == (first["task_id"], True)


@pytest.mark.parametrize("store", [True, False])
def test_a_cleared_task_that_completed_runs_again(platform, store):
    runner = Runner(store=store)
    first = runner.run(make())
    runner.clear()
    assert runner.run(make())["task_id"] != first["task_id"]


def test_a_cleared_task_without_a_record_runs_again(platform, runner):
    first = runner.run(make())
    runner.clear(keep_task_state=False)
    assert runner.run(make())["task_id"] != first["task_id"]


def test_a_recorded_task_that_is_gone_is_in_doubt(platform, runner):
    runner.run(make())
    platform.platform.tasks.clear()
    with pytest.raises(SevenBridgesInDoubt, match="Check on the Platform whether task"):
        runner.run(make())
    assert not tasks(platform)


def test_another_task_of_the_same_wish_is_not_run_twice(platform):
    """Two processes of one try: the second finds the first's task before it starts its own."""
    runner = Runner(store=False)
    platform.knobs.stuck = True
    with pytest.raises(SevenBridgesTaskTimeout):
        runner.run(make(timeout=0.3))
    twin = Runner(store=False)
    with pytest.raises(SevenBridgesTaskTimeout):
        twin.run(make(timeout=0.3))
    assert len(runs(platform)) == 1


def test_the_outputs_may_be_shown_late(platform, runner):
    platform.knobs.task_outputs_lag_seconds = 0.5
    assert runner.run(make())["file_ids"]


def test_numbers_as_text_and_errors_as_text(platform, runner):
    platform.knobs.update(task_numbers="str", task_errors="texts")
    assert runner.run(make())["status"] == "COMPLETED"


def batch(**fields):
    inputs = {"files": [VCF, "5f0000000000000000000004"]}
    return make(inputs=inputs, batch_by="item", batch_input="files", **fields)


def test_a_batch_returns_the_outputs_of_its_tasks(platform, runner, deferrable):
    result = runner.run(batch(deferrable=deferrable))
    assert result["batch"] == {"completed": 2}
    assert [child["status"] for child in result["children"]] == ["COMPLETED", "COMPLETED"]
    assert len(result["file_ids"]) == 2


@pytest.mark.parametrize("status", ["COMPLETED", "FAILED"])
def test_a_batch_of_which_a_task_failed_is_reported(platform, runner, status):
    platform.knobs.batch_failed_status = status
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    with pytest.raises(AirflowException) as caught:
        runner.run(batch())
    # A retry would run all tasks of a failed batch again, and find the same completed one.
    assert isinstance(caught.value, AirflowFailException) == (status == "COMPLETED")
    assert "1 task of the batch" in str(caught.value) or status == "FAILED"


def test_a_batch_can_return_the_tasks_that_completed(platform, runner):
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    result = runner.run(batch(on_error="report"))
    assert result["batch"] == {"completed": 1, "failed": 1}
    assert len(result["file_ids"]) == 1


def test_it_does_not_wait_if_it_is_not_to(platform, runner):
    platform.knobs.stuck = True
    result = runner.run(make(wait_for_completion=False))
    assert result["status"] in ("QUEUED", "CREATING")
    assert result["task_id"] == runner.xcom["task_id"]
    platform.knobs.stuck = False
    assert result.keys() == Runner().run(make(CHECKSUMS, {"files": [VCF]})).keys()


def kill_at(monkeypatch, method, path, after=None):
    """Let the next process die at a call: before it is sent, or after it, when `after` was called."""
    real = SevenBridgesHook.send

    def send(self, call, **options):
        if call.method == method and call.path.endswith(path):
            monkeypatch.setattr(SevenBridgesHook, "send", real)
            if after:
                real(self, call, **options)
                after()
            raise KeyboardInterrupt
        return real(self, call, **options)

    monkeypatch.setattr(SevenBridgesHook, "send", send)


def test_a_task_that_was_adopted_after_a_clear_is_not_run_again_by_a_retry(platform, runner):
    platform.knobs.stuck = True
    for _ in range(2):
        with pytest.raises(SevenBridgesTaskTimeout):
            runner.run(make(timeout=0.3, on_kill_abort=False))
        runner.clear()
    runner.max_tries = runner.try_number - 1 + runner.retries
    platform.knobs.stuck = False
    [task] = tasks(platform)
    platform.platform.release(task.id)
    while task.state != "COMPLETED":
        time.sleep(0.01)
    assert runner.run(make())["task_id"] == task.id
    assert len(tasks(platform)) == 1


@pytest.mark.parametrize("store", [True, False])
def test_a_draft_from_before_a_clear_becomes_one_of_the_new_wish(platform, monkeypatch, store):
    runner = Runner(store=store)
    kill_at(monkeypatch, "POST", "/actions/run")
    with pytest.raises(KeyboardInterrupt):
        runner.run(make())
    runner.clear()
    first = runner.run(make())
    assert runner.run(make())["task_id"] == first["task_id"]
    assert len(tasks(platform)) == 1


def test_a_task_that_is_stopped_while_it_starts_is_aborted(platform, runner, monkeypatch):
    platform.knobs.stuck = True
    operator = make()
    kill_at(monkeypatch, "POST", "/actions/run", operator.on_kill)
    with pytest.raises(KeyboardInterrupt):
        runner.run(operator)
    [task] = tasks(platform)
    assert task.state in ("ABORTING", "ABORTED")


def test_a_draft_whose_deletion_has_no_response_counts_as_deleted(platform, runner):
    platform.knobs.no_funds = True
    platform.trouble("lose_reply", method="DELETE", path="/v2/tasks/*")
    with pytest.raises(SevenBridgesTaskRefused, match="Its draft was deleted"):
        runner.run(make())
    platform.knobs.no_funds = False
    runner.clear()
    assert runner.run(make())["status"] == "COMPLETED"


def test_a_process_that_dies_when_it_has_deleted_its_draft_leaves_no_doubt(platform, runner, monkeypatch):
    platform.knobs.no_funds = True
    kill_at(monkeypatch, "DELETE", "", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        runner.run(make())
    assert not tasks(platform)
    platform.knobs.no_funds = False
    assert runner.run(make())["status"] == "COMPLETED"


def test_its_own_draft_is_not_read_again_because_a_list_is_brief(platform):
    platform.knobs.brief_ignores_fields = True
    Runner(store=False).run(make())
    paths = [record.path for record in platform.requests]
    [start] = [place for place, path in enumerate(paths) if path.endswith("/actions/run")]
    assert "/v2/tasks" in paths[:start]
    assert "/v2/bulk/tasks/get" not in paths[:start]


def test_a_process_that_resumes_after_a_later_try_has_succeeded_returns_its_task(platform, runner):
    first = runner.run(make())
    late = make()
    late.execute = lambda context: late.resume(context, {"status": "terminal"})
    runner.try_number = 0
    assert runner.run(late)["task_id"] == first["task_id"]


def test_a_draft_that_cannot_be_marked_is_started_all_the_same(platform, runner, monkeypatch):
    """Another process may have started it between the check and the mark."""
    kill_at(monkeypatch, "POST", "/actions/run")
    with pytest.raises(KeyboardInterrupt):
        runner.run(make())
    runner.clear()
    platform.trouble("error", method="PATCH", path="/v2/tasks/*", status=400, code=7026)
    assert runner.run(make())["status"] == "COMPLETED"
    assert len(tasks(platform)) == 1


def test_a_list_that_is_incomplete_for_a_moment_fails_no_start(platform, monkeypatch):
    real, listed = TaskPolicy._tasks_of, []

    def tasks_of(self, *about, **more):
        listed.append(about)
        return ([], False) if len(listed) == 1 else real(self, *about, **more)

    monkeypatch.setattr(TaskPolicy, "_tasks_of", tasks_of)
    assert Runner(store=False).run(make())["status"] == "COMPLETED"
    assert len(listed) == 2


def test_a_list_that_stays_incomplete_starts_nothing(platform, monkeypatch):
    monkeypatch.setattr(TaskPolicy, "_tasks_of", lambda self, *about, **more: ([], False))
    with pytest.raises(SevenBridgesInDoubt, match="A retry checks again"):
        Runner(store=False).run(make())
    assert not runs(platform)


@pytest.mark.parametrize(("tries", "days"), [(1, 0), (2, 30)])
def test_without_a_store_only_a_retry_searches_all_recent_tasks(platform, tries, days):
    """A first try starts with a short list, however many tasks the project has."""
    runner = Runner(store=False)
    runner.try_number = tries - 1
    runner.run(make())
    lists = sent(platform, "GET", "/v2/tasks")
    since = {parse_time(record.query["created_from"]) for record in lists}
    age = max(pendulum.now("UTC") - time for time in since)
    assert age.total_seconds() // 86_400 == days


def test_an_older_draft_of_the_wish_is_named_before_it_is_started(platform, monkeypatch):
    first, second = Runner(store=False), Runner(store=False)
    for runner in (first, second):
        kill_at(monkeypatch, "POST", "/actions/run")
        with pytest.raises(KeyboardInterrupt):
            runner.run(make())
        tasks(platform)[0].started_on -= timedelta(seconds=10)
    assert len(tasks(platform)) == 2
    assert second.xcom["task_id"] == first.xcom["task_id"]


@pytest.mark.parametrize("by", ["file_ids", "origin_task"])
def test_the_bulk_export_takes_the_outputs(platform, by):
    result = Runner().run(make(GZIP, {"file": VCF}))
    where = {"file_ids": str(result["file_ids"])} if by == "file_ids" else {"origin_task": result["task_id"]}
    export = SevenBridgesBulkExportOperator(
        task_id="export",
        volume="demo/results",
        location_pattern="{name}",
        poll_interval=0.1,
        **where,
        **({} if by == "file_ids" else {"project": PROJECT}),
    )
    assert Runner().run(export)["counts"] == {"COMPLETED": 2}
    for file_id, name in zip(result["file_ids"], ("NA12878.vcf.gz", "NA12878.vcf.gz.gzi"), strict=True):
        assert platform.platform.files[file_id].alias == ("demo/results", name)
