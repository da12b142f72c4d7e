from __future__ import annotations

import json

import pytest

from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.api.times import parse_time
from airflow_sb_provider.exceptions import (
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesForbiddenError,
    SevenBridgesGatewayError,
    SevenBridgesInputError,
    SevenBridgesJobFailed,
    SevenBridgesMaintenanceError,
    SevenBridgesMalformedReply,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesServerError,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.exports.kind import EXPORT
from airflow_sb_provider.jobs.kind import JobKind
from airflow_sb_provider.jobs.progress import progress_status
from airflow_sb_provider.jobs.watch import FINAL_POLL_TIMEOUT, REJECTED_FOR, FinalPoll, Over, Wait, Watch


def job(export_id, state, **more):
    return ExportJob(export_id, state, **more)


def test_ids_are_polled_by_the_hundred_and_only_while_they_are_open():
    ids = [f"e{number}" for number in range(250)]
    watch = Watch(EXPORT, ids)
    assert [len(batch) for batch in watch.batches] == [100, 100, 50]
    watch.update(ids[:100], [job(export_id, "COMPLETED") for export_id in ids[:100]], 0)
    assert watch.batches == [ids[100:200], ids[200:]]


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_a_wait_ends_when_all_jobs_are_terminal(state):
    watch = Watch(EXPORT, ["a", "b"])
    watch.update(["a", "b"], [job("a", state), job("b", "RUNNING")], 0)
    assert watch.event(0) is None
    watch.update(["b"], [job("b", "COMPLETED")], 0)
    assert watch.event(0) == {"status": "terminal"}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "HELD_BY_SOMETHING_NEW"])
def test_a_state_that_is_not_terminal_continues_the_wait(state):
    watch = Watch(EXPORT, ["a"])
    watch.update(["a"], [job("a", state)], 0)
    assert watch.event(1e12) is None


def test_the_event_of_one_export_holds_its_job_as_plain_json():
    watch = Watch(EXPORT, ["a"])
    watch.update(["a"], [job("a", "FAILED", file="f", error=SevenBridgesNotFoundError(404, 9105, "gone"))], 0)
    event = watch.event(0)
    assert event["status"] == "terminal"
    again = ExportJob.from_json(json.loads(json.dumps(event["job"])))
    assert (again.state, again.file, again.error.code) == ("FAILED", "f", 9105)


def test_a_change_of_state_is_logged_once():
    watch = Watch(EXPORT, ["a"])
    lines = [
        watch.update(["a"], [job("a", state)], 0) for state in ("PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED")
    ]
    assert lines == [[], [], ["Export a is RUNNING."], [], ["Export a is COMPLETED."]]


@pytest.mark.parametrize(
    "error",
    [
        SevenBridgesRateLimitError(429, 1000),
        SevenBridgesMaintenanceError(503, 0),
        SevenBridgesServerError(502),
        SevenBridgesGatewayError(403, message="default backend - 404"),
        SevenBridgesGatewayError(503),
        SevenBridgesMalformedReply(200),
        SevenBridgesConnectionError("no such host"),
    ],
)
def test_a_transient_error_never_ends_a_wait_and_is_logged_once(error):
    watch = Watch(EXPORT, ["a"])
    lines = [line for _ in range(500) for line in watch.update(["a"], error, 0)]
    assert watch.event(1e12) is None
    assert len(lines) == 1
    assert watch.update(["a"], [job("a", "RUNNING")], 0) == ["Polling recovered.", "Export a is RUNNING."]


REJECTIONS = pytest.mark.parametrize(
    "rejection",
    [
        SevenBridgesAuthError(401, 90001),
        SevenBridgesForbiddenError(403, 9001),
        SevenBridgesNotFoundError(404, 9008),
        SevenBridgesInputError("password: empty"),
    ],
)


@REJECTIONS
@pytest.mark.parametrize("as_item", [True, False])
def test_a_rejection_ends_a_wait_only_when_it_persists(rejection, as_item):
    watch = Watch(EXPORT, ["a"])
    rejected = [rejection] if as_item else rejection
    watch.update(["a"], rejected, 0)
    watch.update(["a"], rejected, 100)
    watch.update(["a"], [job("a", "RUNNING")], 200)
    watch.update(["a"], rejected, 300)
    watch.update(["a"], rejected, 400)
    assert watch.event(400) is None
    watch.update(["a"], rejected, 500)
    event = watch.event(500)
    assert event["status"] == "rejected"
    assert str(rejection) in event["message"]


@REJECTIONS
@pytest.mark.parametrize("interval", [0.05, 1, 5, 29])
def test_a_new_job_that_is_not_visible_for_half_a_minute_is_waited_for(rejection, interval):
    watch = Watch(EXPORT, ["a"])
    now = 1000.0
    while now < 1030:
        assert watch.update(["a"], [rejection], now) == []
        assert watch.has_rejections
        now += interval
    watch.update(["a"], [job("a", "RUNNING")], now)
    assert watch.open == ["a"]
    assert not watch.has_rejections


