"""The table of docs/exporting-once.md, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_sb_provider.api.models import ExportJob, File, Volume, VolumeObject
from airflow_sb_provider.exceptions import (
    SevenBridgesConflictError,
    SevenBridgesExportFailed,
    SevenBridgesExportRefused,
    SevenBridgesForbiddenError,
    SevenBridgesInDoubt,
    SevenBridgesNotFoundError,
)
from airflow_sb_provider.exports.decision import Adopt, AlreadyDone, CheckAgain, Fail, RemoteState, Submit, decide
from airflow_sb_provider.exports.origin import ObjectOrigin
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.jobs.record import SubmissionState

ID = "5" * 24
MOVE = ExportRequest(ID, "o/v", "key")
MOVE_OVERWRITE = replace(MOVE, overwrite=True)
COPY = replace(MOVE, copy_only=True)
COPY_OVERWRITE = replace(MOVE, overwrite=True, copy_only=True)
ALL = [MOVE, MOVE_OVERWRITE, COPY, COPY_OVERWRITE]
MOVES = [MOVE, MOVE_OVERWRITE]

PLATFORM_FILE = File(ID, "f.vcf", 10, storage="PLATFORM")
ALIAS_HERE = File(ID, "f.vcf", 10, storage="VOLUME", volume="o/v", location="key")
ALIAS_ELSEWHERE = replace(ALIAS_HERE, location="other")
OBJECT = VolumeObject("key", "o/v", 10, "e1")
VOLUMES = {
    "o/v": Volume("o/v", service="s3", bucket="b"),
    "o/prefixed": Volume("o/prefixed", service="s3", bucket="b", prefix="p"),
    "o/folder": Volume("o/folder", service="s3", bucket="b", prefix="p/"),
}
TAKEN = SevenBridgesConflictError(409, 9107, "taken")
NOT_EXPORTABLE = SevenBridgesForbiddenError(403, 9006, "cannot be exported")
HIDDEN = SevenBridgesForbiddenError(403, 9005, "hidden")
RETRY = SubmissionState(is_new_request=False, why="A retry.")
IN_DOUBT = SubmissionState(is_new_request=False, in_doubt=True, why="A response was lost.")


def job(state, request=MOVE, export_id="job", **more):
    return ExportJob(export_id, state, request.file, request.volume, request.location, **more)


def facts(**more):
    return RemoteState(**{"now": 0.0, "submission": RETRY, "file": PLATFORM_FILE, "volumes": VOLUMES, **more})


def one(request, **more):
    [decision] = decide([request], [facts(**more)])
    return decision


def error_of(decision, kind):
    assert isinstance(decision, Fail), decision
    assert isinstance(decision.error, kind), decision
    return str(decision.error)


@pytest.mark.parametrize("request_", ALL, ids=str)
@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_an_export_in_flight_is_adopted(request_, state):
    running = job(state)
    decision = one(request_, jobs=(running,), submission=IN_DOUBT)
    assert isinstance(decision, Adopt)
    assert decision.job is running
    assert "job" in decision.why


@pytest.mark.parametrize("copy_only", [False, True])
def test_an_export_in_flight_to_another_volume_of_the_bucket_is_adopted_only_if_the_object_is_certainly_the_same(
    copy_only,
):
    request = ExportRequest(ID, "o/v", "p/key", overwrite=True, copy_only=copy_only)
    running = ExportJob("job", "RUNNING", ID, "o/folder", "key")
    assert isinstance(one(request, jobs=(running,)), Adopt)
    joined_with_a_slash_or_not = ExportJob("job", "RUNNING", ID, "o/prefixed", "key")
    assert "job" in error_of(one(request, jobs=(joined_with_a_slash_or_not,)), SevenBridgesInDoubt)


@pytest.mark.parametrize("request_", MOVES, ids=str)
def test_a_completed_move_is_adopted(request_):
    for submission in (RETRY, IN_DOUBT, replace(RETRY, refusal=NOT_EXPORTABLE), replace(RETRY, is_new_request=True)):
        decision = one(request_, file=ALIAS_HERE, alias_objects={"key": OBJECT}, submission=submission)
        assert isinstance(decision, AlreadyDone)
        assert decision.proof is OBJECT


@pytest.mark.parametrize("request_", MOVES, ids=str)
@pytest.mark.parametrize(
    ("file", "found", "words"),
    [
        (ALIAS_HERE, replace(OBJECT, size=11), "sizes differ"),
        (ALIAS_HERE, replace(OBJECT, size=None), "sizes differ"),
        (ALIAS_HERE, None, "no object is there"),
    ],
)
def test_an_alias_whose_object_does_not_match_is_in_doubt(request_, file, found, words):
    assert words in error_of(one(request_, file=file, alias_objects={"key": found}), SevenBridgesInDoubt)


def test_an_alias_with_one_meaning_proves_the_move_although_its_object_is_hidden():
    assert isinstance(one(MOVE, file=ALIAS_HERE, alias_objects={"key": HIDDEN}), AlreadyDone)


OTHER_SIZE = replace(OBJECT, size=11)
IN_THE_WAY = replace(OBJECT, size=3)


@pytest.mark.parametrize(
    ("location", "objects", "outcome"),
    [
        # The alias "key" can only mean p/key: no other key of this volume has that alias.
        ("key", {"key": OBJECT}, AlreadyDone),
        ("key", {"key": None}, SevenBridgesInDoubt),
        ("key", {"key": OTHER_SIZE}, SevenBridgesInDoubt),
        # The alias of "p/key" is p/key with its prefix shown, or p/p/key without.
        ("p/key", {"key": OBJECT, "p/key": None, "/key": None}, AlreadyDone),
        ("p/key", {"key": OBJECT, "p/key": OTHER_SIZE, "/key": None}, AlreadyDone),
        ("p/key", {"key": None, "p/key": OBJECT, "/key": None}, SevenBridgesExportRefused),
        ("p/key", {"key": OTHER_SIZE, "p/key": OBJECT, "/key": None}, SevenBridgesExportRefused),
        ("p/key", {"key": OBJECT, "p/key": OBJECT, "/key": None}, SevenBridgesInDoubt),
        ("p/key", {"key": OBJECT, "p/key": None, "/key": OBJECT}, SevenBridgesInDoubt),
        ("p/key", {"key": OBJECT, "p/key": HIDDEN, "/key": None}, SevenBridgesInDoubt),
        ("p/key", {"key": HIDDEN, "p/key": None, "/key": None}, SevenBridgesInDoubt),
        ("p/key", {"key": None, "p/key": None, "/key": None}, SevenBridgesInDoubt),
        ("p/key", {"key": replace(OBJECT, size=None), "p/key": OBJECT, "/key": None}, SevenBridgesInDoubt),
        # Without a slash between prefix and location, "pkey" is the same object.
        ("pkey", {"key": OBJECT, "pkey": None}, AlreadyDone),
        ("pkey", {"key": OBJECT, "pkey": OBJECT}, SevenBridgesInDoubt),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_objects_decide_which_meaning_of_an_alias_is_right(location, objects, outcome, overwrite):
    """A member can move a file so that its alias fits one meaning while the other one is somebody else's object."""
    request = replace(MOVE, volume="o/prefixed", overwrite=overwrite)
    alias = replace(ALIAS_HERE, volume="o/prefixed", location=location)
    decision = one(request, file=alias, alias_objects=objects, object=objects["key"])
    if outcome is AlreadyDone:
        assert decision.proof is objects["key"]
    else:
        error_of(decision, outcome)


