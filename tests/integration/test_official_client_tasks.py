"""The unmodified official client runs apps on the local Platform."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sevenbridges
from sevenbridges.errors import BadRequest, Forbidden, NotFound, TaskValidationError

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.seed import (
    ALIGNMENTS,
    ALL_TYPES,
    BAM,
    BAM_INDEX,
    CHECKSUMS,
    GZIP,
    PROJECT,
    REPORT,
    VCF,
    WORD_COUNT,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TERMINAL = ("COMPLETED", "FAILED", "ABORTED")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    knobs = Knobs(task_queued_seconds=0.02, task_running_seconds=0.02, task_aborting_seconds=0.02)
    with Emulator(knobs=knobs) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> sevenbridges.Api:
    return sevenbridges.Api(url=emulator.url, token=emulator.token, debug=True)


def ended(task: Any) -> Any:
    deadline = time.monotonic() + 300
    while task.reload().status not in TERMINAL:
        assert time.monotonic() < deadline, task.status
        time.sleep(0.01)
    return task


def test_apps(api):
    app = api.apps.get(CHECKSUMS)
    assert (app.id, app.revision, app.name, app.project) == (CHECKSUMS, 0, "Checksums", PROJECT)
    assert [port["id"] for port in app.raw["inputs"]] == ["files", "algorithm"]
    assert api.apps.get_revision(WORD_COUNT, 0).revision == 0
    assert api.apps.get(WORD_COUNT).revision == 1
    listed = api.projects.get(PROJECT).get_apps(limit=2)
    assert listed.total == 4
    assert [each.id for each in listed.all()] == [WORD_COUNT, GZIP, CHECKSUMS, ALL_TYPES]
    # A list item lacks the revision, so the client fetches the app.
    assert listed[0].revision == 1
    with pytest.raises(NotFound) as missing:
        api.apps.get(f"{PROJECT}/nothing")
    assert missing.value.code == 6002


def test_a_draft_is_run_and_polled(emulator, api):
    files = api.files.query(project=PROJECT, names=["NA12878.vcf"])
    task = api.tasks.create(
        name="count words",
        project=api.projects.get(PROJECT),
        app=api.apps.get(WORD_COUNT),
        inputs={"files": [files[0], api.files.get(BAM)]},
        description="of two files",
        interruptible=False,
        execution_settings={"instance_type": "c4.2xlarge;ebs-gp2;2000", "max_parallel_instances": 1},
    )
    assert (task.status, task.name, task.description, task.type) == ("DRAFT", "count words", "of two files", "v2")
    assert (task.app, task.project, task.created_by, task.batch) == (f"{WORD_COUNT}/1", PROJECT, "demo", False)
    assert (list(task.errors), list(task.warnings), task.end_time, task.price) == ([], [], None, None)
    assert [file.id for file in task.inputs["files"]] == [VCF, BAM]
    assert task.created_time <= datetime.now(UTC).replace(tzinfo=None)
    assert task.run().status in ("QUEUED", "RUNNING")
    assert ended(task).status == "COMPLETED"
    assert task.end_time >= task.start_time
    assert (task.executed_by, task.price.currency, task.price.amount) == ("demo", "USD", 0.01)
    status = task.execution_status
    assert (status.message, status.steps_completed, status.steps_total) == ("Completed", 1, 1)
    assert status.duration >= status.running_duration > 0
    counts = task.outputs["counts"]
    assert (counts.name, counts.is_folder(), task.outputs["total"] > 0) == ("counts.tsv", False, True)
    assert api.files.get(counts.id).origin.task == task.id
    assert counts.size == len(emulator.file_bytes(counts.id))
    assert b"NA12878.bam" in b"".join(counts.stream())
    with pytest.raises(Forbidden) as twice:
        task.run()
    assert twice.value.code == 7007


def test_create_and_run_at_once(emulator, api):
    task = api.projects.get(PROJECT).create_task("gzip", GZIP, inputs={"file": api.files.get(VCF)}, run=True)
    assert task.use_interruptible_instances is True
    task.wait(period=0.01)
    made = task.outputs["compressed"]
    assert gzip.decompress(emulator.file_bytes(made.id)) == emulator.platform.storage.read_source(VCF)
    # The index is beside it in the project, and in no output.
    [index] = api.files.query(project=PROJECT, names=[f"{made.name}.gzi"])
    assert index.id not in str(task.outputs)
    assert {file.name for file in api.files.query(project=PROJECT, origin={"task": task.id})} == {made.name, index.name}


def test_a_task_with_errors_stays_a_draft(api):
    with pytest.raises(TaskValidationError) as caught:
        api.tasks.create("bad", PROJECT, GZIP, run=True)
    task = caught.value.task
    assert (task.status, task.errors[0]["input"]) == ("DRAFT", "file")
    with pytest.raises(BadRequest) as refused:
        task.run()
    assert refused.value.code == 7024
    task.inputs = {"file": api.files.get(VCF)}
    task.name = "good"
    task.save()
    assert (list(task.errors), task.name, task.inputs["file"].id) == ([], "good", VCF)
    assert ended(task.run()).status == "COMPLETED"


def test_changing_one_input(api):
    task = api.tasks.create("sums", PROJECT, CHECKSUMS, inputs={"files": [api.files.get(VCF)]})
    task.inputs["algorithm"] = "md5"
    task.save()
    assert task.inputs["algorithm"] == "md5"
    assert [file.id for file in task.inputs["files"]] == [VCF]
    assert ended(task.run()).outputs["checksums"].name == "checksums.md5"


def test_values_of_every_type(api):
    inputs = {
        "count": 4,
        "flag": False,
        "sample": {"id": "s", "depth": 1, "reads": api.files.get(BAM)},
        "tags": ["a"],
        "folder": api.files.get(ALIGNMENTS),
    }
    outputs = ended(api.tasks.create("types", PROJECT, ALL_TYPES, inputs=inputs, run=True)).outputs
    assert (outputs["doubled"], outputs["half"], outputs["flag"], outputs["nothing"]) == (8, 2.0, True, None)
    assert [part.name for part in outputs["parts"]] == ["part-a.txt"]
    [index] = outputs["parts"][0].secondary_files
    assert index.id != outputs["parts"][0].id
    assert outputs["folder"].is_folder()
    assert [file.name for file in outputs["folder"].list_files()] == ["size.txt"]


def test_abort(emulator, api):
    emulator.knobs.task_running_seconds = 60
    task = api.tasks.create("long", PROJECT, GZIP, inputs={"file": api.files.get(VCF)}, run=True)
    assert task.abort().status == "ABORTING"
    assert ended(task).status == "ABORTED"
    with pytest.raises(BadRequest) as twice:
        task.abort()
    assert twice.value.code == 7011


def test_a_failed_task_and_its_execution_details(emulator, api):
    emulator.trouble("job_fails", message="Out of memory.")
    task = ended(api.tasks.create("f", PROJECT, GZIP, inputs={"file": api.files.get(VCF)}, run=True))
    assert (task.status, task.execution_status.message) == ("FAILED", "Out of memory.")
    details = task.get_execution_details()
    assert (details.status, details.message) == ("FAILED", "Out of memory.")
    assert details.end_time >= details.start_time
    [job] = details.jobs
    assert (job.name, job.status, job.retried) == ("gzip-with-index", "FAILED", False)
    assert (job.instance.type, job.instance.provider, job.instance.disk.size) == ("c4.2xlarge", "AWS", 1024)
    assert job.docker.checksum.startswith("sha256:")
    assert job.logs["job.err.log"].content() == "Out of memory."
    assert job.logs["cmd.log"].name == "cmd.log"


def test_a_batch(api):
    files = [api.files.get(each) for each in (VCF, BAM, REPORT)]
    task = api.tasks.create(
        "batch", PROJECT, GZIP, inputs={"file": files}, batch_input="file", batch_by={"type": "ITEM"}
    )
    assert (task.status, task.batch, task.batch_input, task.batch_by["type"]) == ("DRAFT", True, "file", "ITEM")
    assert ended(task.run()).status == "COMPLETED"
    status = task.execution_status
    assert (status.completed, status.failed, status.queued) == (3, 0, 0)
    children = task.get_batch_children(order_by="name")
    assert children.total == 3
    assert [child.batch_group.value for child in children] == [file.name for file in files]
    assert {child.parent for child in children} == {task.id}
    assert [child.outputs["compressed"].name for child in children] == [f"{file.name}.gz" for file in files]
    by_sample = api.tasks.create(
        "by sample",
        PROJECT,
        WORD_COUNT,
        inputs={"files": [*files, api.files.get(BAM_INDEX)]},
        batch_input="files",
        batch_by={"type": "CRITERIA", "criteria": ["metadata.sample_id"]},
        run=True,
    )
    [child] = ended(by_sample).get_batch_children()
    assert child.batch_group.fields == {"metadata.sample_id": "NA12878"}
    assert [file.id for file in child.inputs["files"]] == [VCF, BAM, BAM_INDEX]


def test_bulk_get_clone_and_delete(api):
    first = ended(api.tasks.create("a", PROJECT, GZIP, inputs={"file": api.files.get(VCF)}, run=True))
    draft = first.clone(run=False)
    assert (draft.status, draft.name, draft.inputs["file"].id) == ("DRAFT", "a", VCF)
    again = ended(first.clone())
    assert again.outputs["compressed"].id != first.outputs["compressed"].id
    assert again.outputs["compressed"].name == "_1_NA12878.vcf.gz"
    records = api.tasks.bulk_get([again, draft.id, "0d0e6f3c-5b1e-4f6a-9a6e-00000000ffff"])
    assert [record.valid for record in records] == [True, True, False]
    assert [record.resource.status for record in records[:2]] == ["COMPLETED", "DRAFT"]
    assert records[0].resource.outputs["compressed"].name == "_1_NA12878.vcf.gz"
    assert records[2].error.code == 7002
    draft.delete()
    with pytest.raises(NotFound):
        api.tasks.get(draft.id)


def test_listing_tasks(emulator, api):
    for number in range(5):
        api.tasks.create(f"{number}", PROJECT, GZIP, inputs={"file": api.files.get(VCF)})
    done = ended(api.tasks.query(order_by="name", order="desc")[0].run())
    page = api.tasks.query(project=PROJECT, status="DRAFT", order_by="name", order="asc", limit=2)
    assert (page.total, [task.name for task in page.all()]) == (4, ["0", "1", "2", "3"])
    assert [task.name for task in page.next_page()] == ["2", "3"]
    assert [task.id for task in api.projects.get(PROJECT).get_tasks(status="COMPLETED")] == [done.id]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert api.tasks.query(created_from=tomorrow).total == 0
    assert api.tasks.query(created_to=tomorrow).total == 5
    before = len(emulator.requests)
    assert all(task.status and task.inputs["file"] for task in api.tasks.query().all())
    assert len(emulator.requests) - before == 2, "a list item lacks a field, so the client fetches each item"


def test_outputs_on_a_volume(emulator, api):
    task = api.tasks.create(
        "on a volume",
        PROJECT,
        GZIP,
        inputs={"file": api.files.get(VCF)},
        output_location={"main_location": "volumes://results/<task_name>"},
        run=True,
    )
    made = api.files.get(ended(task).outputs["compressed"].id)
    assert (made.storage.type, made.storage.volume) == ("VOLUME", "demo/results")
    assert made.storage.location == "on a volume/NA12878.vcf.gz"
    assert len(emulator.object_bytes("demo/results", made.storage.location)) == made.size
