"""The XComs of a task's tab and links."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
import requests

from airflow_sb_provider.api.environments import ENVIRONMENTS, Environment
from airflow_sb_provider.api.error_codes import ADVICE
from airflow_sb_provider.exceptions import SevenBridgesInputError
from airflow_sb_provider.links.export import (
    SevenBridgesDestinationLink,
    SevenBridgesFileLink,
    SevenBridgesProjectLink,
    SevenBridgesVolumeLink,
)
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.task_status import PROGRESS, STATUS
from airflow_sb_provider.triggers import progress_writer as progress_module
from airflow_sb_provider.triggers.export import SevenBridgesExportTrigger
from airflow_sb_provider.triggers.progress_writer import ProgressWriter
from tests.integration.in_process.conftest import Runner, paths, start_when_polled

LINKS = (SevenBridgesFileLink, SevenBridgesVolumeLink, SevenBridgesDestinationLink)


@pytest.fixture
def known(platform, monkeypatch):
    """The local Platform as an environment that has web pages."""
    monkeypatch.setitem(ENVIRONMENTS, "local", Environment("Local", platform.url, "https://platform.example"))


@pytest.fixture
def written(runner, monkeypatch):
    """All statuses that the task writes, in order."""
    found = []
    push = runner._push

    def record(key, value):
        push(key, value)
        found.append((key, json.loads(json.dumps(value))))

    monkeypatch.setattr(runner, "_push", record)
    return found


def statuses(written, key=STATUS):
    return [value for name, value in written if name == key]


def test_a_move_publishes_its_details_after_the_submission(platform, runner, written, known, export, deferrable):
    operator = export(deferrable=deferrable)
    result = runner.run(operator)
    first, last = statuses(written)
    name = platform.platform.files[operator.file].name
    file = {"id": operator.file, "name": name, "size": 10, "project": "demo/genomics"}
    assert first["file"] == last["file"] == file
    assert (first["kind"], first["state"], first["adopted"]) == ("export", "PENDING", False)
    assert first["uri"] == last["uri"] == "s3://demo-results/exports/a/b.txt"
    assert (first["copy_only"], first["overwrite"]) == (False, False)
    assert first["export_id"] == result["export_id"]
    assert first["submitted_at"] == last["submitted_at"]
    assert (last["state"], last["size"], last["etag"]) == ("COMPLETED", 10, result["etag"])
    assert last["finished_on"] == result["finished_on"]
    assert not last["error"]
    assert all(len(json.dumps(value)) < 2000 for _, value in written)


def test_a_wait_in_a_worker_publishes_each_change_but_the_last(platform, runner, written, export):
    platform.knobs.update(pending_seconds=0.5, running_seconds=1.0)
    runner.run(export(deferrable=False))
    assert [value["state"] for value in statuses(written, PROGRESS)] == ["RUNNING"]


def test_a_failure_publishes_reason_remedy_and_code(platform, runner, written, export, deferrable):
    platform.trouble("job_fails", code=9103, message="No access to <b>the volume</b>.")
    with pytest.raises(Exception, match="No access"):
        runner.run(export(deferrable=deferrable))
    last = statuses(written)[-1]
    [job] = platform.exports
    assert (last["state"], last["export_id"]) == ("FAILED", job.id)
    assert abs(datetime.fromisoformat(last["finished_on"]) - job.finished_on) <= timedelta(seconds=1)
    assert last["error"]["outcome"] == "FAILED"
    assert last["error"]["reason"] == "No access to <b>the volume</b>."
    assert last["error"]["code"] == 9103
    assert last["error"]["remedy"] == ADVICE[9103]


def test_a_rejection_publishes_what_was_requested(platform, runner, written, export):
    platform.trouble("error", status=403, code=9103, message="You may not.")
    with pytest.raises(Exception, match="You may not"):
        runner.run(export())
    [last] = statuses(written)
    assert last["location"] == "a/b.txt"
    assert (last["error"]["outcome"], last["error"]["http_status"]) == ("REFUSED", 403)


def test_each_wrong_input_is_a_line_of_the_reason(runner, written, export):
    with pytest.raises(Exception, match="location") as caught:
        runner.run(export(location="/", volume="no\nname"))
    assert isinstance(caught.value.__cause__, SevenBridgesInputError)
    [last] = statuses(written)
    assert last["error"]["outcome"] == "REFUSED"
    lines = last["error"]["reason"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["volume", "location"]


def test_an_adopted_export_says_so_and_why(platform, export):
    runner = Runner(store=False)
    runner.run(export())
    result = runner.run(export(file=platform.exports[0].file))
    assert result["adopted"]
    status = runner.xcom[STATUS]
    assert status["adopted"] is True
    assert status["why"]
    assert status["state"] == "COMPLETED"


def test_a_timeout_says_that_the_export_is_still_running(platform, runner, written, export, deferrable):
    platform.knobs.stuck = True
    with pytest.raises(Exception, match="continues"):
        runner.run(export(timeout=0.3, deferrable=deferrable))
    assert statuses(written)[-1]["error"]["outcome"] == "TIMEOUT"


def test_no_token_is_published(platform, runner, written, export, known):
    platform.trouble("job_fails", code=9103, message=f"Your token {platform.token} may not.")
    with pytest.raises(Exception, match="may not"):
        runner.run(export())
    assert platform.token not in json.dumps(written)


def test_hostile_names_are_published_as_they_are_and_long_ones_truncated(platform, runner, written, export):
    file = platform.add_file("<img src=x onerror=alert(1)>" + "x" * 5000, b"data")
    runner.run(export(file=file.id))
    name = statuses(written)[-1]["file"]["name"]
    assert name.startswith("<img src=x onerror=alert(1)>")
    assert len(name) == 2000


def test_the_links_are_published_after_the_submission(platform, runner, written, export, known, deferrable):
    operator = export(deferrable=deferrable)
    runner.run(operator)
    keys = [key for key, _ in written]
    for kind in LINKS:
        assert keys.index("export_id") < keys.index(kind().xcom_key) < keys.index("sevenbridges_status")
        # Each of the task's processes writes what it learns, once.
        assert keys.count(kind().xcom_key) == 1 + deferrable
    assert [runner.xcom[kind().xcom_key] for kind in LINKS] == [
        f"https://platform.example/u/demo/genomics/files/{operator.file}/",
        "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/",
        "https://s3.console.aws.amazon.com/s3/object/demo-results?prefix=exports/a/b.txt",
    ]
    assert [kind().get_link(operator, ti_key=None) for kind in LINKS] == [
        runner.xcom[kind().xcom_key] for kind in LINKS
    ]


def test_the_links_to_the_local_platform_lead_to_its_pages(platform, runner, export, deferrable):
    platform.knobs.running_seconds = 0.3
    operator = export(deferrable=deferrable)
    runner.run(operator)
    pages = f"{platform.url.removesuffix('/v2')}/_local/pages"
    addresses = [runner.xcom[kind().xcom_key] for kind in LINKS]
    assert addresses == [
        f"{pages}/files/{operator.file}/",
        f"{pages}/buckets/demo-results/exports/",
        f"{pages}/buckets/demo-results/exports/a/b.txt",
    ]
    assert [kind().get_link(operator, ti_key=None) for kind in LINKS] == addresses
    click = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for address in addresses:
        assert requests.get(address, headers=click, timeout=60).status_code == 200
    # No request is sent for the sake of links, so that tests count the same requests as with a real environment.
    assert not [path for path in paths(platform) if path.startswith("GET files/")]


def test_an_airflow_that_rejects_xcoms_does_not_stop_an_export(platform, export):
    class Refusing(Runner):
        def _push(self, key, value):
            if key != "export_id":
                raise RuntimeError("no room")

    assert Refusing().run(export())["state"] == "COMPLETED"


class PlainOnly:
    """Airflow's own XComs, which a process writes without the backend."""

    def __init__(self, values):
        self.values = values

    def set(self, *, key, value, dag_id, run_id, task_id, map_index):
        self.values[dag_id, run_id, task_id, map_index, key] = json.loads(json.dumps(value))

    def get_value(self, *, ti_key, key):
        return self.values.get((ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index, key))