def test_an_alias_whose_volume_is_hidden_is_in_doubt():
    hidden = {"volumes": {}, "alias_objects": {"key": OBJECT}}
    assert "may mean" in error_of(one(MOVE, file=ALIAS_HERE, **hidden), SevenBridgesInDoubt)


@pytest.mark.parametrize("request_", MOVES, ids=str)
@pytest.mark.parametrize("submission", [RETRY, IN_DOUBT, replace(RETRY, is_new_request=True)])
def test_a_move_of_an_alias_of_another_object_is_rejected(request_, submission):
    text = error_of(one(request_, file=ALIAS_ELSEWHERE, submission=submission), SevenBridgesExportRefused)
    assert "already an alias of o/v/other" in text


@pytest.mark.parametrize("request_", [MOVE, COPY, COPY_OVERWRITE], ids=str)
@pytest.mark.parametrize("now", [10.0, 1e9])
def test_a_request_in_doubt_is_resubmitted_only_after_three_checks(request_, now):
    """The first check sets the deadline, so only the Platform's clock counts."""
    first = one(request_, submission=IN_DOUBT, now=now)
    assert first == CheckAgain(first.why, now + 120.0, doubt_stage=1)
    accepted_or_not = replace(IN_DOUBT, doubt_stage=1, doubt_until=now + 120.0)
    assert one(request_, submission=accepted_or_not, now=now + 119.0) == replace(first, doubt_stage=None)
    second = one(request_, submission=accepted_or_not, now=now + 121.0)
    assert second == CheckAgain(first.why, now + 151.0, doubt_stage=2)
    shown_or_not = replace(IN_DOUBT, doubt_stage=2, doubt_until=now + 151.0)
    assert isinstance(one(request_, submission=shown_or_not, now=now + 150.0), CheckAgain)
    assert isinstance(one(request_, submission=shown_or_not, now=now + 151.0), Submit)


