"""The token is in no log, XCom, rendered field, trigger or exception; the tests search all of Airflow's home."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime

import pytest
from airflow.sdk import DAG

from airflow_sb_provider.operators.export import SevenBridgesExportOperator
from airflow_sb_provider.sensors.export import SevenBridgesExportSensor
from tests.integration.dags.conftest import airflow_home

GET = "/v2/bulk/storage/exports/get"


def calm(platform):
    pass


def failed_job(platform):
    platform.trouble("job_fails", code=9101)


def lost_response(platform):
    platform.trouble("lose_reply")


def gateways_page(platform):
    platform.trouble("html", path=GET, times=2)
    platform.trouble("cut_json", path=GET, times=1)


def rejected_token(platform):
    platform.trouble("error", path="/v2/*", method="*", times=0, status=401, code=90001)


def stuck(platform):
    platform.knobs.stuck = True


CASES = [
    ("success", calm, {}),
    ("success", calm, {"validate_only": True}),
    ("success", calm, {"wait_for_completion": False}),
    ("success", lost_response, {}),
    ("success", gateways_page, {}),
    ("failed", failed_job, {}),
    ("failed", rejected_token, {}),
    ("failed", stuck, {"timeout": 0.3}),
    ("failed", calm, {"volume": "no volume", "properties": {"unknown": "x"}}),
    ("failed", calm, {"volume": "demo/readonly", "validate_only": True}),
    ("failed", calm, {"file": "0" * 24}),
]


def found(word):
    return {path.name for path in airflow_home().rglob("*") if path.is_file() and word.encode() in path.read_bytes()}


def assert_nowhere(token, captured):
    for spelling in (token, b64encode(token.encode()).decode()):
        assert spelling not in captured
        assert found(spelling) == set()


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "waiting"])
@pytest.mark.parametrize(
    ("end", "fault", "fields"), CASES, ids=[f"{case[1].__name__}-{json.dumps(case[2])}" for case in CASES]
)
def test_the_operator_writes_no_token(run, platform, capfd, caplog, deferrable, end, fault, fields):
    fault(platform)
    export = {"file": platform.add_file("a.txt", b"x").id, "volume": "demo/results", "location": "nowhere.txt"}
    with DAG("nowhere", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        SevenBridgesExportOperator(
            task_id="export", **{**export, "deferrable": deferrable, "poll_interval": 0.1, **fields}
        )
    assert str(run(dag).state) == end
    out, err = capfd.readouterr()
    assert_nowhere(platform.token, out + err + caplog.text)
    for job in platform.exports[:1]:
        if fault not in (lost_response, rejected_token):
            assert found(job.id), "the search finds what a task writes"


@pytest.mark.parametrize("end", ["success", "failed"])
def test_the_deferred_sensor_writes_no_token(run, platform, capfd, caplog, end):
    platform.knobs.stuck = True
    with DAG("nowhere", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        start = SevenBridgesExportOperator(
            task_id="start",
            file=platform.add_file("a.txt", b"x").id,
            volume="demo/results",
            location="nowhere.txt",
            wait_for_completion=False,
        )
        wait = SevenBridgesExportSensor(
            task_id="wait",
            export_id="{{ ti.xcom_pull(task_ids='start', key='export_id') }}",
            deferrable=True,
            timeout=0.5 if end == "failed" else 300,
        )
        start >> wait

    def let_go(record):
        if record.path == GET and end == "success":
            platform.knobs.stuck = False

    platform.on("request", let_go)
    assert str(run(dag).state) == end
    out, err = capfd.readouterr()
    assert_nowhere(platform.token, out + err + caplog.text)
    assert found(platform.exports[0].id)


def test_an_invalid_connection_writes_no_token(run, platform, capfd, caplog, monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT",
        json.dumps({"conn_type": "sevenbridges", "host": "http://platform.example", "password": "x" * 30}),
    )
    with DAG("nowhere", start_date=datetime(2026, 1, 1), schedule=None) as dag:
        SevenBridgesExportOperator(task_id="export", file="0" * 24, volume="a/b", location="c")
    assert str(run(dag).state) == "failed"
    out, err = capfd.readouterr()
    assert_nowhere("x" * 30, out + err + caplog.text)