def test_status_and_links_do_not_go_through_an_xcom_backend(platform, runner, known, export, deferrable, monkeypatch):
    """Its database would only have a reference."""
    shown = {}
    monkeypatch.setattr("airflow_sb_provider.task_status.HAS_XCOM_BACKEND", True)
    monkeypatch.setattr("airflow_sb_provider.task_status.PlainXCom", PlainOnly(shown))
    operator = export(deferrable=deferrable)
    result = runner.run(operator)
    assert runner.xcom == {"export_id": result["export_id"]}
    status = shown["dag", "run", operator.task_id, -1, STATUS]
    assert (status["state"], status["location"]) == ("COMPLETED", "a/b.txt")
    # The fields from before the deferral are still there.
    assert status["submitted_at"]
    for kind in LINKS:
        assert shown["dag", "run", operator.task_id, -1, kind().xcom_key].startswith("https://")


def test_a_bulk_export_publishes_its_progress(platform, runner, written, known, deferrable):
    ids = [platform.add_file(f"{n}.vcf", b"x" * 10, "demo/many").id for n in range(120)]
    platform.trouble("job_fails", code=9103, message="No <b>access</b>.")
    operator = SevenBridgesBulkExportOperator(
        task_id="export",
        project="demo/many",
        volume="demo/results",
        location_pattern="all/{name}",
        deferrable=deferrable,
        poll_interval=0.1,
        max_active=100,
    )
    with pytest.raises(Exception, match="were not exported"):
        runner.run(operator)
    published = statuses(written)
    first, second, last = published[0], published[1], published[-1]
    assert (first["kind"], first["total"], first["counts"]) == ("bulk", 120, {"WAITING": 120})
    assert first["source"] == last["source"] == "project demo/many"
    assert first["uri"] == last["uri"] == "s3://demo-results/exports/all/"
    assert first["bytes_total"] == 1200
    assert second["counts"].get("WAITING") == 20
    assert last["counts"]["COMPLETED"] == 120 - last["counts"]["FAILED"]
    assert last["errors"][0]["message"].startswith("No <b>access</b>.")
    assert not last.get("error")
    assert (last["copy_only"], last["overwrite"], last["manifest"]) == (False, False, None)
    assert all(len(json.dumps(value)) < 12_000 for value in published)
    assert len(ids) == last["total"]
    assert [runner.xcom[kind().xcom_key] for kind in (SevenBridgesProjectLink, *LINKS[1:])] == [
        "https://platform.example/u/demo/many/",
        "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/",
        "https://s3.console.aws.amazon.com/s3/buckets/demo-results?prefix=exports/all/",
    ]