def test_checks_in_doubt_end_although_the_clock_does_not_advance():
    stuck = replace(IN_DOUBT, doubt_stage=1, doubt_until=120.0, rechecks=13)
    assert "does not advance" in error_of(one(MOVE, submission=stuck, now=0.0), SevenBridgesInDoubt)


def test_a_move_with_overwrite_in_doubt_is_never_resubmitted():
    assert isinstance(one(MOVE_OVERWRITE, submission=IN_DOUBT), CheckAgain)
    checked = replace(IN_DOUBT, doubt_stage=2)
    text = error_of(one(MOVE_OVERWRITE, submission=checked, now=1e9), SevenBridgesInDoubt)
    assert "only copy" in text
    assert "new run" in text


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
def test_an_object_that_appeared_after_the_first_submission_is_not_overwritten(request_):
    """The first check found no object, so the export was submitted without overwrite and its response was lost."""
    again = replace(RETRY, replaces="")
    assert "appeared there since" in error_of(one(request_, submission=again, object=OBJECT), SevenBridgesExportRefused)
    assert one(request_, submission=again).request.overwrite is False


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
def test_a_resubmission_overwrites_only_the_object_of_the_first_submission(request_):
    again = replace(RETRY, replaces=str(OTHER_SIZE))
    assert one(request_, submission=again, object=OTHER_SIZE).request.overwrite
    assert one(request_, submission=again).request.overwrite is False
    since = replace(OTHER_SIZE, etag="e2")
    text = error_of(one(request_, submission=again, object=since), SevenBridgesExportRefused)
    assert str(OTHER_SIZE) in text
    assert "e2" in text
    assert "clear the task" in text
    cleared = replace(again, is_new_request=True, replaces=None)
    assert one(request_, submission=cleared, object=since).replaces == str(since)


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
def test_an_object_that_cannot_be_read_is_not_overwritten(request_):
    text = error_of(
        one(request_, object=HIDDEN, submission=SubmissionState(can_submit_unchecked=True)), SevenBridgesInDoubt
    )
    assert "read access" in text
    assert "only copy" in text


@pytest.mark.parametrize("is_new_request", [False, True])
def test_a_copy_of_an_alias_over_its_own_object_is_not_submitted(is_new_request):
    submission = SubmissionState(can_submit_unchecked=is_new_request, is_new_request=is_new_request)
    decision = one(COPY_OVERWRITE, file=ALIAS_HERE, object=OBJECT, alias_objects={"key": OBJECT}, submission=submission)
    assert "alias" in error_of(decision, SevenBridgesExportRefused)


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
@pytest.mark.parametrize(
    ("replaces", "words"),
    [(str(IN_THE_WAY), "object lock"), ("", "has appeared there since"), (str(OTHER_SIZE), "is there now")],
    ids=["overwrite", "no overwrite", "overwrite of another"],
)
@pytest.mark.parametrize("in_job", [False, True])
def test_an_export_with_overwrite_rejected_because_of_an_object_fails(request_, replaces, words, in_job):
    failed = job("FAILED", request_, error=TAKEN) if in_job else None
    submission = SubmissionState(refusal=TAKEN, job=failed, replaces=replaces)
    decision = one(request_, object=IN_THE_WAY, submission=submission)
    text = error_of(decision, SevenBridgesExportFailed if in_job else SevenBridgesExportRefused)
    assert words in text
    assert "3 bytes" in text


