"""One real Airflow for all tests of this folder; each test has its own DAGs, files and locations."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import FINISHED, AirflowStack
from tests.integration import openlineage_events

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "example_dags"
KNOBS = Knobs(pending_seconds=0.5, running_seconds=1.0)
# After these times Airflow takes the triggers of a triggerer that was killed for unattended.
QUICK = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
}


def processes_of(home):
    """Return all processes with this AIRFLOW_HOME."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("AIRFLOW_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def holders(home, word):
    """Return the files that contain a word."""
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and word.encode() in path.read_bytes()
    )


def run_deferred(airflow, platform, dag_id, conf):
    """Run a DAG whose jobs end only after its task `export` is deferred; return the run's id and the tasks' states."""
    platform.knobs.stuck = True
    run_id = airflow.trigger(dag_id, conf)
    while airflow.states(dag_id, run_id).get("export") != "deferred":
        assert airflow.run_state(dag_id, run_id) not in FINISHED, airflow.task_log(dag_id, run_id, "export")
        airflow.check_alive()
        time.sleep(0.5)
    platform.knobs.stuck = False
    return run_id, airflow.wait(dag_id, run_id)


@pytest.fixture(scope="session")
def shared_platform():
    with Emulator(knobs=Knobs(**asdict(KNOBS))) as platform:
        platform.add_volume("demo/watched")
        yield platform


@pytest.fixture(scope="session")
def airflow(shared_platform, tmp_path_factory):
    """An Airflow with the examples and the DAGs of this folder; leaves no process, and the token in no file."""
    platform = shared_platform
    home = tmp_path_factory.mktemp("stack") / "airflow"
    assert os.environ.get("AIRFLOW_HOME") != str(home)
    dags = home / "dags"
    dags.mkdir(parents=True)
    for path in [*EXAMPLES.glob("*.py"), *(HERE / "dags").glob("*.py")]:
        shutil.copy(path, dags)
    environment = {
        **platform.s3_environment(),
        **openlineage_events.settings(home / "openlineage.jsonl"),
        **QUICK,
        "SEVENBRIDGES_MANIFESTS": f"{home}/",
    }
    with AirflowStack(home, dags, {"sevenbridges_default": platform.connection_json()}, environment) as airflow:
        yield airflow
    assert processes_of(home) == []
    ports = {connection.laddr.port for connection in psutil.net_connections("tcp") if connection.status == "LISTEN"}
    assert airflow.port not in ports
    # test_stack.py shows that the search finds what is in the database and the logs.
    assert holders(home, platform.token) == []


@pytest.fixture
def platform(shared_platform):
    yield shared_platform
    shared_platform.knobs.update(**asdict(KNOBS))