def test_a_bulk_export_that_cannot_be_submitted_publishes_the_reason(platform, runner, written):
    operator = SevenBridgesBulkExportOperator(task_id="export", project="demo/none", volume="demo/results")
    with pytest.raises(Exception, match=r"."):
        runner.run(operator)
    assert statuses(written)[-1]["error"]["reason"]


def test_a_trigger_writes_each_change_but_the_last(platform, export, monkeypatch):
    """After the last change the worker resumes and publishes more."""
    written = []

    async def aset(**what):
        written.append(what)
        platform.knobs.running_seconds = 0.0

    monkeypatch.setattr(progress_module, "XCom", SimpleNamespace(aset=aset))
    start_when_polled(platform)
    hook = export().hook
    job = hook.start_export(platform.add_file("a.txt", b"x").id, "demo/results", "t/a.txt")

    async def run():
        trigger = SevenBridgesExportTrigger([job.id], poll_interval=0.1)
        trigger._task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3)
        return [event async for event in trigger.run()]

    assert len(asyncio.run(run())) == 1
    assert [each["value"]["state"] for each in written] == ["RUNNING"]
    assert {(each["key"], each["dag_id"], each["run_id"], each["task_id"], each["map_index"]) for each in written} == {
        (PROGRESS, "d", "r", "t", 3)
    }