def test_a_move_with_overwrite_logs_the_object_that_it_replaces():
    decision = one(
        MOVE_OVERWRITE, object=OBJECT, submission=SubmissionState(can_submit_unchecked=True, seen=str(OBJECT))
    )
    assert isinstance(decision, Submit)
    assert decision.request is MOVE_OVERWRITE
    assert decision.replaces == str(OBJECT)
    assert str(OBJECT) in decision.why


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
@pytest.mark.parametrize("size", [10, None])
def test_an_object_that_may_be_the_files_own_is_checked_once_more_before_it_is_deleted(request_, size):
    """The Platform may report late that the file was moved there."""
    found = replace(OBJECT, size=size)
    first = one(request_, object=found, submission=SubmissionState(can_submit_unchecked=True))
    assert first == CheckAgain(first.why, 30.0, seen=str(found))
    again = SubmissionState(can_submit_unchecked=True, rechecks=1, seen=str(found))
    assert isinstance(one(request_, object=found, submission=again), Submit)
    assert isinstance(one(request_, object=OTHER_SIZE, submission=SubmissionState(can_submit_unchecked=True)), Submit)


@pytest.mark.parametrize("request_", [MOVE_OVERWRITE, COPY_OVERWRITE], ids=str)
def test_only_the_object_of_an_earlier_check_is_deleted(request_):
    """A check without an object, or of another object, does not count."""
    other = replace(OBJECT, etag="e2")
    for earlier in (SubmissionState(rechecks=1), SubmissionState(rechecks=1, seen=str(other))):
        assert one(request_, object=OBJECT, submission=earlier).seen == str(OBJECT)
    changing = SubmissionState(rechecks=13, seen=str(other))
    text = error_of(one(request_, object=OBJECT, submission=changing), SevenBridgesInDoubt)
    assert "at each check" in text


def test_without_an_object_to_overwrite_the_export_is_submitted_without_overwrite():
    decision = one(MOVE_OVERWRITE)
    assert (decision.request, decision.replaces) == (MOVE, "")


@pytest.mark.parametrize(
    "rival",
    [
        ExportJob("other", "RUNNING", "6" * 24, "o/v", "key"),
        ExportJob("other", "PENDING", ID, "o/v", "elsewhere"),
    ],
)
def test_overwriting_the_object_of_another_export_in_flight_is_in_doubt(rival):
    text = error_of(
        one(MOVE_OVERWRITE, jobs=(rival,), submission=SubmissionState(can_submit_unchecked=True)), SevenBridgesInDoubt
    )
    assert "other" in text


def test_a_move_is_not_submitted_while_the_file_is_exported_elsewhere():
    elsewhere = ExportJob("other", "PENDING", ID, "o/v", "elsewhere")
    error_of(one(MOVE, jobs=(elsewhere,)), SevenBridgesInDoubt)
    assert isinstance(one(COPY, jobs=(elsewhere,)), Submit)
    of_another_file = ExportJob("other", "RUNNING", "6" * 24, "o/v", "key")
    assert isinstance(one(MOVE, jobs=(of_another_file,)), Submit)


@pytest.mark.parametrize(
    "unclear", [{"file": HIDDEN}, {"jobs_complete": False}, {"submission": replace(RETRY, other_credential=True)}]
)
def test_a_move_with_overwrite_is_not_submitted_if_the_state_is_unclear(unclear):
    error_of(one(MOVE_OVERWRITE, **unclear), SevenBridgesInDoubt)


@pytest.mark.parametrize("unclear", [{"file": HIDDEN}, {"jobs_complete": False}])
def test_a_move_in_doubt_is_not_resubmitted_if_the_state_is_unclear(unclear):
    error_of(one(MOVE, submission=replace(IN_DOUBT, doubt_stage=2), now=1e9, **unclear), SevenBridgesInDoubt)


@pytest.mark.parametrize("request_", ALL, ids=str)
def test_a_stored_job_that_cannot_be_fetched_is_in_doubt(request_):
    gone = SevenBridgesNotFoundError(404, 9008, "gone")
    text = error_of(one(request_, recorded=gone, submission=replace(RETRY, job_id="job")), SevenBridgesInDoubt)
    assert "job" in text


@pytest.mark.parametrize("request_", ALL, ids=str)
def test_a_stored_job_that_completed_is_adopted_by_a_retry(request_):
    done = job("COMPLETED")
    assert one(request_, recorded=done, evidence=done).job is done


def test_a_stored_job_that_completed_is_adopted_after_a_clear_except_by_a_copy_with_overwrite():
    done, cleared = job("COMPLETED"), replace(RETRY, is_new_request=True)
    for request in MOVES:
        assert isinstance(one(request, recorded=done, submission=cleared), Adopt)
    assert isinstance(one(COPY, recorded=done, submission=cleared, evidence=done, object=OBJECT), AlreadyDone)
    again = one(
        COPY_OVERWRITE, recorded=done, submission=replace(cleared, seen=str(OBJECT)), evidence=done, object=OBJECT
    )
    assert isinstance(again, Submit)


