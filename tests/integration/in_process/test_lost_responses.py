"""The response to a submission is lost: each row of the table in docs/exporting-once.md, in both modes."""

from __future__ import annotations

import time

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_sb_provider.exceptions import SevenBridgesInDoubt
from airflow_sb_provider.hooks.clock import PlatformClock
from tests.integration.in_process.conftest import GATEWAY_TIMEOUT, submissions

NEW, OLD = b"some bytes", b"old"
MOVE, COPY = {}, {"copy_only": True}
MOVE_OVER, COPY_OVER = {"overwrite": True}, {"overwrite": True, "copy_only": True}

RUNNING, FINISHED, LATE, NEVER = "accepted and running", "accepted and finished", "accepted late", "never accepted"
FATES = {
    RUNNING: ("lose_reply", {}, {"running_seconds": 0.6}),
    FINISHED: ("lose_reply", {}, {"instant": True}),
    LATE: ("late_accept", {"seconds": GATEWAY_TIMEOUT / 2}, {}),
    NEVER: ("drop", {}, {}),
}


def lose(platform, fate):
    fault, options, knobs = FATES[fate]
    platform.knobs.update(**knobs)
    platform.trouble(fault, **options)


@pytest.mark.parametrize(
    ("intent", "fate", "adopted", "posts"),
    [
        (MOVE, RUNNING, True, 1),
        (MOVE, FINISHED, True, 1),
        (MOVE, LATE, True, 1),
        (MOVE, NEVER, False, 2),
        (MOVE_OVER, RUNNING, True, 1),
        (MOVE_OVER, FINISHED, True, 1),
        (MOVE_OVER, LATE, True, 1),
        (COPY, RUNNING, True, 1),
        (COPY, FINISHED, True, 1),
        (COPY, LATE, True, 1),
        (COPY, NEVER, False, 2),
        (COPY_OVER, RUNNING, True, 1),
        (COPY_OVER, FINISHED, True, 1),
        (COPY_OVER, LATE, True, 1),
        (COPY_OVER, NEVER, False, 2),
    ],
    ids=str,
)
def test_an_export_whose_response_is_lost_completes_once(
    platform, runner, export, deferrable, intent, fate, adopted, posts
):
    if intent.get("overwrite"):
        platform.put_object("demo/results", "a/b.txt", OLD)
    lose(platform, fate)
    result = runner.run(export(deferrable=deferrable, **intent))
    assert result["state"] == "COMPLETED"
    assert result["adopted"] is adopted
    assert len(submissions(platform)) == posts
    assert runner.xcom["export_id"] == result["export_id"]
    assert platform.object_bytes("demo/results", "a/b.txt") == NEW
    if not intent.get("copy_only"):
        assert len(platform.exports) == 1


@pytest.mark.parametrize("there", [OLD, None], ids=["over an object", "over nothing"])
def test_a_move_with_overwrite_that_may_have_been_accepted_is_never_resubmitted(
    platform, runner, export, deferrable, there
):
    if there:
        platform.put_object("demo/results", "a/b.txt", there)
    lose(platform, NEVER)
    operator = export(deferrable=deferrable, **MOVE_OVER)
    for _ in range(2):
        with pytest.raises(AirflowException, match="Check the object there") as caught:
            runner.run(operator)
        assert not isinstance(caught.value, AirflowFailException)
        assert isinstance(caught.value.__cause__, SevenBridgesInDoubt)
    assert len(submissions(platform)) == 1
    if there:
        assert platform.object_bytes("demo/results", "a/b.txt") == there


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("lose_reply", {}),
        ("cut_json", {}),
        ("cut_json", {"connection": True}),
        ("cut_json", {"keep": 0}),
        ("html", {"status": 502, "done": True}),
        ("html", {"status": 200, "done": True}),
        ("error", {"status": 500, "code": 9100, "done": True}),
    ],
    ids=str,
)
def test_any_unreadable_response_counts_as_lost(platform, runner, export, deferrable, fault, options):
    platform.knobs.running_seconds = 0.6
    platform.trouble(fault, **options)
    result = runner.run(export(deferrable=deferrable))
    assert result["adopted"]
    assert result["export_id"] == platform.exports[0].id
    assert len(submissions(platform)) == len(platform.exports) == 1


@pytest.mark.parametrize(("fault", "options"), [("drop", {}), ("html", {"status": 502}), ("error", {"status": 500})])
def test_a_move_is_resubmitted_only_after_it_can_no_longer_be_accepted(
    platform, runner, export, deferrable, fault, options
):
    checks = []

    def count(record):
        if record.path == "/v2/bulk/files/get":
            checks.append(len(submissions(platform)))

    platform.on("request", count)
    platform.trouble(fault, **options)
    result = runner.run(export(deferrable=deferrable))
    assert not result["adopted"]
    first, second = submissions(platform)
    assert second.time - first.time >= GATEWAY_TIMEOUT
    assert checks == [1, 1, 1], "three checks between the two requests"
    assert len(platform.exports) == 1


def test_the_wait_for_the_gateway_is_deferred(platform, runner, export, deferrable):
    platform.trouble("drop")
    runner.run(export(deferrable=deferrable))
    assert len(runner.deferrals) == (2 if deferrable else 0)


def test_a_copy_that_completed_before_its_response_was_lost_is_adopted(platform, runner, export, monkeypatch):
    """A read timeout is long: the copy may complete a minute before the request times out."""
    late = []
    monkeypatch.setattr(PlatformClock, "now", lambda self: time.time() + (60 if late else 0))
    platform.on("accepted", late.append)
    lose(platform, FINISHED)
    assert runner.run(export(**COPY_OVER))["adopted"]
    assert len(platform.exports) == 1
