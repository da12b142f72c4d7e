"""Names, locations, states, ids and errors written by other people cannot forge log lines of any operator or sensor."""

from __future__ import annotations

import contextlib
import json
import logging

import pytest
from airflow.sdk.exceptions import AirflowException

from airflow_sb_provider.emulator.serializers import Serializer
from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook
from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from airflow_sb_provider.triggers.log_writer import log_writer

LINE = "2026-01-01T00:00:00.000000Z [info     ] Export done"
FORGED = {
    "line feed": f"x\n{LINE}",
    "carriage return": f"x\r{LINE}",
    "both": f"x\r\n\r\n{LINE}",
    "next line": f"x\u0085{LINE}",
    "line separator": f"x\u2028{LINE}",
    "paragraph separator": f"x\u2029{LINE}",
    "vertical": f"x\x0b\x0c\x1c\x1d\x1e{LINE}",
    "terminal": "\x1b[2J\x1b]0;x\x07\x9b31m",
    "direction": "x\u202egnp.exe\u2066\u200f",
    "long": "x" * 10_000,
}
forgeries = pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)


@pytest.fixture
def logged_lines(capsys, caplog, monkeypatch):
    """The logged messages of any level."""
    caplog.set_level(logging.DEBUG)
    lines = []
    # The triggers' lines, which a thread would write later.
    monkeypatch.setattr(log_writer, "write", lambda context, logger, new: lines.extend(new))

    def logged_lines():
        records = [record.getMessage() for record in caplog.records if "airflow_sb_provider" in record.name]
        return [*lines, *records, *capsys.readouterr().out.split("\n")]

    return logged_lines


def check(lines, *, limit=5000):
    for line in lines:
        assert line.isprintable(), repr(line[:500])
        assert not line.startswith(LINE)
        assert len(line) <= limit


def check_text(text):
    """An error may have several lines, such as a table; none of them may be forged."""
    check(text.split("\n"))


@pytest.fixture
def forge(monkeypatch):
    """Change the resources that the Platform returns; each change is a function of the resource."""

    def forge(**changes):
        for kind, change in changes.items():
            real = getattr(Serializer, kind)

            def view(self, thing, *more, real=real, change=change):
                resource = real(self, thing, *more)
                change(resource)
                return resource

            monkeypatch.setattr(Serializer, kind, view)

    return forge


def fail_with(forged):
    def change(job):
        if job["state"] == "COMPLETED":
            job["state"] = forged
            job["error"] = {"status": 409, "code": 5034, "message": forged, "more_info": forged}
            job.pop("result", None)

    return change


def place_at(forged):
    def change(job):
        job["destination"] = {"volume": forged, "location": forged}
        job["source"] = {"file": forged} if job["state"] != "PENDING" else job["source"]

    return change


def name_it(forged):
    def change(file):
        file.update(name=forged, project=forged)

    return change


@forgeries
def test_the_operator(platform, runner, export, deferrable, forge, logged_lines, forged):
    forge(export=fail_with(forged), file=name_it(forged))
    with pytest.raises(AirflowException) as caught:
        runner.run(export(deferrable=deferrable, copy_only=True))
    check_text(str(caught.value))
    lines = logged_lines()
    assert any("Checking for the cause" in line for line in lines)
    check(lines)
    check_text(runner.xcom["sevenbridges_status"]["error"]["reason"])


@forgeries
def test_the_operator_when_the_export_completes(platform, runner, export, deferrable, forge, logged_lines, forged):
    forge(export=place_at(forged), file=name_it(forged))
    with contextlib.suppress(AirflowException):
        runner.run(export(deferrable=deferrable))
    check(logged_lines())
    for text in strings(runner.xcom["sevenbridges_status"]):
        check_text(text)


@forgeries
def test_the_operator_in_a_dry_run(platform, runner, export, forge, logged_lines, forged):
    forge(file=name_it(forged), volume=lambda volume: volume.update(access_mode=forged))
    with pytest.raises(AirflowException) as caught:
        runner.run(export(validate_only=True))
    check_text(str(caught.value))
    check(logged_lines())


