from __future__ import annotations

import json

import pytest

from airflow_sb_provider.api.models import ExportJob
from airflow_sb_provider.exceptions import (
    SevenBridgesAuthError,
    SevenBridgesConnectionError,
    SevenBridgesGatewayError,
    SevenBridgesInputError,
    SevenBridgesMaintenanceError,
    SevenBridgesMalformedReply,
    SevenBridgesNotFoundError,
    SevenBridgesRateLimitError,
    SevenBridgesServerError,
    SevenBridgesUnreadableItem,
)
from airflow_sb_provider.jobs.watch import Watch


def job(export_id, state, **more):
    return ExportJob(export_id, state, **more)


def test_ids_are_asked_by_the_hundred_and_only_while_they_are_open():
    ids = [f"e{number}" for number in range(250)]
    watch = Watch(ids)
    assert [len(batch) for batch in watch.batches] == [100, 100, 50]
    watch.take(ids[:100], [job(export_id, "COMPLETED") for export_id in ids[:100]])
    assert watch.batches == [ids[100:200], ids[200:]]


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_a_wait_ends_when_all_have_ended(state):
    watch = Watch(["a", "b"])
    watch.take(["a", "b"], [job("a", state), job("b", "RUNNING")])
    assert watch.event(0) is None
    watch.take(["b"], [job("b", "COMPLETED")])
    assert watch.event(0) == {"status": "ended"}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "HELD_BY_SOMETHING_NEW"])
def test_an_open_state_goes_on(state):
    watch = Watch(["a"])
    watch.take(["a"], [job("a", state)])
    assert watch.event(1e12) is None


def test_the_event_of_one_export_holds_its_job_as_plain_json():
    watch = Watch(["a"])
    watch.take(["a"], [job("a", "FAILED", file="f", error=SevenBridgesNotFoundError(404, 9105, "gone"))])
    event = watch.event(0)
    assert event["status"] == "ended"
    again = ExportJob.from_json(json.loads(json.dumps(event["job"])))
    assert (again.state, again.file, again.error.code) == ("FAILED", "f", 9105)


def test_a_change_of_state_is_told_once():
    watch = Watch(["a"])
    lines = [
        watch.take(["a"], [job("a", state)]) for state in ("PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED")
    ]
    assert lines == [[], [], ["Export a is RUNNING."], [], ["Export a is COMPLETED."]]


@pytest.mark.parametrize(
    "trouble",
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
def test_trouble_never_ends_a_wait_and_is_told_once(trouble):
    watch = Watch(["a"])
    lines = [line for _ in range(500) for line in watch.take(["a"], trouble)]
    assert watch.event(1e12) is None
    assert len(lines) == 1
    assert watch.take(["a"], [job("a", "RUNNING")]) == ["The Platform answers again.", "Export a is RUNNING."]


@pytest.mark.parametrize(
    "refusal",
    [
        SevenBridgesAuthError(401, 90001),
        SevenBridgesNotFoundError(404, 9008),
        SevenBridgesInputError("password: empty"),
    ],
)
def test_a_refusal_ends_a_wait_only_when_it_persists(refusal):
    watch = Watch(["a"])
    watch.take(["a"], refusal)
    watch.take(["a"], refusal)
    watch.take(["a"], [job("a", "RUNNING")])
    watch.take(["a"], refusal)
    watch.take(["a"], refusal)
    assert watch.event(0) is None
    watch.take(["a"], refusal)
    event = watch.event(0)
    assert event["status"] == "refused"
    assert str(refusal) in event["message"]


def test_an_item_that_stays_unreadable_ends_its_own_wait_only():
    watch = Watch(["a", "b"])
    spoiled = SevenBridgesUnreadableItem(200, message="there is no item for a")
    for _ in range(9):
        watch.take(["a", "b"], [spoiled, job("b", "RUNNING")])
    assert watch.open == ["a", "b"]
    watch.take(["a"], [job("a", "RUNNING")])
    for _ in range(9):
        watch.take(["a"], [spoiled])
    assert watch.open == ["a", "b"]
    assert watch.take(["a"], [spoiled]) == [f"Export a cannot be seen any more: {spoiled}"]
    assert watch.open == ["b"]
    watch.take(["b"], [job("b", "COMPLETED")])
    event = watch.event(0)
    assert event["status"] == "refused"
    assert "there is no item for a" in event["message"]


@pytest.mark.parametrize("trouble", [SevenBridgesServerError(503, 9000), SevenBridgesMalformedReply(200)])
def test_trouble_with_one_id_never_ends_its_wait(trouble):
    watch = Watch(["a", "b"])
    lines = [line for _ in range(500) for line in watch.take(["a"], [trouble])]
    assert watch.open == ["a", "b"]
    assert len(lines) == 1


@pytest.mark.parametrize("state", ["ABORTED", "CANCELLED", "UNKNOWN"])
def test_a_terminal_state_that_is_not_documented_ends_a_wait_as_failed(state):
    watch = Watch(["a", "b"], fail_fast=True)
    told = ExportJob.from_json({"id": "a", "state": state, "finished_on": "2026-01-01T00:00:00Z"})
    watch.take(["a"], [told])
    assert watch.event(0)["status"] == "some ended"
    watch.take(["b"], [job("b", "COMPLETED")])
    assert watch.event(0)["status"] == "ended"


def test_one_unknown_id_does_not_stop_the_others():
    watch = Watch(["a", "b"])
    for _ in range(3):
        watch.take(["a", "b"], [SevenBridgesNotFoundError(404, 9008), job("b", "RUNNING")])
    assert watch.batches == [["b"]]
    assert watch.event(0) is None
    watch.take(["b"], [job("b", "COMPLETED")])
    assert watch.event(0)["status"] == "refused"


def test_a_refused_token_asks_for_the_connection_again():
    watch = Watch(["a"])
    watch.take(["a"], SevenBridgesAuthError(401))
    assert watch.unauthorized
    watch.take(["a"], [job("a", "RUNNING")])
    assert not watch.unauthorized


def test_the_end_time_is_absolute_and_an_end_goes_before_it():
    watch = Watch(["a"], end_time=100.0)
    watch.take(["a"], [job("a", "RUNNING")])
    assert watch.event(99.9) is None
    assert watch.event(100.0)["status"] == "timeout"
    watch.take(["a"], [job("a", "COMPLETED")])
    assert watch.event(200.0)["status"] == "ended"


def test_nothing_to_wait_for_is_over_at_once():
    assert Watch([]).event(0) == {"status": "ended"}
