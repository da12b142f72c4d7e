"""A task of many pages: what it keeps in memory, what it reports, and what a kill at any write leaves behind."""

from __future__ import annotations

import gc
import json
from collections import Counter
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.exports.request import ExportRequest
from airflow_sb_provider.exports.tracked import TrackedExport
from airflow_sb_provider.jobs.batch import Batch
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.state_store import StateStore
from tests.integration.in_process.conftest import Runner, Store

PROJECT = "demo/many"
CREATE = "/v2/bulk/storage/exports/create"
POLL = "/v2/bulk/storage/exports/get"
ALIAS, OUTLET = AssetAlias("exported"), Asset("s3://results/all")


@pytest.fixture
def files(platform):
    def make(count, project=PROJECT):
        return [platform.add_file(f"{n:05}.vcf", b"x" * 10, project, metadata={"n": str(n)}).id for n in range(count)]

    return make


def project(**fields):
    return SevenBridgesBulkExportOperator(
        **{
            "task_id": "bulk",
            "retries": 2,
            "poll_interval": 0.1,
            "deferrable": True,
            "project": PROJECT,
            "volume": "demo/results",
            "location_pattern": "many/{name}",
            "max_active": 100,
            **fields,
        }
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_task_that_resumes_reads_only_what_is_open_and_what_is_next(platform, runner, files, request):
    files(1000)
    most = []
    # Each search then visits only what the task has created since, not the million objects of Airflow.
    gc.freeze()
    request.addfinalizer(gc.unfreeze)

    def count(record):
        if record.path == CREATE:
            gc.collect()
            most.append(sum(type(each) is TrackedExport for each in gc.get_objects()))

    platform.on("request", count)
    assert runner.run(project())["counts"] == {"COMPLETED": 1000}
    # The first process has planned all of them; the others have the open pages and the next.
    assert most[0] >= 1000
    assert max(most[2:]) <= 300


@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
def test_all_files_are_reported_though_few_are_in_memory(platform, files, deferrable, store, tmp_path):
    ids = files(450)
    runner = Runner(store=store)
    platform.trouble("job_fails", code=9100, after=7)
    platform.trouble("job_fails", code=9100, after=444)
    manifest = tmp_path / "manifest.jsonl"
    operator = project(
        deferrable=deferrable,
        manifest=f"file://{manifest}",
        manifest_metadata=["n"],
        on_error="report",
        outlets=[ALIAS, OUTLET],
    )
    result = runner.run(operator)
    assert result["counts"] == {"COMPLETED": 448, "FAILED": 2}
    assert (result["total"], result["bytes"], result["exported_now"]) == (450, 4480, 448)
    assert [error["file"] for error in result["errors"]] == [ids[7], ids[444]]
    written = rows(manifest)
    assert [row["file"] for row in written] == ids
    assert [row["metadata.n"] for row in written] == [str(n) for n in range(450)]
    assert Counter(row["state"] for row in written) == result["counts"]
    extra = runner.outlet_events[OUTLET].extra
    assert (extra["total"], extra["exported"], extra["failed"], extra["bytes"]) == (450, 448, 2, 4480)
    assert len(runner.outlet_events[ALIAS].asset_alias_events) == 101
    status = runner.xcom["sevenbridges_status"]
    assert (status["source"], status["uri"]) == (f"project {PROJECT}", "s3://demo-results/exports/many/")


def test_all_files_are_verified_and_tagged_though_few_are_in_memory(platform, runner, files, deferrable, tmp_path):
    ids = files(250)
    manifest = tmp_path / "manifest.csv"
    result = runner.run(
        project(deferrable=deferrable, verify=True, tag_exported="exported", manifest=f"file://{manifest}")
    )
    assert result["counts"] == {"COMPLETED": 250}
    assert all("exported" in platform.platform.files[each].tags for each in ids)
    header, *lines = manifest.read_text().splitlines()
    etag = header.split(",").index("etag")
    assert len(lines) == 250
    assert all(line.split(",")[etag] for line in lines)


@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
def test_an_error_names_an_export_that_cannot_be_read(platform, files, store):
    ids = files(300)
    unreadable = []

    def spoil(record):
        jobs = {job.file: job.id for job in platform.exports}
        if not unreadable:
            unreadable.append(jobs[ids[3]])
            platform.trouble("spoiled_bulk", path=POLL, ids=unreadable[0], how="refused", code=9020, times=0)
        elif ids[299] in jobs:
            platform.trouble("error", path=POLL, status=401, code=90001, times=0)

    platform.on("accepted", spoil)
    with pytest.raises(AirflowException) as caught:
        Runner(store=store).run(project())
    assert unreadable[0] in str(caught.value)


def ledger_of(store):
    return StateStore({"ti": SimpleNamespace(), "task_state_store": store}, TrackedExport)


def started(count):
    """Return the store, the ledger and the batch of a task that has submitted nothing yet."""
    entries = [TrackedExport(ExportRequest(f"{n:024}", "demo/results", f"many/{n}")) for n in range(count)]
    store, batch = Store(), Batch(TrackedExport.kind, entries, 0.0, 1, 2)
    ledger = ledger_of(store)
    ledger.start(batch)
    ledger.fill(batch, 100)
    return store, ledger, batch


def test_pages_that_have_ended_and_later_ones_are_not_in_memory():
    _, ledger, batch = started(350)
    assert len(batch.entries) == 100
    first = batch.entries
    for entry in first:
        entry.state = "COMPLETED"
    ledger.save(first)
    ledger.fill(batch, 100)
    assert not {*map(id, first)} & {*map(id, batch.entries)}
    assert [entry.request.file for entry in batch.entries] == [f"{n:024}" for n in range(100, 200)]
    assert batch.totals.counts == {"COMPLETED": 100, "WAITING": 250}
    assert [entry.request.file for entry in ledger.walk()] == [f"{n:024}" for n in range(350)]


@pytest.mark.parametrize("resumed", [True, False], ids=["in another process", "in the same process"])
def test_a_job_in_doubt_stays_in_memory_until_the_end(resumed):
    store, ledger, batch = started(250)
    for number, entry in enumerate(batch.entries):
        entry.state, entry.job_id = ("IN_DOUBT", "unreadable") if number == 7 else ("COMPLETED", f"job{number}")
    ledger.save(batch.entries)
    if resumed:
        batch = ledger_of(store).resume()
    else:
        ledger.fill(batch, 100)
    assert "unreadable" in batch.outstanding()


class Killed(BaseException):
    """The process is gone: no handler runs."""


class KillingStore(Store):
    """Ends the process at a given write, before or after it reaches the database."""

    def __init__(self):
        super().__init__()
        self.writes, self.kill_at, self.is_written = 0, None, False

    def set(self, key, value):
        self.writes += 1
        if self.writes != self.kill_at:
            super().set(key, value)
            return
        if self.is_written:
            super().set(key, value)
        raise Killed


def export_with_a_kill(platform, files, count, *, max_active=100, kill_at=None, is_written=False):
    """Export a new project, killed at one write, and again; return the number of writes of the first try."""
    name = f"demo/killed-{kill_at}"
    ids = set(files(count, name))
    runner = Runner()
    runner.store = store = KillingStore()
    store.kill_at, store.is_written = kill_at, is_written
    operator = project(project=name, location_pattern="{project}/{name}", max_active=max_active)
    try:
        result = runner.run(operator)
        assert kill_at is None
    except Killed:
        writes, store.kill_at = store.writes, None
        result = runner.run(operator)
    else:
        writes = store.writes
    exported = Counter(job.file for job in platform.exports if job.file in ids)
    assert (result["counts"], exported) == ({"COMPLETED": count}, Counter(ids)), f"killed at write {kill_at}"
    return writes


@pytest.mark.parametrize("is_written", [False, True], ids=["before the write", "after the write"])
def test_a_task_that_is_killed_at_any_write_exports_every_file_once(platform, files, is_written):
    writes = export_with_a_kill(platform, files, 120)
    for kill_at in range(1, writes + 1):
        export_with_a_kill(platform, files, 120, kill_at=kill_at, is_written=is_written)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_written", [False, True], ids=["before the write", "after the write"])
def test_a_thousand_files_killed_at_any_write(platform, files, is_written, capsys):
    writes = export_with_a_kill(platform, files, 1000, max_active=600)
    for kill_at in range(1, writes + 1):
        export_with_a_kill(platform, files, 1000, max_active=600, kill_at=kill_at, is_written=is_written)
    with capsys.disabled():
        print(f"\n  1,000 files, killed at each of {writes} writes: every file was exported once")