def test_many_rejections_in_a_row_end_a_wait_after_a_minute():
    watch = Watch(EXPORT, ["a"])
    gone = SevenBridgesNotFoundError(404, 9008)
    now = 0.0
    while not watch.over:
        watch.update(["a"], [gone], now)
        now += 1.0
    assert now == REJECTED_FOR + 1


def test_a_rejection_of_one_id_counts_from_its_own_first():
    watch = Watch(EXPORT, ["a", "b"])
    gone = SevenBridgesNotFoundError(404, 9008)
    for now in (0, 30):
        watch.update(["a", "b"], [gone, job("b", "RUNNING")], now)
    watch.update(["a", "b"], [gone, gone], 60)
    assert watch.open == ["b"]
    for now in (61, 62, 63, 119):
        watch.update(["b"], [gone], now)
    assert watch.open == ["b"]
    watch.update(["b"], [gone], 120)
    assert watch.over


def test_an_item_that_stays_unreadable_ends_only_its_own_wait():
    watch = Watch(EXPORT, ["a", "b"])
    spoiled = SevenBridgesUnreadableItem(200, message="there is no item for a")
    for now in range(0, 90, 10):
        watch.update(["a", "b"], [spoiled, job("b", "RUNNING")], now)
    assert watch.open == ["a", "b"]
    watch.update(["a"], [job("a", "RUNNING")], 90)
    for now in range(100, 190, 10):
        watch.update(["a"], [spoiled], now)
    assert watch.open == ["a", "b"]
    assert watch.update(["a"], [spoiled], 190) == [f"Export a cannot be polled; no longer waiting for it: {spoiled}"]
    assert watch.open == ["b"]
    watch.update(["b"], [job("b", "COMPLETED")], 190)
    event = watch.event(190)
    assert event["status"] == "rejected"
    assert "there is no item for a" in event["message"]


def test_ten_unreadable_items_within_a_minute_do_not_end_a_wait():
    watch = Watch(EXPORT, ["a"])
    spoiled = SevenBridgesUnreadableItem(200, message="there is no item for a")
    for now in range(59):
        watch.update(["a"], [spoiled], now)
    assert watch.open == ["a"]


@pytest.mark.parametrize("error", [SevenBridgesServerError(503, 9000), SevenBridgesMalformedReply(200)])
def test_a_transient_error_of_one_id_never_ends_its_wait(error):
    watch = Watch(EXPORT, ["a", "b"])
    lines = [line for _ in range(500) for line in watch.update(["a"], [error], 0)]
    assert watch.open == ["a", "b"]
    assert len(lines) == 1


@pytest.mark.parametrize("state", ["ABORTED", "CANCELED", "UNKNOWN"])
def test_a_terminal_state_that_is_not_documented_ends_a_wait_as_failed(state):
    watch = Watch(EXPORT, ["a", "b"], fail_fast=True)
    aborted = ExportJob.from_json({"id": "a", "state": state, "finished_on": "2026-01-01T00:00:00Z"})
    watch.update(["a"], [aborted], 0)
    assert watch.event(0)["status"] == "partial"
    watch.update(["b"], [job("b", "COMPLETED")], 0)
    assert watch.event(0)["status"] == "terminal"


def test_one_unknown_id_does_not_stop_the_others():
    watch = Watch(EXPORT, ["a", "b"])
    for now in (0, 30, 60):
        watch.update(["a", "b"], [SevenBridgesNotFoundError(404, 9008), job("b", "RUNNING")], now)
    assert watch.batches == [["b"]]
    assert watch.event(60) is None
    watch.update(["b"], [job("b", "COMPLETED")], 70)
    assert watch.event(70)["status"] == "rejected"


def test_a_rejected_token_marks_the_watch_as_unauthorized():
    watch = Watch(EXPORT, ["a"])
    watch.update(["a"], SevenBridgesAuthError(401), 0)
    assert watch.unauthorized
    watch.update(["a"], [job("a", "RUNNING")], 0)
    assert not watch.unauthorized


def test_at_its_deadline_all_open_ids_are_polled_once_more():
    watch = Watch(EXPORT, ["a", "b", "c"], deadline=100.0)
    watch.update(["a", "b", "c"], [job("a", "RUNNING"), job("b", "RUNNING"), job("c", "COMPLETED")], 50)
    assert watch.next_step(99.9) == Wait(100.0)
    assert watch.next_step(100.0) == FinalPoll(["a", "b"])
    assert watch.next_step(100.0) == Wait(100.0 + FINAL_POLL_TIMEOUT)
    watch.update(["a"], [job("a", "RUNNING")], 101)
    assert watch.next_step(101) == Wait(100.0 + FINAL_POLL_TIMEOUT)
    watch.update(["b"], SevenBridgesServerError(502), 102)
    assert watch.next_step(102) == Over({"status": "timeout"})


