from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.jobs.record import Outcome, Record, attempt_of

REQUEST = ExportRequest("0" * 24, "o/v", "key")
RECORD = Record(REQUEST.fingerprint, "me", sent_at=1000.0, max_tries=2)


def attempt(record=None, *, request=REQUEST, try_number=1, max_tries=2, credential="me", **state):
    return attempt_of(
        request,
        record=record,
        **state,
        credential=credential,
        try_number=try_number,
        max_tries=max_tries,
        retries=2,
    )


def test_a_first_try_is_untroubled():
    first = attempt()
    assert first.untroubled
    assert first.fresh
    assert not first.in_doubt


def test_a_first_try_that_finds_a_record_it_cannot_read_is_in_doubt():
    first = attempt(unreadable=True)
    assert not first.untroubled
    assert first.in_doubt


def test_a_retry_whose_earlier_try_submitted_nothing_checks_without_doubt():
    retry = attempt(try_number=2, nothing_sent=True)
    assert not retry.untroubled
    assert not retry.in_doubt
    assert not retry.fresh


@pytest.mark.parametrize("unreadable", [True, False])
def test_a_retry_without_a_record_is_in_doubt(unreadable):
    """The first try may have run without a store, and its request may still be accepted."""
    retry = attempt(try_number=2, unreadable=unreadable)
    assert retry.in_doubt
    assert not retry.fresh


def test_a_clear_without_a_record_is_in_doubt_and_wants_the_export_anew():
    cleared = attempt(try_number=2, max_tries=3)
    assert cleared.in_doubt
    assert cleared.fresh
    retry_after_clear = attempt(try_number=3, max_tries=3)
    assert not retry_after_clear.fresh


def test_a_record_of_a_request_without_an_answer_is_in_doubt_however_old_it_is():
    retry = attempt(RECORD, try_number=2)
    assert not retry.untroubled
    assert retry.in_doubt
    assert retry.job_id is None


def test_a_record_with_an_answer_leaves_no_doubt():
    accepted = attempt(replace(RECORD, outcome=Outcome.ACCEPTED, job_id="job"), try_number=2)
    assert (accepted.job_id, accepted.in_doubt, accepted.fresh) == ("job", False, False)
    refused = attempt(replace(RECORD, outcome=Outcome.REFUSED), try_number=2)
    assert (refused.job_id, refused.in_doubt, refused.untroubled) == (None, False, False)


def test_a_clear_after_a_record_wants_the_export_anew():
    cleared = attempt(replace(RECORD, outcome=Outcome.ACCEPTED, job_id="job"), try_number=2, max_tries=3)
    assert cleared.fresh
    assert cleared.job_id == "job"


def test_a_record_of_another_export_is_not_adopted_and_said():
    other = attempt(replace(RECORD, outcome=Outcome.ACCEPTED, job_id="job"), request=replace(REQUEST, location="x"))
    assert other.job_id is None
    assert not other.untroubled
    assert "not adopted" in other.why


def test_another_credential_is_noticed():
    record = replace(RECORD, outcome=Outcome.ACCEPTED, job_id="job")
    assert attempt(record, credential="someone else").other_credential
    assert not attempt(record).other_credential


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("max_tries", [0, 2])
@pytest.mark.parametrize("replaces", ["", "10 bytes, etag e1"])
def test_a_record_survives_the_store(outcome, max_tries, replaces):
    record = replace(RECORD, outcome=outcome, job_id="job", max_tries=max_tries, replaces=replaces)
    assert Record.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("junk", [None, "text", 3, [], {}, {"fingerprint": "x"}, {**RECORD.to_json(), "outcome": "?"}])
def test_junk_is_no_record(junk):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Record.from_json(junk)
