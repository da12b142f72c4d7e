from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.jobs.record import SubmissionRecord, SubmissionStatus, submission_state

REQUEST = ExportRequest("0" * 24, "o/v", "key")
RECORD = SubmissionRecord(REQUEST.fingerprint, "me", sent_at=1000.0, max_tries=2)


def submission(record=None, *, request=REQUEST, try_number=1, max_tries=2, credential="me", **state):
    return submission_state(
        request,
        record=record,
        **state,
        credential=credential,
        try_number=try_number,
        max_tries=max_tries,
        retries=2,
    )


def test_a_first_try_is_submitted_without_a_check():
    first = submission()
    assert first.can_submit_unchecked
    assert first.is_new_request
    assert not first.in_doubt


def test_a_first_try_with_an_unreadable_record_is_in_doubt():
    first = submission(unreadable=True)
    assert not first.can_submit_unchecked
    assert first.in_doubt


def test_a_retry_whose_earlier_try_submitted_nothing_checks_without_doubt():
    retry = submission(try_number=2, nothing_sent=True)
    assert not retry.can_submit_unchecked
    assert not retry.in_doubt
    assert not retry.is_new_request


@pytest.mark.parametrize("unreadable", [True, False])
def test_a_retry_without_a_record_is_in_doubt(unreadable):
    """The first try may have run without a store, and its request may still be accepted."""
    retry = submission(try_number=2, unreadable=unreadable)
    assert retry.in_doubt
    assert not retry.is_new_request


def test_a_clear_without_a_record_is_in_doubt_and_a_new_request():
    cleared = submission(try_number=2, max_tries=3)
    assert cleared.in_doubt
    assert cleared.is_new_request
    assert "keep the task state" not in cleared.why
    assert "keep the task state" in submission(try_number=2, max_tries=3, has_store=True).why
    assert "keep the task state" not in submission(try_number=2, has_store=True).why
    retry_after_clear = submission(try_number=3, max_tries=3)
    assert not retry_after_clear.is_new_request


def test_a_record_without_a_response_is_in_doubt_at_any_age():
    retry = submission(RECORD, try_number=2)
    assert not retry.can_submit_unchecked
    assert retry.in_doubt
    assert retry.job_id is None


def test_a_record_with_a_response_is_not_in_doubt():
    accepted = submission(replace(RECORD, outcome=SubmissionStatus.ACCEPTED, job_id="job"), try_number=2)
    assert (accepted.job_id, accepted.in_doubt, accepted.is_new_request) == ("job", False, False)
    refused = submission(replace(RECORD, outcome=SubmissionStatus.REFUSED), try_number=2)
    assert (refused.job_id, refused.in_doubt, refused.can_submit_unchecked) == (None, False, False)


def test_a_clear_with_a_record_is_a_new_request():
    cleared = submission(replace(RECORD, outcome=SubmissionStatus.ACCEPTED, job_id="job"), try_number=2, max_tries=3)
    assert cleared.is_new_request
    assert cleared.job_id == "job"


def test_a_record_of_another_export_is_reported_and_not_adopted():
    other = submission(
        replace(RECORD, outcome=SubmissionStatus.ACCEPTED, job_id="job"), request=replace(REQUEST, location="x")
    )
    assert other.job_id is None
    assert not other.can_submit_unchecked
    assert "not adopted" in other.why


def test_another_credential_is_noticed():
    record = replace(RECORD, outcome=SubmissionStatus.ACCEPTED, job_id="job")
    assert submission(record, credential="someone else").other_credential
    assert not submission(record).other_credential


@pytest.mark.parametrize("outcome", list(SubmissionStatus))
@pytest.mark.parametrize("max_tries", [0, 2])
@pytest.mark.parametrize("replaces", ["", "10 bytes, etag e1"])
def test_a_record_is_restored_from_the_store(outcome, max_tries, replaces):
    record = replace(RECORD, outcome=outcome, job_id="job", max_tries=max_tries, replaces=replaces)
    assert SubmissionRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("junk", [None, "text", 3, [], {}, {"fingerprint": "x"}, {**RECORD.to_json(), "outcome": "?"}])
def test_invalid_json_is_not_a_record(junk):
    with pytest.raises((KeyError, TypeError, ValueError)):
        SubmissionRecord.from_json(junk)