def test_a_thousand_simultaneous_changes_are_written_one_by_one_and_only_the_newest_of_each(monkeypatch):
    written, under_way = [], []

    async def aset(*, dag_id, value, **_):
        under_way.append(dag_id)
        assert len(under_way) == 1
        await asyncio.sleep(0)
        under_way.pop()
        written.append(value["n"])
        if value["n"] == 500:
            raise RuntimeError("no room")

    monkeypatch.setattr(progress_module, "XCom", SimpleNamespace(aset=aset))
    monkeypatch.setattr(progress_module, "PAUSE", 0)
    tis = [SimpleNamespace(dag_id=f"d{index}", run_id="r", task_id="t", map_index=None) for index in range(1000)]

    async def run():
        writer = ProgressWriter()
        for round_ in range(3):
            for index, ti in enumerate(tis):
                writer.publish(ti, PROGRESS, {"n": index, "round": round_})
        writer.discard(tis[999])
        writer.publish(None, PROGRESS, {})
        writer.discard(None)
        await writer._writer
        writer.publish(tis[0], PROGRESS, {"n": 1000})
        await writer._writer

    asyncio.run(run())
    assert written == [*range(999), 1000]


@pytest.mark.parametrize(("write", "pause"), [(0.001, 0.001), (0.05, 0.05), (3.0, 0.1)])
def test_progress_uses_the_pipe_to_airflow_at_most_half_of_the_time(monkeypatch, write, pause):
    """Ten thousand simultaneous changes take twice as long as their writes, without pauses of 0.1 s."""
    now, pauses = 0.0, []

    async def aset(**_):
        nonlocal now
        now += write

    async def sleep(seconds):
        pauses.append(seconds)

    monkeypatch.setattr(progress_module, "XCom", SimpleNamespace(aset=aset))
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(
        progress_module, "asyncio", SimpleNamespace(sleep=sleep, get_running_loop=asyncio.get_running_loop)
    )

    async def run():
        writer = ProgressWriter()
        for index in range(100):
            ti = SimpleNamespace(dag_id=f"d{index}", run_id="r", task_id="t", map_index=-1)
            writer.publish(ti, PROGRESS, {"n": index})
        await writer._writer

    asyncio.run(run())
    assert pauses == [pytest.approx(pause)] * 100


def test_progress_does_not_go_through_an_xcom_backend(monkeypatch):
    """A slow backend would block the event loop."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time import task_runner

    sent = []

    class Backend(BaseXCom):
        @staticmethod
        def serialize_value(value, **where):
            raise AssertionError("the backend was called")

    class Comms:
        async def asend(self, message):  # codespell:ignore asend
            sent.append((message.key, message.value))

    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", Backend)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)

    async def run():
        writer = ProgressWriter()
        writer.publish(
            SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1), PROGRESS, {"state": "RUNNING"}
        )
        await writer._writer

    asyncio.run(run())
    assert sent == [(PROGRESS, {"state": "RUNNING"})]


def test_progress_is_not_written_where_airflow_has_no_async_write(monkeypatch):
    monkeypatch.setattr(progress_module, "XCom", SimpleNamespace())

    async def run():
        writer = ProgressWriter()
        writer.publish(SimpleNamespace(dag_id="d", run_id="r", task_id="t"), PROGRESS, {})
        return writer._writer

    assert asyncio.run(run()) is None
