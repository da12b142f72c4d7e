from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sb_provider.api.task import Task
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.exceptions import (
    SevenBridgesApiError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
    SevenBridgesTaskRefused,
)
from airflow_sb_provider.jobs.decision import Adopt, CheckAgain, Fail, Submit
from airflow_sb_provider.jobs.record import SubmissionState
from airflow_sb_provider.tasks.decision import RemoteTasks, best_task, decide
from airflow_sb_provider.tasks.request import TaskRequest

REQUEST = TaskRequest("owner/project/app/3", "owner/project", key="k", generation=2)
IN_FLIGHT = ["CREATING", "QUEUED", "RUNNING", "PAUSED"]
FIRST = SubmissionState(can_submit_unchecked=True)
RETRY = SubmissionState(is_new_request=False, job_id="t")
CLEARED = SubmissionState(is_new_request=True, job_id="t")
DOUBT = SubmissionState(is_new_request=False, in_doubt=True)


def task(state, task_id="t", *, generation=2, created="2026-11-27T10:00:00Z"):
    description = replace(REQUEST, generation=generation).body({})["description"]
    return Task(task_id, state, description=description, created_on=parse_time(created))


def decided(submission, **facts):
    return decide(REQUEST, RemoteTasks(submission, 1000.0, **facts))


def test_a_first_try_creates_a_draft():
    assert isinstance(decided(FIRST), Submit)


@pytest.mark.parametrize("state", [*IN_FLIGHT, "DRAFT", "COMPLETED"])
def test_a_retry_adopts_the_recorded_task(state):
    decision = decided(RETRY, recorded=task(state))
    assert isinstance(decision, Adopt)
    assert decision.job.id == "t"


@pytest.mark.parametrize("state", ["FAILED", "ABORTED"])
@pytest.mark.parametrize("submission", [RETRY, CLEARED])
def test_a_task_that_failed_is_replaced(submission, state):
    decision = decided(submission, recorded=task(state))
    assert isinstance(decision, Submit)
    assert f"Task t of an earlier try is {state}" in decision.why


def test_a_cleared_task_that_completed_runs_again():
    assert isinstance(decided(CLEARED, recorded=task("COMPLETED")), Submit)


@pytest.mark.parametrize("state", [*IN_FLIGHT, "DRAFT"])
def test_a_cleared_task_adopts_what_has_not_ended(state):
    assert isinstance(decided(CLEARED, recorded=task(state)), Adopt)


@pytest.mark.parametrize("submission", [RETRY, CLEARED])
def test_a_task_that_is_aborting_is_awaited_before_it_is_replaced(submission):
    decision = decided(submission, recorded=task("ABORTING"))
    assert isinstance(decision, CheckAgain)
    assert decision.at > 1000.0
    endless = decided(replace(submission, rechecks=1000), recorded=task("ABORTING"))
    assert isinstance(endless.error, SevenBridgesInDoubt)


@pytest.mark.parametrize("error", [SevenBridgesNotFoundError(404, 7001), SevenBridgesApiError(403, 7000)])
def test_a_recorded_task_that_cannot_be_read_is_in_doubt(error):
    decision = decided(RETRY, recorded=error)
    assert isinstance(decision, Fail)
    assert isinstance(decision.error, SevenBridgesInDoubt)
    assert "Check on the Platform whether task t exists" in str(decision.error)
    # A new task may not be visible at once.
    assert decision.rechecks > 0


@pytest.mark.parametrize("state", IN_FLIGHT)
def test_a_response_that_was_lost_is_found_by_the_key(state):
    decision = decided(DOUBT, tasks=[task(state, "found")])
    assert isinstance(decision, Adopt)
    assert decision.job.id == "found"


def test_what_may_have_been_created_is_checked_three_times():
    first = decided(DOUBT)
    assert (first.at, first.doubt_stage) == (1120.0, 1)
    waiting = replace(DOUBT, doubt_stage=1, doubt_until=1120.0)
    assert decided(waiting).at == 1120.0
    second = decided(replace(waiting, doubt_until=999.0))
    assert (second.at, second.doubt_stage) == (1030.0, 2)
    assert isinstance(decided(replace(waiting, doubt_until=999.0, doubt_stage=2)), Submit)


def test_a_clock_that_stands_still_is_no_endless_loop():
    stuck = replace(DOUBT, doubt_stage=1, doubt_until=1120.0, rechecks=100)
    assert isinstance(decided(stuck).error, SevenBridgesInDoubt)


def test_an_incomplete_list_is_no_proof():
    decision = decided(DOUBT, is_complete=False)
    assert isinstance(decision.error, SevenBridgesInDoubt)
    assert decision.rechecks > 0
    assert isinstance(decided(DOUBT, is_complete=False, tasks=[task("RUNNING")]), Adopt)


def test_a_rejection_is_reported():
    refusal = SevenBridgesApiError(403, 3001, "No right.")
    decision = decided(replace(DOUBT, in_doubt=False, refusal=refusal))
    assert isinstance(decision.error, SevenBridgesTaskRefused)
    assert "No right." in str(decision.error)
    assert decision.error.code == 3001


def test_a_task_that_was_created_in_spite_of_a_rejection_is_adopted():
    refusal = SevenBridgesApiError(403, 3001, "No right.")
    submission = replace(DOUBT, in_doubt=False, refusal=refusal)
    assert isinstance(decided(submission, tasks=[task("DRAFT")]), Adopt)


OLD, NEW = "2026-11-27T09:00:00Z", "2026-11-27T10:00:00Z"
BEST = [
    ("a started task before a draft", [task("DRAFT", "a", created=OLD), task("QUEUED", "b")], "b"),
    ("one that is being aborted before a draft", [task("DRAFT", "a"), task("ABORTING", "b")], "b"),
    ("a completed one before a draft", [task("DRAFT", "a"), task("COMPLETED", "b")], "b"),
    ("one in flight before a completed one", [task("COMPLETED", "a"), task("RUNNING", "b")], "b"),
    ("the oldest draft", [task("DRAFT", "a", created=NEW), task("DRAFT", "b", created=OLD)], "b"),
    ("of drafts of one moment, always the same", [task("DRAFT", "b"), task("DRAFT", "a")], "a"),
    ("none that failed", [task("FAILED", "a"), task("ABORTED", "b")], None),
    ("none that completed before the clear", [task("COMPLETED", "a", generation=1)], None),
    ("one in flight from before the clear", [task("RUNNING", "a", generation=1)], "a"),
    (
        "the newest that completed",
        [task("COMPLETED", "new", created=NEW), task("COMPLETED", "old", created=OLD)],
        "new",
    ),
]


@pytest.mark.parametrize(("tasks", "best"), [case[1:] for case in BEST], ids=[case[0] for case in BEST])
def test_of_several_tasks_of_one_wish_the_best_is_adopted(tasks, best):
    found = best_task(REQUEST, tasks)
    assert (found and found.id) == best