@pytest.mark.parametrize("request_", MOVES, ids=str)
def test_a_move_waits_for_this_tasks_job_with_other_parameters(request_):
    """The lists may miss it."""
    elsewhere = replace(request_, location="elsewhere")
    attempt = replace(RETRY, other_job_id="job")
    text = error_of(one(request_, other=job("RUNNING", elsewhere), submission=attempt), SevenBridgesInDoubt)
    assert "o/v/elsewhere is RUNNING" in text
    text = error_of(one(request_, other=HIDDEN, submission=attempt), SevenBridgesInDoubt)
    assert "job" in text
    ended = job("COMPLETED", elsewhere)
    assert isinstance(one(request_, other=ended, submission=attempt), CheckAgain)
    assert isinstance(one(request_, other=ended, submission=replace(attempt, rechecks=1)), Submit)
    failed = job("FAILED", elsewhere, error=TAKEN)
    assert isinstance(one(request_, other=failed, submission=attempt), Submit)


def test_a_copy_does_not_wait_for_a_job_with_other_parameters():
    elsewhere = job("RUNNING", replace(COPY, location="elsewhere"))
    assert isinstance(one(COPY, other=elsewhere, submission=replace(RETRY, other_job_id="job")), Submit)


@pytest.mark.parametrize("request_", [COPY, COPY_OVERWRITE], ids=str)
@pytest.mark.parametrize("complete", [False, True])
def test_a_stored_copy_that_a_later_export_replaced_is_in_doubt_for_a_retry(request_, complete):
    """A partial history counts: the stored job is always part of it."""
    decision = one(request_, recorded=job("COMPLETED"), evidence=None, history_complete=complete)
    text = error_of(decision, SevenBridgesInDoubt)
    assert "another export to the same place" in text


@pytest.mark.parametrize("found", [None, replace(OBJECT, size=3)])
def test_a_stored_copy_that_no_longer_exists_is_resubmitted_after_a_clear(found):
    done, cleared = job("COMPLETED"), replace(RETRY, is_new_request=True)
    assert isinstance(one(COPY, recorded=done, submission=cleared, evidence=done, object=found), Submit)


def test_a_completed_copy_of_a_deleted_file_is_adopted():
    done = job("COMPLETED", COPY, result={"id": ID, "name": "f.vcf", "size": 10})
    gone = SevenBridgesNotFoundError(404, 5002, "gone")
    refused = replace(RETRY, refusal=TAKEN)
    assert isinstance(one(COPY, submission=refused, file=gone, evidence=done, object=OBJECT), AlreadyDone)


def test_a_stored_job_in_a_state_that_is_not_documented_is_adopted_until_it_has_finished():
    queued = job("QUEUED")
    for request in ALL:
        decision = one(request, recorded=queued)
        assert isinstance(decision, Adopt)
        assert decision.job is queued
    aborted = job("ABORTED", error=SevenBridgesForbiddenError(0, message="Stopped."))
    assert isinstance(one(MOVE, recorded=aborted), Submit)


def test_a_stored_job_in_flight_is_adopted_even_if_it_is_not_listed():
    running = job("RUNNING")
    assert one(MOVE, recorded=running, submission=replace(RETRY, job_id="job")).job is running


@pytest.mark.parametrize("request_", ALL, ids=str)
@pytest.mark.parametrize(
    ("state", "error", "why"),
    [
        ("FAILED", SevenBridgesForbiddenError(0, 9100, "No access."), "Export job failed (9100: No access.)"),
        ("FAILED", SevenBridgesForbiddenError(0, message="No access."), "Export job failed (No access.)"),
        ("FAILED", None, "Export job failed (no reason given)"),
        ("ABORTED", SevenBridgesForbiddenError(0, 9100, "Stopped."), "Export job ended as ABORTED (9100: Stopped.)"),
    ],
)
def test_a_stored_job_that_failed_is_resubmitted_and_named(request_, state, error, why):
    decision = one(request_, recorded=job(state, error=error))
    assert isinstance(decision, Submit)
    assert decision.why.startswith(f"{why}; submitting again.")