@forgeries
def test_the_result_of_a_dry_run(platform, runner, export, forge, logged_lines, forged):
    forge(file=name_it(forged), user=lambda user: user.update(username=forged))
    runner.run(export(validate_only=True))
    check(logged_lines())


@forgeries
def test_an_alias(platform, runner, export, forge, logged_lines, forged):
    forge(file=lambda file: file.update(storage={"type": "VOLUME", "volume": forged, "location": forged}))
    platform.trouble("error", status=403, code=9006, message=forged)
    with pytest.raises(AirflowException) as caught:
        runner.run(export())
    check_text(str(caught.value))
    check(logged_lines())


@forgeries
def test_the_bulk_operator(platform, runner, forge, logged_lines, forged):
    ids = [platform.add_file(f"{number}.vcf", b"x", "demo/many").id for number in range(3)]
    forge(export=fail_with(forged), file=name_it(forged))
    exports = [{"file": each, "volume": "demo/results", "location": f"m/{each}"} for each in ids]
    operator = SevenBridgesBulkExportOperator(task_id="bulk", exports=exports, poll_interval=0.1, deferrable=True)
    with pytest.raises(AirflowException) as caught:
        runner.run(operator)
    check_text(str(caught.value))
    check(logged_lines())
    for text in strings([runner.xcom["summary"], runner.xcom["sevenbridges_status"]]):
        check_text(text)


@forgeries
def test_the_bulk_operator_in_a_dry_run(platform, runner, forge, logged_lines, forged):
    ids = [platform.add_file(f"{number}.vcf", b"x", "demo/many").id for number in range(3)]
    forge(file=name_it(forged))
    exports = [{"file": each, "volume": "demo/results", "location": f"m/{each}"} for each in ids]
    runner.run(SevenBridgesBulkExportOperator(task_id="bulk", exports=exports, validate_only=True))
    check(logged_lines())


@forgeries
def test_the_sensor(platform, runner, forge, deferrable, logged_lines, forged):
    file = platform.add_file("a.txt", b"x").id
    export_id = SevenBridgesHook().start_export(file, "demo/results", "a.txt").id

    def change(job):
        place_at(forged)(job)
        fail_with(forged)(job)

    forge(export=change)
    sensor = SevenBridgesExportSensor(
        task_id="wait", export_id=export_id, poke_interval=0.1, timeout=300, deferrable=deferrable
    )
    with pytest.raises(AirflowException) as caught:
        runner.run(sensor)
    check_text(str(caught.value))
    check(logged_lines())


@forgeries
@pytest.mark.parametrize("status", [401, 404])
def test_a_rejected_poll(platform, runner, export, deferrable, logged_lines, forged, status):
    platform.trouble("error", path="/v2/bulk/storage/exports/get", times=0, status=status, code=9000, message=forged)
    with pytest.raises(AirflowException) as caught:
        runner.run(export(deferrable=deferrable))
    check_text(str(caught.value))
    check(logged_lines())


@forgeries
def test_a_gateway_page(platform, runner, export, deferrable, logged_lines, forged, monkeypatch):
    monkeypatch.setattr("airflow_sb_provider.hooks.retry._backoff", lambda state: 0.05)
    platform.trouble("html", method="*", path="*", times=4, status=502, body=json.dumps({"message": forged}))
    runner.run(export(deferrable=deferrable))
    check(logged_lines())


@forgeries
def test_an_id(platform, runner, export, deferrable, forge, logged_lines, forged):
    forge(export=lambda job: job.update(id=forged))
    result = runner.run(export(deferrable=deferrable))
    check(logged_lines())
    assert (result["export_id"], result["adopted"]) == (None, True)
    assert forged not in strings(runner.xcom)


def strings(value):
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings(each)]
    return [text for each in value for text in strings(each)] if isinstance(value, list) else []
