from __future__ import annotations

from dataclasses import replace

from airflow_sb_provider.exceptions import SevenBridgesApiError, SevenBridgesInDoubt
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.jobs.decision import CheckAgain, Fail
from airflow_sb_provider.jobs.record import SubmissionState
from airflow_sb_provider.jobs.tracked import MAX_RECHECKS

OBJECT = Fail(SevenBridgesInDoubt("The object is not there."), rechecks=2)
LISTS = Fail(SevenBridgesInDoubt("The lists changed."), rechecks=3)


def entry(**submission):
    tracked = TrackedExport(ExportRequest("f" * 24, "o/v", "key"))
    tracked.submission = replace(SubmissionState(in_doubt=True), **submission)
    return tracked


def checks(tracked, *decisions):
    """Apply decisions of successive checks; return for each whether the next check may change it."""
    results = []
    for number, decision in enumerate(decisions):
        believed = tracked.believe(decision, float(number), 30.0)
        results.append(isinstance(believed, CheckAgain))
        if results[-1]:
            tracked.check_again(believed)
    return results


def test_a_failure_counts_after_its_rechecks():
    assert checks(entry(), OBJECT, OBJECT, OBJECT) == [True, True, False]


def test_the_rechecks_of_one_reason_do_not_use_up_those_of_another():
    assert checks(entry(), LISTS, LISTS, LISTS, OBJECT, OBJECT, OBJECT) == [True] * 5 + [False]


def test_reasons_that_alternate_are_no_endless_loop():
    results = checks(entry(), *[OBJECT, LISTS] * MAX_RECHECKS)
    assert results.index(False) == MAX_RECHECKS


def test_the_rechecks_survive_a_deferral():
    tracked = entry()
    checks(tracked, LISTS, OBJECT)
    resumed = TrackedExport.from_json(tracked.to_json())
    assert checks(resumed, OBJECT, OBJECT) == [True, False]


def test_a_rejection_is_unconfirmed_until_a_check():
    tracked = entry(in_doubt=False, refusal=SevenBridgesApiError(400, 9011))
    assert tracked.is_rejection_unconfirmed
    assert tracked.may_go_on
    assert not entry(in_doubt=False).is_rejection_unconfirmed
    assert not entry(in_doubt=False).may_go_on
