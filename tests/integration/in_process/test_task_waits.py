"""The sensor and trigger that wait for tasks of the Platform, and what stops a task."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_sb_provider.emulator.seed import GZIP, PROJECT, VCF, WORD_COUNT
from airflow_sb_provider.exceptions import SevenBridgesInputError, SevenBridgesTaskFailed, SevenBridgesTaskTimeout
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator
from airflow_sb_provider.sensors.task import SevenBridgesTaskSensor
from airflow_sb_provider.triggers.task import SevenBridgesTaskTrigger
from tests.integration.in_process.conftest import Runner, cancel_when, forget

CONN, RUN, POLL = "sevenbridges_default", "/v2/tasks/*/actions/run", "/v2/bulk/tasks/get"


@pytest.fixture(autouse=True)
def quick_tasks(platform):
    platform.knobs.update(task_queued_seconds=0.02, task_running_seconds=0.02, task_aborting_seconds=0.02)


@pytest.fixture
def started(platform):
    """Starts tasks, as somebody does in the web interface, and returns their ids."""

    def start(count=1, app=GZIP, inputs=None):
        hook = SevenBridgesHook()
        tasks = [
            hook.create_task(app, PROJECT, inputs or {"file": {"class": "File", "path": VCF}}) for _ in range(count)
        ]
        return [hook.run_task(task.id).id for task in tasks]

    return start


def sensor(task_id, **fields):
    return SevenBridgesTaskSensor(
        **{"task_id": "wait", "sevenbridges_task_id": task_id, "poke_interval": 0.1, "timeout": 300, **fields}
    )


def operator(**fields):
    common = {"task_id": "run_app", "app": WORD_COUNT, "project": PROJECT, "inputs": {"files": [VCF]}}
    return SevenBridgesTaskOperator(**{**common, "poll_interval": 0.1, "retries": 2, "deferrable": True, **fields})


def states(platform):
    return Counter(task.state for task in platform.platform.tasks.values())


def test_a_task_that_somebody_started_is_awaited(platform, runner, started, deferrable):
    [task_id] = started()
    result = runner.run(sensor(task_id, deferrable=deferrable))
    assert (result["task_id"], result["status"]) == (task_id, "COMPLETED")
    assert [file["name"] for file in result["output_files"]] == ["NA12878.vcf.gz"]
    assert len(result["file_ids"]) == 2


@pytest.mark.parametrize("form", [list, str, tuple])
def test_a_list_keeps_its_order(platform, runner, started, deferrable, form):
    ids = started(3)
    assert [result["task_id"] for result in runner.run(sensor(form(ids), deferrable=deferrable))] == ids


@pytest.mark.parametrize("nothing", [None, "None", []])
def test_there_may_be_nothing_to_wait_for(platform, runner, deferrable, nothing):
    assert runner.run(sensor(nothing, deferrable=deferrable)) is None


def test_a_failed_task_fails_the_sensor_without_retries(platform, runner, started, deferrable):
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    ids = started(2)
    with pytest.raises(AirflowFailException, match=r"The tool failed\.") as caught:
        runner.run(sensor(ids, deferrable=deferrable))
    assert isinstance(caught.value, SevenBridgesTaskFailed)
    assert ids[0] in str(caught.value)


def test_an_id_that_is_none_is_named_with_its_parameter(platform, runner, deferrable):
    with pytest.raises(AirflowFailException, match="sevenbridges_task_id: 'no id!' is not a valid task id"):
        runner.run(sensor("no id!", deferrable=deferrable))


def test_a_wait_has_a_limit(platform, runner, started):
    platform.knobs.stuck = True
    [task_id] = started()
    with pytest.raises(AirflowSensorTimeout):
        runner.run(sensor(task_id, timeout=0.3))


def test_the_trigger_serializes_ids_and_numbers_only(platform):
    trigger = SevenBridgesTaskTrigger(("a", "b"), CONN, 5, 100.0, on_kill_abort=True)
    path, arguments = trigger.serialize()
    assert path == "airflow_sb_provider.triggers.task.SevenBridgesTaskTrigger"
    assert arguments["task_ids"] == ["a", "b"]
    assert arguments["on_kill_abort"] is True
    assert json.loads(json.dumps(arguments)) == arguments
    assert SevenBridgesTaskTrigger(**arguments).serialize() == (path, arguments)
    with pytest.raises(SevenBridgesInputError, match="1001"):
        SevenBridgesTaskTrigger([str(number) for number in range(1001)])


def test_a_thousand_tasks_are_polled_by_the_hundred(platform, started):
    platform.knobs.stuck = True
    ids = started(1000)
    platform.knobs.stuck = False
    before = len(platform.requests)
    triggers = [SevenBridgesTaskTrigger([task_id], CONN, 1.0) for task_id in ids]

    def polls():
        return [record.json["task_ids"] for record in platform.requests[before:]]

    def is_steady():
        """Whether the last ten requests polled each task once; the first ones may be of few tasks each."""
        return sorted(task_id for poll in polls()[-10:] for task_id in poll) == sorted(ids)

    asyncio.run(cancel_when(is_steady, triggers))
    assert {(record.path, record.status) for record in platform.requests[before:]} <= {(POLL, 200), (POLL, None)}


def progress(platform, task_id, **knobs):
    platform.knobs.update(**knobs)
    lines = []

    class Log:
        def info(self, line):
            lines.append(line)

    from airflow_sb_provider.jobs.watch import Watch
    from airflow_sb_provider.tasks.kind import TASK

    watch = Watch(TASK, [task_id])
    for _ in range(3):
        lines += watch.update([task_id], SevenBridgesHook().get_tasks([task_id]), 0.0)
    return lines


@pytest.mark.parametrize(
    ("reason", "text"), [("account_limit", "the account's limit"), ("system_limit", "the Platform's")]
)
def test_the_log_says_why_a_task_is_queued(platform, started, reason, text):
    platform.knobs.stuck = True
    [task_id] = started()
    [line] = progress(platform, task_id, queue_reason=reason)
    assert f"Task {task_id} is QUEUED: " in line
    assert f"waits for {text}" in line


def deferred(operator, runner=None):
    """Run an operator until it defers, and return its trigger."""
    runner = runner or Runner()
    forget(operator)
    caught = []

    async def stop(trigger):
        caught.append(trigger)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.integration.in_process.conftest.first_event", stop)
        with pytest.raises(KeyboardInterrupt):
            runner.run(operator)
    return caught[0]


def kill(trigger, platform, state="failed"):
    """Run a trigger until it has polled, then end its wait as Airflow 3.3 does, with the task in some state."""

    def state_of(ti):
        if state is None:
            raise RuntimeError("Airflow does not answer")
        return state

    async def run():
        again = type(trigger)(**trigger.serialize()[1])
        waiting = asyncio.create_task(anext(again.run()))
        before = len(platform.requests)
        while not any(record.path == POLL for record in platform.requests[before:]):
            await asyncio.sleep(0.01)
        await again.on_kill()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_sb_provider.triggers.task.state_of", state_of)
        asyncio.run(run())


@pytest.mark.parametrize("state", ["deferred", None])
def test_a_task_whose_trigger_moves_to_another_triggerer_is_not_aborted(platform, state):
    platform.knobs.stuck = True
    kill(deferred(operator()), platform, state)
    assert states(platform) == {"QUEUED": 1}


@pytest.mark.parametrize("state", ["failed", "success", "scheduled", "running"])
@pytest.mark.parametrize("aborts", [True, False])
def test_a_deferred_task_that_is_marked_or_cleared_is_aborted(platform, aborts, state):
    platform.knobs.stuck = True
    runner = Runner()
    kill(deferred(operator(on_kill_abort=aborts), runner), platform, state)
    assert bool(states(platform)["ABORTING"] + states(platform)["ABORTED"]) == aborts
    assert bool(states(platform)["QUEUED"]) != aborts


def test_a_cleared_task_that_was_aborted_runs_again(platform, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.engine.task_policy.ABORT_PAUSE", 0.1)
    platform.knobs.update(stuck=True, task_aborting_seconds=1.0)
    runner = Runner()
    kill(deferred(operator(), runner), platform)
    platform.knobs.stuck = False
    runner.clear()
    assert runner.run(operator())["status"] == "COMPLETED"
    assert states(platform) == {"ABORTED": 1, "COMPLETED": 1}


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("aborts", [True, False])
def test_a_task_that_is_cleared_while_it_runs_is_replaced(platform, monkeypatch, aborts, store):
    """Also where Airflow does not notify the trigger."""
    monkeypatch.setattr("airflow_sb_provider.engine.task_policy.ABORT_PAUSE", 0.1)
    monkeypatch.setattr("airflow_sb_provider.tasks.decision.ABORT_PAUSE", 0.1)
    platform.knobs.stuck = True
    runner = Runner(store=store)
    deferred(operator(), runner)
    platform.knobs.stuck = False
    [task] = platform.platform.tasks.values()
    runner.clear()
    if not aborts:
        platform.platform.release(task.id)
    result = runner.run(operator(on_kill_abort=aborts))
    assert (result["task_id"] == task.id) != aborts
    assert result["adopted"] != aborts
    assert states(platform) == ({"ABORTED": 1, "COMPLETED": 1} if aborts else {"COMPLETED": 1})


def test_a_task_that_cannot_be_aborted_is_adopted(platform, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.engine.task_policy.ABORT_PAUSE", 0.1)
    platform.knobs.stuck = True
    runner = Runner()
    deferred(operator(), runner)
    platform.trouble("error", method="POST", path="/v2/tasks/*/actions/abort", status=403, code=7011, times=0)
    runner.clear()
    with pytest.raises(SevenBridgesTaskTimeout):
        runner.run(operator(timeout=3))
    assert states(platform) == {"QUEUED": 1}


def test_an_abort_that_the_platform_rejects_is_logged(platform, capsys):
    platform.knobs.stuck = True
    trigger = deferred(operator())
    platform.trouble("error", method="POST", path="/v2/tasks/*/actions/abort", status=403, code=7011)
    kill(trigger, platform)
    assert states(platform) == {"QUEUED": 1}


@pytest.mark.parametrize("aborts", [True, False])
def test_a_task_that_is_killed_in_its_worker_is_aborted(platform, runner, monkeypatch, aborts):
    platform.knobs.stuck = True
    waiting = operator(deferrable=False, on_kill_abort=aborts)

    def end(*arguments):
        waiting.on_kill()
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_sb_provider.operators.base.wait", end)
    with pytest.raises(KeyboardInterrupt):
        runner.run(waiting)
    assert bool(states(platform)["QUEUED"]) != aborts


def test_a_wait_that_times_out_aborts_nothing(platform, runner):
    platform.knobs.stuck = True
    with pytest.raises(SevenBridgesTaskTimeout):
        runner.run(operator(timeout=0.3))
    assert states(platform) == {"QUEUED": 1}