def test_a_copy_that_is_wanted_again_does_not_say_that_the_platform_shows_nothing():
    cleared = SubmissionState(is_new_request=True, job_id="job", why="An earlier try started export job.")
    decision = one(COPY_OVERWRITE, recorded=job("COMPLETED", COPY_OVERWRITE), submission=cleared)
    assert isinstance(decision, Submit)
    assert decision.why.startswith("Export job completed before the task was cleared; submitting again.")


def test_a_copy_rejected_with_9107_is_adopted_only_with_a_completed_job_as_evidence():
    refused = replace(RETRY, refusal=TAKEN)
    evidence = job("COMPLETED", COPY)
    assert isinstance(one(COPY, submission=refused, object=OBJECT, evidence=evidence), AlreadyDone)
    text = error_of(one(COPY, submission=refused, object=OBJECT), SevenBridgesExportRefused)
    assert "same size" in text
    text = error_of(one(COPY, submission=refused, object=replace(OBJECT, size=3)), SevenBridgesExportRefused)
    assert "something else" in text
    error_of(
        one(COPY, submission=refused, object=replace(OBJECT, size=3), evidence=evidence), SevenBridgesExportRefused
    )
    error_of(one(COPY, submission=refused, object=OBJECT, history_complete=False), SevenBridgesInDoubt)


def test_a_copy_with_overwrite_is_adopted_by_a_retry_and_resubmitted_by_a_new_run():
    evidence = job("COMPLETED", COPY_OVERWRITE)
    assert isinstance(one(COPY_OVERWRITE, object=OBJECT, evidence=evidence), AlreadyDone)
    new_run = SubmissionState(is_new_request=True, seen=str(OBJECT))
    assert isinstance(one(COPY_OVERWRITE, object=OBJECT, evidence=evidence, submission=new_run), Submit)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"refusal": TAKEN, "object": replace(OBJECT, size=3)}, ["9107", "something else", "3 bytes"]),
        ({"refusal": NOT_EXPORTABLE}, ["9006", "public file"]),
        ({"refusal": NOT_EXPORTABLE, "file": replace(PLATFORM_FILE, type="folder")}, ["folder"]),
        ({"refusal": NOT_EXPORTABLE, "file": ALIAS_ELSEWHERE}, ["already an alias of o/v/other"]),
        ({"refusal": NOT_EXPORTABLE, "file": HIDDEN}, ["cannot be read"]),
    ],
)
def test_a_rejection_names_its_cause(more, words):
    refusal = more.pop("refusal")
    text = error_of(one(MOVE, submission=replace(RETRY, refusal=refusal), **more), SevenBridgesExportRefused)
    for word in words:
        assert word in text


def test_a_failed_job_is_reported_with_the_platforms_error_and_the_cause():
    failed = job("FAILED", error=TAKEN)
    submission = SubmissionState(refusal=TAKEN, job=failed)
    text = error_of(one(MOVE, submission=submission, object=replace(OBJECT, size=3)), SevenBridgesExportFailed)
    assert "9107" in text
    assert "something else" in text


def test_a_failed_move_whose_concurrent_twin_completed_is_adopted():
    failed = job("FAILED", error=NOT_EXPORTABLE)
    submission = SubmissionState(refusal=NOT_EXPORTABLE, job=failed)
    decision = one(MOVE, submission=submission, file=ALIAS_HERE, alias_objects={"key": OBJECT})
    assert isinstance(decision, AlreadyDone)


@pytest.mark.parametrize(
    ("request_", "more"),
    [
        (MOVE, {"submission": replace(RETRY, refusal=TAKEN), "object": OBJECT}),
        (MOVE, {"submission": replace(RETRY, refusal=NOT_EXPORTABLE)}),
        (MOVE, {"submission": SubmissionState(refusal=TAKEN, job=job("FAILED", error=TAKEN)), "object": OBJECT}),
        (MOVE, {"submission": SubmissionState(job=job("COMPLETED"))}),
        (MOVE, {"file": ALIAS_HERE, "alias_objects": {"key": None}}),
        (COPY, {"submission": replace(RETRY, refusal=TAKEN), "object": OBJECT}),
        (MOVE, {"recorded": SevenBridgesNotFoundError(404, 9008, "gone")}),
    ],
    ids=str,
)
def test_a_failure_based_on_state_that_may_be_late_is_checked_again(request_, more):
    decision = one(request_, **more)
    assert isinstance(decision, Fail)
    assert decision.rechecks >= 1


