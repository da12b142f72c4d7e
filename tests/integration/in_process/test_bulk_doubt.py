"""Bulk exports when the Platform's lists or Airflow's store are unreliable."""

from __future__ import annotations

import json
import time
from collections import Counter

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from tests.integration.in_process.conftest import Store

CREATE = "/v2/bulk/storage/exports/create"


@pytest.fixture
def ids(platform):
    return [platform.add_file(f"{n:03}.vcf", b"x" * 10, "demo/many").id for n in range(250)]


def bulk(ids, **fields):
    wanted = [{"file": each, "volume": "demo/results", "location": f"many/{each}"} for each in ids]
    return SevenBridgesBulkExportOperator(
        **{"task_id": "bulk", "exports": wanted, "retries": 2, "poll_interval": 0.1, "deferrable": True, **fields}
    )


@pytest.mark.parametrize("fault", ["drop", "lose_reply"])
def test_a_lost_bulk_response_waits_until_lists_can_be_read(platform, runner, ids, fault, deferrable, monkeypatch):
    monkeypatch.setattr(ConnectionSettings, "visibility_delay", 0.3)
    platform.knobs.update(list_order="shuffled", pending_seconds=1)
    platform.trouble(fault, path=CREATE)
    result = runner.run(bulk(ids, deferrable=deferrable))
    assert result["counts"] == {"COMPLETED": 250}
    assert Counter(job.file for job in platform.exports) == Counter(ids)


def test_a_retry_does_not_adopt_a_copy_of_another_client_as_the_move(platform, runner, ids):
    """The first try adopts a running job, which may be a move; the retry reads its result."""
    file = ids[0]
    hook = SevenBridgesHook()
    platform.knobs.running_seconds = 1
    copy = hook.start_export(file, "demo/results", f"many/{file}", copy_only=True)
    platform.trouble("drop", path=CREATE)
    platform.trouble("error", path="/v2/bulk/storage/exports/get", status=401, code=90001, times=4)
    with pytest.raises(AirflowException):
        runner.run(bulk([file], deferrable=False))
    while not hook.get_export(copy.id).ended:
        time.sleep(0.1)
    with pytest.raises(AirflowException, match="already holds an object"):
        runner.run(bulk([file], deferrable=False))
    assert not platform.platform.files[file].alias


def test_a_retry_with_other_destinations_waits_for_submissions_in_doubt(platform, runner, ids):
    file = ids[0]
    platform.trouble("late_accept", path=CREATE, seconds=0.3)
    platform.trouble("error", path="/v2/storage/exports", method="GET", status=401, code=90001)
    with pytest.raises(AirflowException):
        runner.run(bulk([file]))
    other = [{"file": file, "volume": "demo/results", "location": "elsewhere"}]
    with pytest.raises(AirflowException, match="demo/results/many"):
        runner.run(bulk([file], exports=other))
    assert [job.location for job in platform.exports] == [f"many/{file}"]


def test_a_retry_that_lists_a_file_again_waits_too(platform, runner, ids):
    file = ids[0]
    platform.trouble("late_accept", path=CREATE, seconds=0.3)
    platform.trouble("error", path="/v2/storage/exports", method="GET", status=401, code=90001)
    with pytest.raises(AirflowException):
        runner.run(bulk([file]))
    platform.trouble("error", path=CREATE, status=401, code=90001)
    with pytest.raises(AirflowException):
        runner.run(bulk([ids[1]]))
    result = runner.run(bulk([file]))
    assert result["counts"] == {"COMPLETED": 1}
    assert Counter(job.file for job in platform.exports) == {file: 1}


def test_a_lost_page_of_the_record_is_detected(platform, runner, ids):
    platform.knobs.pending_seconds = 0.2
    platform.on("accepted", lambda record: runner.store.delete("sevenbridges_batch_1_2"))
    with pytest.raises(AirflowException, match="does not have the complete record"):
        runner.run(bulk(ids, max_active=100))
    result = runner.run(bulk(ids))
    assert result["counts"] == {"COMPLETED": 250}
    assert Counter(job.file for job in platform.exports) == Counter(ids)


def test_long_names_and_messages_stay_below_airflows_limit(platform, runner):
    files = [platform.add_file("ä" * 120 + f"{n}", b"x", "demo/many").id for n in range(60)]
    wanted = [{"file": each, "volume": "demo/results", "location": "ü" * 480 + each} for each in files]
    platform.trouble("job_fails", code=9100, message="no " * 1000, times=0)
    with pytest.raises(AirflowException, match="60 of 60"):
        runner.run(bulk([], exports=wanted))


def test_a_retry_that_fails_before_it_submits_names_the_exports_in_flight(platform, runner, ids, deferrable, tmp_path):
    """An export that an earlier try completed is not reported as in doubt before this try has checked it."""
    done, going_on = ids[:2]
    platform.trouble("job_stuck", after=1, times=0)
    with pytest.raises(AirflowException, match="time for this task is over"):
        runner.run(bulk([done, going_on], deferrable=deferrable, timeout=0.5))
    job = next(job for job in platform.exports if job.file == going_on)
    (tmp_path / "m.jsonl").write_text("not a manifest")
    retry = bulk([done, going_on], deferrable=deferrable, manifest=str(tmp_path / "m.jsonl"))
    with pytest.raises(AirflowException, match="holds something that is not a manifest") as failure:
        runner.run(retry)
    text = f"{failure.value}\n{failure.value.__cause__}"
    still = f"Still in flight at the Platform: export {job.id} (move of file {job.file} to "
    assert f"As an earlier try recorded: {still}" in text
    assert "perhaps accepted" not in text
    assert len(retry._reported().exports) == 2


class StaleStore(Store):
    """Returns the first value of a page of which all jobs have ended, as a database replica may."""

    def __init__(self):
        super().__init__()
        self.first = {}

    def set(self, key, value):
        self.first.setdefault(key, json.loads(json.dumps(value)))
        super().set(key, value)

    def get(self, key, default=None):
        phases = self.values.get("sevenbridges_batch", {}).get("pages", "")
        number = key.rpartition("_")[2]
        if number.isdigit() and phases[int(number) : int(number) + 1] == "e":
            return self.first[key]
        return super().get(key, default)


def test_an_old_page_of_the_record_does_not_hide_a_failure(platform, runner, ids):
    platform.trouble("job_fails", path=CREATE, code=9101)
    runner.store = StaleStore()
    with pytest.raises(AirflowException, match="does not have the complete record"):
        runner.run(bulk(ids, max_active=100))
