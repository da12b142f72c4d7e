"""Late and wrong responses of the Platform."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from airflow_sb_provider.emulator.seed import BAM, VCF
from tests.unit.emulator.conftest import code, eventually

HOUR = 3600


def listed(caller, **query: Any) -> list[tuple[str, str]]:
    """Return id and state of the jobs in a list."""
    answer = caller.get("/storage/exports", params={"fields": "_all", **query})
    assert answer.status_code == 200, answer.text
    return [(item["id"], item["state"]) for item in answer.json()["items"]]


def stuck(emulator, caller, state: str, **export: Any) -> str:
    """Start a job that stays in a state, and return its id."""
    emulator.trouble("job_stuck", state=state)
    export_id = caller.export(**export).json()["id"]
    eventually(lambda: caller.get(f"/storage/exports/{export_id}").json()["state"] == state)
    return export_id


def test_a_list_shows_a_new_job_late(emulator, caller):
    emulator.knobs.list_lag_seconds = HOUR
    job = caller.ended(caller.export())
    assert job["state"] == "COMPLETED"
    assert listed(caller) == listed(caller, state="PENDING") == listed(caller, state="COMPLETED") == []
    assert caller.get("/storage/exports").headers["X-Total-Matching-Query"] == "0"
    emulator.knobs.list_lag_seconds = 0
    assert listed(caller) == listed(caller, state="COMPLETED") == [(job["id"], "COMPLETED")]


@pytest.mark.parametrize("fails", [False, True])
def test_a_list_shows_a_change_of_state_late(emulator, caller, fails):
    if fails:
        emulator.trouble("job_fails")
    job_id = caller.ended(caller.export())["id"]
    job = emulator.platform.exports[job_id]
    minute = timedelta(minutes=1)
    # As if the job had been accepted, started and completed 3, 2 and 1 minutes ago.
    job.started_on -= 3 * minute
    job.past_states = [(left - age * minute, state) for age, (left, state) in zip((2, 1), job.past_states, strict=True)]
    for lag, state in ((150, "PENDING"), (90, "RUNNING"), (30, job.state)):
        emulator.knobs.list_lag_seconds = lag
        assert listed(caller) == listed(caller, state=state) == [(job_id, state)]
        (item,) = caller.get("/storage/exports?fields=_all").json()["items"]
        assert ("finished_on" in item) is ("result" in item or "error" in item) is (lag == 30)
        (resource,) = caller.post("/bulk/storage/exports/get", {"export_ids": [job_id]}).json()["items"]
        assert resource["resource"]["state"] == job.state


def test_a_new_job_is_not_found_by_its_id(emulator, caller):
    emulator.knobs.job_lag_seconds = HOUR
    job_id = caller.export().json()["id"]
    assert code(caller.get(f"/storage/exports/{job_id}")) == (404, 9008)
    (item,) = caller.post("/bulk/storage/exports/get", {"export_ids": [job_id]}).json()["items"]
    assert item["error"]["code"] == 9008
    assert [each for each, _ in listed(caller)] == [job_id]
    emulator.knobs.job_lag_seconds = 0
    assert caller.ended(job_id)["state"] == "COMPLETED"


def test_a_moved_file_becomes_an_alias_late(emulator, caller):
    def shown() -> list[dict[str, Any]]:
        project = emulator.platform.files[VCF].project
        files = caller.get("/files", params={"project": project, "fields": "_all"}).json()["items"]
        (item,) = caller.post("/bulk/files/get", {"file_ids": [VCF]}).json()["items"]
        single = caller.get(f"/files/{VCF}").json()
        return [single, item["resource"], *(file for file in files if file["id"] == VCF)]

    before = shown()
    emulator.knobs.alias_lag_seconds = HOUR
    result = caller.ended(caller.export())["result"]
    assert result["storage"] == {"type": "VOLUME", "volume": "demo/results", "location": "out.vcf"}
    assert shown() == before
    assert code(caller.export(location="again")) == (403, 9006)
    emulator.knobs.alias_lag_seconds = 0
    assert shown() == [result] * 3


def test_an_object_appears_late(emulator, caller):
    def missing() -> bool:
        answer = caller.get("/storage/volumes/demo/results/object?location=out.vcf")
        listing = caller.get("/storage/volumes/demo/results/list").json()["items"]
        assert (answer.status_code == 404) is all(item["location"] != "out.vcf" for item in listing)
        return answer.status_code == 404

    emulator.knobs.object_lag_seconds = HOUR
    assert caller.ended(caller.export())["state"] == "COMPLETED"
    assert missing()
    assert code(caller.export(BAM)) == (409, 9107)
    emulator.put_object("demo/results", "foreign.vcf", b"there at once")
    assert caller.get("/storage/volumes/demo/results/object?location=foreign.vcf").status_code == 200
    emulator.knobs.object_lag_seconds = 0
    assert not missing()


def test_lists_of_a_volume_are_late(emulator, caller):
    def listed():
        return [item["location"] for item in caller.get("/storage/volumes/demo/results/list").json()["items"]]

    emulator.knobs.volume_list_lag_seconds = HOUR
    assert caller.ended(caller.export())["state"] == "COMPLETED"
    assert caller.get("/storage/volumes/demo/results/object?location=out.vcf").status_code == 200
    assert listed() == []
    emulator.knobs.volume_list_lag_seconds = 0
    assert listed() == ["out.vcf"]


def test_stale_states(emulator, caller):
    emulator.knobs.stale_states = True
    waits = stuck(emulator, caller, "PENDING", location="1", copy_only="true")
    runs = stuck(emulator, caller, "RUNNING", location="2", copy_only="true")
    done = caller.ended(caller.export(location="3"))["id"]
    assert sorted(listed(caller, state="PENDING")) == sorted([(waits, "PENDING"), (runs, "RUNNING")])
    assert listed(caller, state="RUNNING") == listed(caller, state="COMPLETED") == [(done, "COMPLETED")]
    assert len(listed(caller)) == 3
    emulator.knobs.stale_states = False
    assert listed(caller, state="RUNNING") == [(runs, "RUNNING")]


def test_the_total_is_wrong(emulator, caller):
    emulator.knobs.update(stuck=True, total_lies=True)
    for number in range(3):
        caller.export(location=str(number), copy_only="true")
    for offset, given in ((0, 2), (2, 1)):
        page = caller.get("/storage/exports", params={"limit": 2, "offset": offset})
        assert page.headers["X-Total-Matching-Query"] == "4"
        assert len(page.json()["items"]) == given
        assert not [link for link in page.json()["links"] if link["rel"] == "next"]
    assert caller.get("/storage/volumes").headers["X-Total-Matching-Query"] == "3"


@pytest.mark.parametrize("skew", [-HOUR, 0, HOUR])
def test_the_platforms_clock_is_off(emulator, caller, skew):
    emulator.knobs.date_skew_seconds = skew
    answer = caller.export()
    job, file = caller.ended(answer), caller.get(f"/files/{VCF}").json()
    times = [datetime.fromisoformat(time) for time in (job["started_on"], job["finished_on"], file["modified_on"])]
    for moment in (parsedate_to_datetime(answer.headers["Date"]), *times):
        assert abs((moment - datetime.now(UTC)).total_seconds() - skew) < 60
    stored = caller.get("/storage/volumes/demo/results/object?location=out.vcf").json()["metadata"]
    # The bucket has its own clock.
    assert abs((datetime.fromisoformat(stored["last_modified"]) - datetime.now(UTC)).total_seconds()) < 60


def test_no_date_header(emulator, caller):
    assert "Date" in caller.get("/user").headers
    emulator.knobs.no_date_header = True
    assert "Date" not in caller.get("/user").headers
    emulator.trouble("cut_json")
    assert "Date" not in caller.export().headers