@pytest.mark.parametrize("request_", MOVES, ids=str)
def test_a_file_that_is_an_alias_of_another_object_is_rejected_without_another_check(request_):
    refused = replace(RETRY, refusal=NOT_EXPORTABLE)
    assert one(request_, submission=refused, file=ALIAS_ELSEWHERE, object=OBJECT).rechecks == 0


def test_any_other_rejection_is_final_after_a_check_found_no_job():
    refusal = SevenBridgesForbiddenError(403, 9020, "no")
    refused = replace(RETRY, refusal=refusal)
    assert one(MOVE, submission=refused) == Fail(refusal)
    assert isinstance(one(MOVE, submission=refused, jobs=(job("RUNNING"),)), Adopt)


def test_the_failure_of_an_adopted_job_is_not_final_while_this_tasks_request_is_in_doubt():
    submission = SubmissionState(refusal=TAKEN, job=job("FAILED", error=TAKEN), in_doubt=True)
    assert isinstance(one(MOVE, submission=submission, object=OBJECT), CheckAgain)


def test_each_of_several_requests_is_decided_by_its_own_state():
    running = job("RUNNING")
    decisions = decide([MOVE, MOVE, COPY], [facts(jobs=(running,)), facts(submission=IN_DOUBT), facts()])
    assert [type(decision) for decision in decisions] == [Adopt, CheckAgain, Submit]


# Objects that other files are aliases of


THEIRS = File("6" * 24, "theirs.vcf", 10, "o/project", storage="VOLUME", volume="o/v", location="key")
MOVED = ObjectOrigin(export=job("COMPLETED", replace(MOVE, file=THEIRS.id)), file=THEIRS, aliases=(THEIRS,))
OVERWRITING = [MOVE_OVERWRITE, COPY_OVERWRITE]
LARGE = replace(OBJECT, size=99)


@pytest.mark.parametrize("request_", OVERWRITING, ids=str)
def test_an_object_that_another_file_is_an_alias_of_is_not_overwritten(request_):
    text = error_of(one(request_, object=LARGE, origin=MOVED), SevenBridgesExportRefused)
    assert f"bytes of file {THEIRS.id} (theirs.vcf, project o/project), an alias of" in text
    assert "The newest export to it is export job of file" in text
    assert "Choose another location." in text


@pytest.mark.parametrize("request_", OVERWRITING, ids=str)
def test_it_is_overwritten_if_the_user_allows_it(request_):
    decision = one(request_, object=LARGE, origin=MOVED, overwrite_aliased=True)
    assert isinstance(decision, Submit)
    assert decision.replaces == str(LARGE)
    assert f"bytes of file {THEIRS.id} (theirs.vcf, project o/project), an alias of it, will be lost" in decision.why


@pytest.mark.parametrize("request_", OVERWRITING, ids=str)
@pytest.mark.parametrize("origin", [None, ObjectOrigin(), ObjectOrigin(unknown=("a list",))])
def test_the_warning_says_what_was_not_checked(request_, origin):
    decision = one(request_, object=LARGE, origin=origin)
    assert isinstance(decision, Submit)
    assert "Not checked: " in decision.why
    assert ("a list" in decision.why) == bool(origin and origin.unknown)


@pytest.mark.parametrize("request_", [MOVE, COPY], ids=str)
@pytest.mark.parametrize(
    ("origin", "advised"),
    [(ObjectOrigin(), True), (MOVED, False), (ObjectOrigin(unknown=("a list",)), False), (None, False)],
    ids=["known", "an alias", "a gap", "not searched"],
)
def test_overwriting_is_advised_only_where_nothing_visible_is_lost(request_, origin, advised):
    text = error_of(
        one(request_, object=LARGE, origin=origin, submission=replace(RETRY, refusal=TAKEN, rechecks=1)),
        SevenBridgesExportRefused,
    )
    assert ("set overwrite" in text) == advised
    assert "Choose another location" in text


def test_the_object_is_named_where_another_file_is_an_alias_of_what_came_meanwhile():
    submission = replace(RETRY, refusal=TAKEN, rechecks=1, replaces="9 bytes, etag e0")
    text = error_of(one(MOVE_OVERWRITE, object=LARGE, origin=MOVED, submission=submission), SevenBridgesExportRefused)
    assert f"It holds the bytes of file {THEIRS.id}" in text
    assert "clear the task to replace it" not in text
