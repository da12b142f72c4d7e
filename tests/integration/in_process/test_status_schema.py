"""The schema beside the tab's script describes what a task writes and what the script reads."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.emulator.seed import BAM, PROJECT, VCF, WORD_COUNT
from airflow_sb_provider.exports.request import PROPERTY_NAMES
from airflow_sb_provider.hooks.connection import ConnectionSettings
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator
from airflow_sb_provider.plugins import export_tab
from airflow_sb_provider.sensors.task import SevenBridgesTaskSensor
from airflow_sb_provider.task_status import PROGRESS, STATUS
from airflow_sb_provider.triggers import progress_writer as progress_module
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from tests.integration.in_process.conftest import Runner, start_when_polled

PAGE = Path(export_tab.__file__).parent / "page"
SCHEMA = json.loads((PAGE / "status.schema.json").read_text())
SCRIPT = re.sub(r"^\s*//.*$", "", (PAGE / "tab.js").read_text(), flags=re.MULTILINE)
KINDS = SCHEMA["$defs"]
CREATE_TASK, RUN, POLL_TASKS = "/v2/tasks", "/v2/tasks/*/actions/run", "/v2/bulk/tasks/get"
CREATE, BULK_CREATE = "/v2/storage/exports", "/v2/bulk/storage/exports/create"


def words(schema):
    return set(schema.get("enum") or schema.get("examples") or [])


def check(written):
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    assert written
    for key, value in written:
        validator.validate({key: json.loads(json.dumps(value))})


class Watched(Runner):
    """Records every status and progress that a task writes."""

    def __init__(self, written, **fields):
        super().__init__(**fields)
        self.written = written

    def _push(self, key, value):
        super()._push(key, value)
        if key in (STATUS, PROGRESS):
            self.written.append((key, json.loads(json.dumps(value))))

    def fail(self, operator):
        with pytest.raises(AirflowException):
            self.run(operator)


def bulk(files, **fields):
    exports = [{"file": file, "volume": "demo/results", "location": f"many/{file}"} for file in files]
    return SevenBridgesBulkExportOperator(
        **{"task_id": "bulk", "exports": exports, "retries": 2, "poll_interval": 0.1, **fields}
    )


def single_exports(platform, written, export, deferrable):
    """Run every course that a single export can take."""
    new = lambda: Watched(written)  # noqa: E731
    new().run(export(location="s/1", deferrable=deferrable))
    new().run(export(location="s/2", copy_only=True, validate_only=True))
    adopted = export(location="s/3", deferrable=deferrable)
    new().run(adopted)
    Watched(written, store=False).run(adopted)
    new().run(export(location="s/4", wait_for_completion=False))
    new().fail(export(location="/"))
    platform.trouble("error", path=CREATE, status=403, code=9103, message="You may not.")
    new().fail(export(location="s/5"))
    platform.trouble("job_fails", code=9103, message="No access.")
    new().fail(export(location="s/6", deferrable=deferrable))
    platform.trouble("lose_reply", path=CREATE)
    new().run(export(location="s/7", deferrable=deferrable))
    platform.trouble("drop", path=CREATE, times=0)
    new().fail(export(location="s/8", deferrable=deferrable))
    platform.troubles.clear()
    platform.trouble("error", path="/v2/storage/exports/*", method="GET", status=401, code=90001, times=0)
    platform.trouble("error", path="/v2/bulk/storage/exports/get", status=401, code=90001, times=0)
    new().fail(export(location="s/9", deferrable=deferrable))
    platform.troubles.clear()
    platform.knobs.update(pending_seconds=0.5, running_seconds=0.5)
    new().run(export(location="s/10", deferrable=deferrable))
    platform.knobs.stuck = True
    new().fail(export(location="s/11", deferrable=deferrable, timeout=0.3))
    platform.knobs.update(stuck=False, pending_seconds=0.02, running_seconds=0.02)


def bulk_exports(platform, written, deferrable):
    """Run every course that a bulk export can take."""
    file = lambda **fields: platform.add_file("a.txt", b"x", **fields).id  # noqa: E731
    new = lambda: Watched(written)  # noqa: E731
    fields = {"deferrable": deferrable}
    new().run(bulk([file(), file()], validate_only=True))
    new().run(bulk([file(), file()], copy_only=True, **fields))
    new().run(bulk([file(), platform.platform.add_folder("f", "demo/genomics").id], skip_not_exportable=True, **fields))
    new().fail(bulk([file(), file(public=True)], **fields))
    new().fail(bulk([file()], manifest="x", **fields))
    platform.trouble("job_fails", code=9103, message="No access.")
    new().fail(bulk([file(), file()], **fields))
    platform.knobs.update(pending_seconds=0.3, running_seconds=0.3)
    new().run(bulk([file() for _ in range(12)], max_active=8, **fields))
    platform.trouble("drop", path=BULK_CREATE)
    platform.trouble("error", path="/v2/storage/exports", method="GET", status=401, code=90001, times=0)
    new().fail(bulk([file(), file()], **fields))
    platform.troubles.clear()
    platform.knobs.stuck = True
    new().fail(bulk([file(), file()], timeout=0.3, **fields))
    platform.knobs.update(stuck=False, pending_seconds=0.02, running_seconds=0.02)


def app_runs(platform, written, deferrable):
    """Run every course that a task of the Platform can take."""
    # Each with its own key, so that none adopts the task of another.
    names = (f"run_app_{number}" for number in count())
    run = lambda **fields: make_task(**{"task_id": next(names), "deferrable": deferrable, **fields})  # noqa: E731
    two = {"inputs": {"files": [VCF, BAM]}, "batch_by": "item", "batch_input": "files"}
    new = lambda: Watched(written)  # noqa: E731
    new().run(run(validate_only=True))
    adopted = new()
    adopted.run(run(task_id="adopts"))
    adopted.run(run(task_id="adopts"))
    platform.platform.tasks.clear()
    adopted.fail(run(task_id="adopts"))
    new().run(run(wait_for_completion=False))
    new().run(run(**two))
    new().fail(run(inputs={}))
    new().fail(run(app="app"))
    platform.trouble("job_fails", path=RUN, code=5000, message="The <b>tool</b> failed.")
    new().fail(run())
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    new().fail(run(**two))
    platform.trouble("drop", method="POST", path=CREATE_TASK)
    new().run(run())
    platform.knobs.update(task_queued_seconds=0.5, task_running_seconds=0.5, queue_reason="account_limit")
    new().run(run(**two))
    platform.knobs.stuck = True
    new().fail(run(timeout=0.3))
    platform.knobs.stuck = False
    abort_when_polled(platform)
    new().fail(run())


def abort_when_polled(platform):
    """Abort each task that is polled, as a person does on its page."""

    def abort(record):
        if record.path == POLL_TASKS:
            for task in list(platform.platform.tasks.values()):
                if task.state in ("QUEUED", "RUNNING"):
                    task.enter("ABORTING")

    platform.on("request", abort)


def make_task(**fields):
    common = {"task_id": "run_app", "app": WORD_COUNT, "project": PROJECT, "inputs": {"files": [VCF]}, "retries": 2}
    return SevenBridgesTaskOperator(**{**common, "poll_interval": 0.1, **fields})


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(ConnectionSettings, "visibility_delay", 0.1)


@pytest.fixture
def quick_tasks(platform, quick):
    platform.knobs.update(task_queued_seconds=0.02, task_running_seconds=0.02, task_aborting_seconds=0.02)


def test_a_task_of_the_platform_writes_what_the_schema_describes(platform, quick_tasks, deferrable):
    written = []
    app_runs(platform, written, deferrable)
    check(written)
    statuses = [value for key, value in written if key == STATUS]
    assert set().union(*statuses) == set(KINDS["task"]["properties"])
    assert {value["kind"] for value in statuses} == {"task"}
    assert {value["state"] for value in statuses if "state" in value} <= words(KINDS["task"]["properties"]["state"])
    ended = [(value.get("state"), value["error"]["outcome"]) for value in statuses if value.get("error")]
    assert {("FAILED", "FAILED"), ("ABORTED", "FAILED"), ("COMPLETED", "FAILED"), (None, "REFUSED")} <= set(ended)
    assert {outcome for _, outcome in ended} >= {"IN_DOUBT", "TIMEOUT"}
    assert any(value.get("state") == "CHECKING" and value["check_again_at"] and value["app"] for value in statuses)
    if not deferrable:
        progress = [value for key, value in written if key == PROGRESS]
        assert set().union(*progress) >= {"task_id", "state", "steps_total", "waits_for", "price", "counts"}
        assert {value["waits_for"] for value in progress} == {None, "the account's limit of instances"}


def test_a_sensor_of_tasks_writes_what_the_schema_describes(platform, quick_tasks, wait, xcom):
    hook = SevenBridgesHook()
    started = [Watched([]).run(make_task(wait_for_completion=False))["task_id"] for _ in range(2)]
    wait(started, sensor=SevenBridgesTaskSensor)
    check(xcom.items())
    assert (xcom[STATUS]["job_kind"], xcom[STATUS]["counts"]) == ("task", {"COMPLETED": 2})
    assert hook.get_task(started[0]).name in xcom[STATUS]["jobs"][0]["text"]
    platform.trouble("job_fails", path=RUN, code=5000, message="The tool failed.")
    failed = Watched([]).run(make_task(wait_for_completion=False))["task_id"]
    with pytest.raises(AirflowException):
        wait(failed, sensor=SevenBridgesTaskSensor)
    check(xcom.items())
    assert [(job["id"], job["state"]) for job in xcom[STATUS]["jobs"]] == [(failed, "FAILED")]
    assert xcom[STATUS]["error"]["reason"] == "The tool failed."


def test_tasks_write_what_the_schema_describes(platform, export, quick, deferrable):
    """The schema describes nothing that no task writes."""
    written = []
    single_exports(platform, written, export, deferrable)
    bulk_exports(platform, written, deferrable)
    check(written)
    statuses = [value for key, value in written if key == STATUS]
    for kind in ("export", "bulk"):
        seen = [value for value in statuses if value["kind"] == kind]
        assert set().union(*seen) == set(KINDS[kind]["properties"])
        assert {value["state"] for value in seen if "state" in value} <= words(KINDS[kind]["properties"]["state"])
    errors = [value["error"] for value in statuses if value.get("error")]
    assert {error["outcome"] for error in errors} >= {"FAILED", "REFUSED", "IN_DOUBT", "TIMEOUT"}
    counted = set().union(*(value["counts"] for value in statuses if "counts" in value))
    assert counted <= words(KINDS["counts"]["propertyNames"])
    if not deferrable:
        progress = [value for key, value in written if key == PROGRESS]
        assert set().union(*progress) >= {"export_id", "state", "total", "counts"}


@pytest.mark.parametrize("count", [1, 3])
def test_a_trigger_writes_what_the_schema_describes(platform, monkeypatch, count):
    written = []

    async def aset(*, key, value, **_):
        written.append((key, value))
        platform.knobs.running_seconds = 0.0

    monkeypatch.setattr(progress_module, "XCom", SimpleNamespace(aset=aset))
    start_when_polled(platform)
    hook = SevenBridgesHook()
    files = [platform.add_file("a.txt", b"x").id for _ in range(count)]
    ids = [hook.start_export(file, "demo/results", f"t/{file}").id for file in files]

    async def run():
        trigger = SevenBridgesExportTrigger(ids, poll_interval=0.1)
        trigger._task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)
        return [event async for event in trigger.run()]

    assert len(asyncio.run(run())) == 1
    check(written)
    assert {key for key, _ in written} == {PROGRESS}


@pytest.mark.parametrize(
    "wrong",
    [
        {STATUS: {"kind": "export", "try_number": 1, "at": None, "states": "PENDING"}},
        {STATUS: {"kind": "bulk", "try_number": 1, "at": None, "state": "STRANGE"}},
        {STATUS: {"kind": "other", "try_number": 1, "at": None}},
        {STATUS: {"kind": "task", "try_number": 1, "at": None, "file": {"id": "f"}}},
        {PROGRESS: {"at": None, "note": None, "job_kind": "export", "total": 1, "counts": {"PENDING": -1}}},
        {PROGRESS: {"at": None, "note": None, "job_kind": "other", "total": 1, "counts": {}}},
        {PROGRESS: {"at": None, "note": None, "job_kind": "task", "state": "QUEUED"}},
        {"sevenbridges_other": {}},
    ],
)
def test_the_schema_rejects_fields_that_the_script_does_not_read(wrong):
    with pytest.raises(jsonschema.ValidationError):
        check(wrong.items())


def test_the_script_reads_what_the_schema_describes():
    assert dict(re.findall(r'^const (STATUS|PROGRESS) = "(\w+)"', SCRIPT, re.MULTILINE)) == {
        "STATUS": STATUS,
        "PROGRESS": PROGRESS,
    }
    assert set(SCHEMA["properties"]) == {STATUS, PROGRESS}
    one_job = {*KINDS["export"]["properties"], *KINDS["task"]["properties"]}
    fields = {
        "status": {*one_job, *KINDS["bulk"]["properties"], *KINDS["sensor"]["properties"]},
        "latest": one_job,
        "progress": {*KINDS["progress_of_one"]["properties"], *KINDS["progress_of_many"]["properties"]},
        "since": set(KINDS["progress_of_one"]["properties"]),
        "file": set(KINDS["export"]["properties"]["file"]["properties"]),
        "counts": words(KINDS["counts"]["propertyNames"]),
    }
    for name, known in fields.items():
        read = set(re.findall(rf"\b{name}\??\.(\w+)", SCRIPT))
        assert read <= known, name
    # The script counts every state that a file of a bulk export or a task of a batch can have.
    listed = re.findall(r"^    states: (\[.*\])", SCRIPT, re.MULTILINE)
    assert set().union(*map(json.loads, listed)) | set(re.findall(r"\bcounts\.(\w+)", SCRIPT)) == fields["counts"]
    jobs = SCRIPT.split("const JOBS = {")[1].split("\n};")[0]
    assert re.findall(r"^  (\w+): \{$", jobs, re.MULTILINE) == KINDS["job_kind"]["enum"]
    assert re.findall(r'^    key: "(\w+)"', jobs, re.MULTILINE) == [f"{name}_id" for name in KINDS["job_kind"]["enum"]]
    failure = SCRIPT.split("const outcome = ")[1].split("\n}")[0]
    assert set(re.findall(r"\berror\.(\w+)", failure)) == set(KINDS["error"]["properties"])
    known = {
        name: set(re.findall(r"^  (\w+): \[", SCRIPT.split(f"const {name} = {{")[1].split("};")[0], re.MULTILINE))
        for name in ("OUTCOMES", "WORDS")
    }
    assert known["OUTCOMES"] == words(KINDS["error"]["properties"]["outcome"])
    assert known["WORDS"] == words(KINDS["export"]["properties"]["state"]) | words(KINDS["task"]["properties"]["state"])
    shown = re.findall(r"^  (\w+): ", SCRIPT.split("const PROPERTIES = {")[1].split("};")[0], re.MULTILINE)
    assert tuple(shown) == PROPERTY_NAMES == tuple(KINDS["properties"]["propertyNames"]["enum"])


KEY = "arn:aws:kms:us-east-1:123456789012:key/\u202e1\n2"
KMS = {"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": KEY}
SHOWN = {"sse_algorithm": "aws:kms", "sse_aws_kms_key_id": "arn:aws:kms:us-east-1:123456789012:key/ 1 2"}


def requested(capsys):
    """The requests in a task's log, without Airflow's additions."""
    return re.findall(r"Requested: (.*?\.)(?: +\[|$)", capsys.readouterr().out, re.MULTILINE)


def test_the_properties_of_an_export_are_in_its_log_and_its_tab(platform, export, capsys, deferrable):
    written = []
    Watched(written).run(export(properties=KMS, deferrable=deferrable))
    check(written)
    statuses = [value for key, value in written if key == STATUS]
    assert [value["properties"] for value in statuses] == [SHOWN] * len(statuses)
    [line] = requested(capsys)
    assert line.endswith(f", with sse_algorithm=aws:kms, sse_aws_kms_key_id={SHOWN['sse_aws_kms_key_id']}.")


def test_properties_of_which_one_is_none_are_in_the_log(export, platform, capsys):
    Runner().run(export(properties={"sse_algorithm": None}))
    Runner().run(export(location="plain"))
    assert [line.partition(", with ")[2] for line in requested(capsys)] == ["sse_algorithm=none.", ""]


@pytest.mark.parametrize(("others", "shown"), [(KMS, SHOWN), ({"sse_algorithm": "AES256"}, None), (None, None)])
def test_the_tab_of_a_bulk_export_shows_the_properties_that_all_files_share(platform, others, shown, deferrable):
    written = []
    files = [platform.add_file(f"{n}.txt", b"x").id for n in range(3)]
    exports = [
        {"file": file, "volume": "demo/results", "location": f"many/{file}", "properties": KMS if n == 0 else others}
        for n, file in enumerate(files)
    ]
    Watched(written).run(bulk([], exports=exports, deferrable=deferrable))
    check(written)
    assert [value["properties"] for key, value in written if key == STATUS][-1] == shown


def rows(path):
    return {row["file"]: row for row in map(json.loads, path.read_text().splitlines())}


def test_after_fail_fast_tab_and_manifest_report_exports_in_flight_and_not_submitted(platform, tmp_path, deferrable):
    written = []
    runner = Watched(written)
    # The first fails, two more are in flight then, and five are never submitted.
    files = [platform.add_file(f"{n}.txt", b"x").id for n in range(8)]
    platform.trouble("job_fails", code=9100)
    platform.trouble("job_stuck", after=1, times=0)
    manifest = tmp_path / "m.jsonl"
    operator = bulk(files, on_error="fail_fast", max_active=3, manifest=str(manifest), deferrable=deferrable)
    runner.fail(operator)
    submitted = {job.file: job.id for job in platform.exports}
    found = rows(manifest)
    assert {file: found[file]["export_id"] for file in files if found[file]["export_id"]} == submitted
    assert len(submitted) == 3
    assert [found[file]["state"] for file in files] == ["FAILED", "PENDING", "PENDING", *["WAITING"] * 5]
    assert [bool(found[file]["message"]) for file in files] == [True] + [False] * 7
    last = [value for key, value in written if key == STATUS][-1]
    assert last["counts"] == {"FAILED": 1, "PENDING": 2, "WAITING": 5}
    assert last["unanswered"] == 0
    assert [error["file"] for error in last["errors"]] == files[:1]


@pytest.mark.parametrize("fault", ["drop", "lose_reply"])
def test_a_submission_without_a_response_is_in_doubt_in_the_manifest(platform, tmp_path, fault, deferrable, quick):
    written = []
    runner = Watched(written)
    files = [platform.add_file(f"{n}.txt", b"x").id for n in range(4)]
    manifest = tmp_path / "m.jsonl"
    platform.trouble(fault, path=BULK_CREATE)
    platform.trouble("error", path="/v2/storage/exports", method="GET", status=401, code=90001, times=0)
    operator = bulk(files, max_active=2, manifest=str(manifest), deferrable=deferrable)
    runner.fail(operator)
    found = rows(manifest)
    last = [value for key, value in written if key == STATUS][-1]
    assert [found[file]["state"] for file in files] == ["IN_DOUBT", "IN_DOUBT", "COMPLETED", "COMPLETED"]
    assert "no response" in found[files[0]]["message"]
    assert (last["unanswered"], last["counts"]) == (2, {"WAITING": 2, "COMPLETED": 2})
    check(written)
    # A retry that cannot check reports the same, and one that can check exports all files.
    runner.fail(bulk(files, max_active=2, manifest=str(manifest), deferrable=deferrable))
    assert [rows(manifest)[file]["state"] for file in files[:2]] == ["IN_DOUBT", "IN_DOUBT"]
    platform.troubles.clear()
    runner.run(bulk(files, max_active=2, manifest=str(manifest), deferrable=deferrable))
    assert {row["state"] for row in rows(manifest).values()} == {"COMPLETED"}
    last = [value for key, value in written if key == STATUS][-1]
    assert (last["unanswered"], last["counts"]) == (0, {"COMPLETED": 4})
