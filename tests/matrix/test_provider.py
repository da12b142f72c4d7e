"""Airflow finds the provider and all of its parts, and logs no warning about it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from airflow_sb_provider import __version__
from airflow_sb_provider.exceptions import (
    SevenBridgesInputError,
    SevenBridgesMaintenanceError,
    SevenBridgesRateLimitError,
)
from airflow_sb_provider.get_provider_info import get_provider_info
from airflow_sb_provider.retry_policy import SevenBridgesRetryPolicy
from airflow_sb_provider.triggers.watcher import SevenBridgesExportEventTrigger
from tests.matrix.conftest import AIRFLOW, ROOT

pytestmark = pytest.mark.timeout(900)
INFO = get_provider_info()
OF_OURS = re.compile(r"sevenbridges|seven bridges|airflow.sb.provider", re.IGNORECASE)
COMPLAINTS = re.compile(r"warn|error|exception|fail|deprecat|traceback", re.IGNORECASE)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Return the results and the output of Airflow's commands."""
    path = tmp_path_factory.mktemp("commands") / "commands.json"
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.matrix.airflow_commands", str(path)],
        cwd=ROOT,
        env={**environment, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0
    return {**json.loads(path.read_text()), "output": done.stdout}


def only(rows, **wanted):
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


def test_the_provider(commands):
    row = only(commands["rows"]["providers list"], package_name="airflow-sb-provider")
    assert row["version"] == __version__
    assert row["description"].startswith("Runs apps on the Seven Bridges Platform")


def test_the_connection_type_and_its_hook(commands):
    row = only(commands["rows"]["providers hooks"], connection_type="sevenbridges")
    assert row["class"] == INFO["connection-types"][0]["hook-class-name"]
    assert row["conn_id_attribute_name"] == "sevenbridges_conn_id"
    assert row["package_name"] == "airflow-sb-provider"
    assert row["hook_name"] == "Seven Bridges"


def test_the_links(commands):
    listed = {name for row in commands["rows"]["providers links"] for name in row.values()}
    assert set(INFO["extra-links"]) <= listed


def test_the_plugin(commands):
    assert only(commands["rows"]["plugins"], name="sevenbridges_export")


def test_airflow_logs_no_warning_about_this_package(commands):
    lines = commands["output"].splitlines()
    assert [line for line in lines if OF_OURS.search(line) and COMPLAINTS.search(line)] == []
    assert commands["deprecations"] == []


def test_a_watcher_reports_what_it_needs():
    if AIRFLOW >= (3, 3):
        assert SevenBridgesExportEventTrigger(volume="demo/results").volume == "demo/results"
    else:
        with pytest.raises(SevenBridgesInputError, match=r"needs Airflow 3\.3 or newer; this is \d"):
            SevenBridgesExportEventTrigger(volume="demo/results")


def test_a_watcher_can_be_assigned_to_a_queue_of_triggerers():
    def watcher():
        return SevenBridgesExportEventTrigger(volume="demo/results", queue="platform")

    if AIRFLOW < (3, 4):
        with pytest.raises(SevenBridgesInputError, match=r"needs Airflow 3\.\d or newer; this is \d"):
            watcher()
        return
    from airflow.sdk import DAG, Asset, AssetWatcher
    from airflow.serialization.serialized_objects import DagSerialization

    asset = Asset(name="exports", watchers=[AssetWatcher(name="exports", trigger=watcher())])
    with DAG("watched", schedule=[asset], start_date=datetime(2026, 1, 1)) as dag:
        pass
    # As the DAG processor writes it and reads it back to register the trigger.
    read = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable.asset_condition
    [[_, asset]] = read.iter_assets()
    [registered] = asset.watchers
    assert registered.trigger["queue"] == "platform"
    assert "queue" not in registered.trigger["kwargs"]


@pytest.mark.parametrize("error", [SevenBridgesMaintenanceError(503, 0), SevenBridgesRateLimitError(429)])
def test_a_retry_policy_waits_for_the_platform(error):
    if AIRFLOW < (3, 3):
        with pytest.raises(SevenBridgesInputError, match=r"needs Airflow 3\.3 or newer; this is \d"):
            SevenBridgesRetryPolicy()
        return
    decision = SevenBridgesRetryPolicy(delay=60, reschedule_timeout=3600).evaluate(error, 1, 0)
    assert decision.retry_delay == timedelta(minutes=1)
    if AIRFLOW >= (3, 4):
        assert (decision.action.value, decision.reschedule_timeout) == ("reschedule", timedelta(hours=1))
    else:
        assert decision.action.value == "retry"
