"""What is reported of an export derives from one value."""

from __future__ import annotations

import pytest

from airflow_sb_provider.api.models import ExportJob, Volume, VolumeObject
from airflow_sb_provider.exceptions import SevenBridgesInDoubt
from airflow_sb_provider.exports.outcome import ExportOutcome, Report
from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.jobs.record import SubmissionRecord, SubmissionStatus
from airflow_sb_provider.jobs.tracked import IN_DOUBT, REFUSED, SKIPPED

FILE = "567890abc9b0307bc0414164"
VOLUME = Volume("me/out", service="s3", bucket="bucket", prefix="p")
REQUEST = ExportRequest(FILE, "me/out", "a/b.txt", copy_only=True)


def job(state="COMPLETED", **fields):
    return ExportJob.from_json(
        {
            "id": "j1",
            "state": state,
            "source": {"file": FILE},
            "destination": {"volume": "me/out", "location": "a/b.txt"},
            "overwrite": False,
            "started_on": "2026-01-01T00:00:00Z",
            **fields,
        }
    )


def entry(**fields):
    made = TrackedExport(REQUEST)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def record(outcome, job_id=None):
    return SubmissionRecord(REQUEST.fingerprint, "credential", sent_at=1.0, max_tries=1, outcome=outcome, job_id=job_id)


def test_a_job_and_its_tracked_export_report_the_same_outcome():
    done = job(result={"id": FILE, "name": "b.txt", "size": 7, "project": "me/p"}, finished_on="2026-01-01T00:01:00Z")
    followed = entry()
    followed.follow(done)
    of_job, of_entry = ExportOutcome.of_job(done, VOLUME), ExportOutcome.of_entry(followed, VOLUME)
    assert of_job.to_result() | {"copy_only": True} == of_entry.to_result()
    assert of_job.to_extra() | {"copy_only": True} == of_entry.to_extra()
    assert of_job.to_event() == of_entry.to_event()
    assert of_job.exported
    assert of_entry.to_result() == {
        "export_id": "j1",
        "state": "COMPLETED",
        "file": FILE,
        "volume": "me/out",
        "location": "a/b.txt",
        "uri": "s3://bucket/p/a/b.txt",
        "size": 7,
        "etag": None,
        "copy_only": True,
        "overwrite": False,
        "started_on": "2026-01-01T00:00:00+00:00",
        "finished_on": "2026-01-01T00:01:00+00:00",
        "adopted": False,
        "result": {"id": FILE, "name": "b.txt", "size": 7, "project": "me/p"},
    }


def test_an_adopted_move_without_a_job_has_its_object():
    outcome = ExportOutcome.of_entry(
        entry(state="COMPLETED", adopted=True, proof=VolumeObject(size=7, etag="e")), VOLUME
    )
    result = outcome.to_result()
    assert (result["export_id"], result["state"], result["size"], result["etag"]) == (None, "COMPLETED", 7, "e")
    assert outcome.to_status()["size"] == outcome.to_status()["file"]["size"] == 7


@pytest.mark.parametrize(
    ("fields", "state", "words"),
    [
        ({}, "WAITING", ""),
        ({"record": record(SubmissionStatus.REFUSED)}, "WAITING", ""),
        ({"record": record(SubmissionStatus.SENT)}, IN_DOUBT, "no response came"),
        ({"record": record(SubmissionStatus.SENT), "is_wanted": False}, IN_DOUBT, "no response came"),
        ({"record": record(SubmissionStatus.SENT), "state": "PENDING", "job_id": "j1"}, "PENDING", ""),
        ({"state": "ARCHIVING", "job_id": "j1"}, "ARCHIVING", ""),
        ({"state": SKIPPED, "message": "It is an alias."}, SKIPPED, ""),
        ({"state": REFUSED, "message": "You may not."}, REFUSED, "You may not."),
    ],
)
def test_an_export_without_a_response_is_in_doubt_and_an_unsent_one_waits(fields, state, words):
    outcome = ExportOutcome.of_entry(entry(**fields))
    assert outcome.state == state
    assert words in outcome.error
    assert bool(words) == bool(outcome.error)
    assert not outcome.exported
    assert outcome.to_status()["size"] is None


def test_the_job_of_an_earlier_try_is_reported_until_another_one_completes_the_export():
    accepted = record(SubmissionStatus.ACCEPTED, job_id="j1")
    assert ExportOutcome.of_entry(entry(record=accepted)).export_id == "j1"
    assert ExportOutcome.of_entry(entry(record=accepted, state="PENDING", job_id="j2")).export_id == "j2"
    assert ExportOutcome.of_entry(entry(record=accepted, state="COMPLETED", adopted=True)).export_id is None


def test_a_completed_job_whose_object_is_in_doubt_is_not_exported():
    doubtful = entry()
    doubtful.follow(job())
    doubtful.fail(SevenBridgesInDoubt("No object is there."), IN_DOUBT)
    outcome = ExportOutcome.of_entry(doubtful)
    assert (outcome.exported, outcome.state, outcome.error) == (False, IN_DOUBT, "No object is there.")


@pytest.mark.parametrize("state", ["FAILED", "ABORTED"])
def test_a_job_that_failed_without_a_reason_counts_as_failed(state):
    failed = ExportOutcome.of_job(job(state, finished_on="2026-01-01T00:01:00Z"))
    done = ExportOutcome.of_job(job(result={"id": FILE, "size": 5}))
    report = Report([failed, done], many=True)
    assert report.exported == [done]
    extra = report.to_extra()
    assert (extra["failed"], extra["exported"], extra["bytes"]) == (1, 1, 5)
    assert "no reason" in failed.error


@pytest.mark.parametrize("result", [None, {}, {"name": "no id"}])
def test_a_job_that_reports_no_file_has_none(result):
    assert job(result=result).exported_file is None
    assert ExportOutcome.of_job(job(result=result)).size is None


def test_a_report_of_one_export_that_is_not_completed_adds_nothing():
    assert Report([ExportOutcome.of_entry(entry())]).to_extra() == {}
