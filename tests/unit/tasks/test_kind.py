"""Tasks as a kind of job: what log and tab show of them."""

from __future__ import annotations

import pytest

from airflow_sb_provider.api.task import Task
from airflow_sb_provider.jobs.progress import progress_status, status_of_job
from airflow_sb_provider.jobs.report import wait_status
from airflow_sb_provider.jobs.watch import Watch
from airflow_sb_provider.tasks.kind import TASK


def task(status="RUNNING", **fields):
    return Task.from_json({"id": "t1", "status": status, **fields})


STEPS = {"steps_completed": 2, "steps_total": 5}


def test_the_first_poll_is_logged_if_it_says_how_far_a_task_is():
    watch = Watch(TASK, ["t1"])
    assert watch.update(["t1"], [task("QUEUED")], 0) == []
    watch = Watch(TASK, ["t1"])
    queued = task("QUEUED", execution_status={"account_limit": True})
    line = "Task t1 is QUEUED: waits for the account's limit of instances."
    assert watch.update(["t1"], [queued], 0) == [line]
    assert watch.update(["t1"], [queued], 1) == []


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ({}, {}),
        ({"execution_status": STEPS}, STEPS),
        ({"price": {"amount": "1.50", "currency": "USD"}}, {"price": "1.50 USD"}),
        (
            {"status": "QUEUED", "execution_status": {"system_limit": True}},
            {"waits_for": "the Platform's limit of instances"},
        ),
        # What a running task reports of limits is about more instances.
        ({"execution_status": {"account_limit": True}}, {}),
        ({"batch": True, "execution_status": {"running": 2, "failed": 1}}, {"counts": {"RUNNING": 2, "FAILED": 1}}),
        ({"batch": True}, {"counts": {}}),
        ({"execution_status": {"running": 1}}, {}),
    ],
    ids=str,
)
def test_the_tab_shows_how_far_a_task_is(fields, details):
    unknown = dict.fromkeys(("steps_completed", "steps_total", "counts", "waits_for", "price"))
    shown = status_of_job(TASK, task(**fields))
    assert {name: shown[name] for name in unknown} == unknown | details
    assert shown["task_id"] == "t1"


def test_progress_and_status_of_a_wait_name_the_kind():
    watch = Watch(TASK, ["t1"])
    watch.update(["t1"], [task(execution_status=STEPS)], 0)
    progress = progress_status(watch, None, 0)
    assert (progress["job_kind"], progress["task_id"], progress["steps_total"]) == ("task", "t1", 5)
    assert progress_status(Watch(TASK, ["t1", "t2"]), None, 0)["job_kind"] == "task"
    assert wait_status(TASK, [], {})["job_kind"] == "task"