def test_a_job_that_is_terminal_in_the_final_poll_finished_in_time():
    watch = Watch(EXPORT, ["a"], deadline=100.0)
    assert watch.next_step(5000.0) == FinalPoll(["a"])
    watch.update(["a"], [job("a", "COMPLETED")], 5001.0)
    assert watch.next_step(5001.0).event["status"] == "terminal"


def test_a_final_poll_without_a_response_ends_too():
    watch = Watch(EXPORT, ["a"], deadline=100.0)
    assert watch.next_step(100.0) == FinalPoll(["a"])
    assert watch.next_step(100.0 + FINAL_POLL_TIMEOUT) == Over({"status": "timeout", "export_id": "a"})


def test_a_forgotten_job_keeps_its_status_for_the_log_and_the_progress():
    watch = Watch(EXPORT, ["a"])
    running = job("a", "RUNNING", started_on=parse_time("2026-11-28T00:00:00Z"))
    lines = []
    for _ in range(2):
        lines += watch.update(["a"], [running], 0)
        watch.forget_job()
        assert not watch.jobs
    assert lines == ["Export a is RUNNING."]
    assert watch.update(["a"], SevenBridgesServerError(502), 0)
    progress = progress_status(watch, None, 0)
    assert (progress["state"], progress["started_on"]) == ("RUNNING", "2026-11-28T00:00:00+00:00")


def test_the_event_of_a_timeout_has_the_job_of_the_final_poll():
    watch = Watch(EXPORT, ["a"], deadline=100.0)
    watch.update(["a"], [job("a", "RUNNING")], 50)
    watch.forget_job()
    assert watch.next_step(100.0) == FinalPoll(["a"])
    watch.update(["a"], [job("a", "RUNNING")], 101)
    watch.forget_job()
    assert watch.next_step(101.0).event["job"]["state"] == "RUNNING"


def test_jobs_of_a_wait_for_several_are_kept():
    watch = Watch(EXPORT, ["a", "b"])
    watch.update(["a"], [job("a", "RUNNING")], 0)
    watch.forget_job()
    assert progress_status(watch, None, 0)["counts"] == {"RUNNING": 1}


def test_without_a_deadline_a_wait_has_no_limit():
    assert Watch(EXPORT, ["a"]).next_step(1e12) == Wait(None)


def test_a_wait_without_ids_is_over_immediately():
    assert Watch(EXPORT, [], deadline=0.0).next_step(1.0) == Over({"status": "terminal"})


class Task:
    """A job of a kind that has a terminal state which is neither success nor failure."""

    started_on = finished_on = error = None

    def __init__(self, id, state):
        self.id, self.state = id, state

    @property
    def ended(self):
        return self.state in ("COMPLETED", "FAILED", "ABORTED")

    @property
    def succeeded(self):
        return self.state == "COMPLETED"

    @property
    def failed(self):
        return self.ended and not self.succeeded

    def to_json(self):
        return {"id": self.id, "status": self.state}


TASK = JobKind(
    "task",
    lambda data: Task(data["id"], data["status"]),
    None,
    SevenBridgesJobFailed,
    "run",
    frozenset({"DRAFT", "QUEUED"}),
)


def test_another_kind_is_logged_by_its_own_name():
    watch = Watch(TASK, ["t"])
    assert watch.update(["t"], [Task("t", "QUEUED")], 0) == []
    assert watch.update(["t"], [Task("t", "RUNNING")], 1) == ["Task t is RUNNING."]
    assert watch.update(["t"], [Task("t", "ABORTED")], 2) == ["Task t is ABORTED."]
    assert watch.event(2) == {"status": "terminal", "task_id": "t", "job": {"id": "t", "status": "ABORTED"}}


def test_many_jobs_of_another_kind_are_logged_by_its_own_name():
    ids = [f"t{number}" for number in range(20)]
    watch = Watch(TASK, ids, fail_fast=True)
    assert watch.update(ids, [Task(each, "ABORTED" if each == "t3" else "COMPLETED") for each in ids], 0) == [
        "20 of 20 tasks have finished, 1 of them failed."
    ]
    gone = Watch(TASK, ["t"])
    for now in (0, 30, 60):
        gone.update(["t"], SevenBridgesNotFoundError(404), now)
    assert gone.event(60)["message"].startswith("Task t cannot be polled: ")


def test_jobs_that_fail_in_turn_to_be_polled_are_logged_once():
    ids = [f"e{number}" for number in range(25)]
    error = SevenBridgesServerError(503, 9100, "no answer")
    watch = Watch(EXPORT, ids)

    def polled(failing):
        return watch.update(ids, [error if each in failing else job(each, "PENDING") for each in ids], 0)

    assert [len(polled(ids[start::2])) for start in (0, 1, 0, 1)] == [1, 0, 0, 0]
    assert polled(ids[:3]) == []
    assert polled(()) == ["Polling recovered."]
