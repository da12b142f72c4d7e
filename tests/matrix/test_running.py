"""A real Airflow of this release: its user interface, and deferred tasks in its triggerer."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from airflow_sb_provider.emulator.seed import VCF
from airflow_sb_provider.get_provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from dev.airflow_stack import AirflowStack
from tests.matrix.airflow2 import Airflow2Stack
from tests.matrix.conftest import AIRFLOW

pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(1800)]
Stack = AirflowStack if AIRFLOW >= (3,) else Airflow2Stack


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, dags_folder, platform):
    connections = {"sevenbridges_default": platform.connection_json()}
    home = tmp_path_factory.mktemp("running") / "airflow"
    with Stack(home, dags_folder, connections, platform.s3_environment()) as airflow:
        if (3,) <= AIRFLOW < (3, 2):
            # Where all users are administrators, later releases accept requests without a token.
            token = airflow._session.get(f"{airflow.url}/auth/token", timeout=30).json()["access_token"]
            airflow._session.headers["Authorization"] = f"Bearer {token}"
        yield airflow


@pytest.fixture(scope="module")
def runs(airflow, platform):
    """Trigger each DAG; return the runs and their files by DAG id. The runs wait at the same time."""
    files = {
        "sevenbridges_export": VCF,
        "matrix_lost_worker": platform.add_file("lost.txt", b"kept", "demo/matrix").id,
        "sevenbridges_asset_producer": platform.add_file("announced.vcf", b"##announced", "demo/matrix").id,
        "matrix_start_from_trigger": platform.add_file("started.txt", b"x", "demo/matrix").id,
    }
    if AIRFLOW >= (3, 4):
        files["matrix_many_events"] = [platform.add_file(f"{n}.txt", b"x", "demo/matrix").id for n in range(6)]
    return {dag_id: (airflow.trigger(dag_id, {"file": file}), file) for dag_id, file in files.items()}


def page(airflow, path):
    answer = airflow._session.get(f"{airflow.url}{path}", timeout=60)
    assert answer.status_code == 200, answer.text[:500]
    return answer


def test_the_release_is_the_expected_one(airflow):
    assert airflow.get("/version")["version"] == version("apache-airflow")


def test_the_connection_form(airflow):
    if AIRFLOW < (3,):
        html = page(airflow, "/connection/add").text
        for name, field in CONN_FIELDS.items():
            assert f'name="extra__sevenbridges__{name}"' in html
            assert field["label"] in html
        assert UI_FIELD_BEHAVIOUR["relabeling"]["password"] in html
        return
    (form,) = [
        one for one in page(airflow, "/ui/connections/hook_meta").json() if one["connection_type"] == "sevenbridges"
    ]
    assert form["hook_name"] == "Seven Bridges"
    assert list(form["extra_fields"]) == list(CONN_FIELDS)
    for name, field in CONN_FIELDS.items():
        shown = form["extra_fields"][name]
        assert shown["schema"]["title"] == field["label"]
        assert shown["description"] == field["description"]
        assert ("boolean" in shown["schema"]["type"]) == ("boolean" in field["schema"]["type"])
    assert {value for value in form["extra_fields"]["environment"]["schema"]["enum"] if value} == set(
        CONN_FIELDS["environment"]["schema"]["enum"]
    )
    standard = form["standard_fields"]
    assert standard["password"]["title"] == UI_FIELD_BEHAVIOUR["relabeling"]["password"]
    assert standard["host"]["title"] == UI_FIELD_BEHAVIOUR["relabeling"]["host"]
    assert [name for name, field in standard.items() if field and field["hidden"]] == ["url_schema", "login"]


def test_the_tab(airflow):
    if AIRFLOW < (3, 1):
        print("not offered: the tab Seven Bridges, which needs Airflow 3.1 or later")
        return
    plugins = airflow.get("/plugins", limit=200)["plugins"]
    (plugin,) = [plugin for plugin in plugins if plugin["name"] == "sevenbridges_export"]
    (view,) = plugin["external_views"]
    assert (view["name"], view["destination"]) == ("Seven Bridges", "task_instance")
    if AIRFLOW >= (3, 4):
        # Airflow omits a rule that is invalid, and a view whose rule names an unknown field. The browser applies it.
        [(field, [value])] = view["applies_to"].items()
        airflow.wait_for_dag("sevenbridges_export")
        tasks = airflow.get("/dags/sevenbridges_export/tasks")["tasks"]
        shown = {task["task_id"]: value in task[field.removeprefix("task.")] for task in tasks}
        assert shown == {"properties": False, "export": True, "read_object": False}
    else:
        print("not offered: the tab only on tasks of this provider, which needs Airflow 3.4")
    assert "<script" in page(airflow, "/" + view["href"].split("?")[0]).text
    assert page(airflow, "/" + view["icon"]).headers["content-type"].startswith("image/svg+xml")


def test_an_export_waits_in_the_triggerer(airflow, platform, runs):
    dag_id = "sevenbridges_export"
    run_id, file = runs[dag_id]
    assert airflow.wait(dag_id, run_id) == dict.fromkeys(("properties", "export", "read_object"), "success")
    result = airflow.xcom(dag_id, run_id, "export")
    (job,) = [job for job in platform.exports if job.file == file]
    assert (result["export_id"], result["state"], result["adopted"]) == (job.id, "COMPLETED", False)
    assert "##fileformat=VCFv4.2" in airflow.xcom(dag_id, run_id, "read_object")
    assert airflow.xcom(dag_id, run_id, "export", key="sevenbridges_status")["state"] == "COMPLETED"


def test_after_a_lost_worker_a_retry_adopts_the_export(airflow, platform, runs):
    dag_id = "matrix_lost_worker"
    run_id, file = runs[dag_id]
    assert airflow.wait(dag_id, run_id) == {"export": "success"}
    (instance,) = airflow.task_instances(dag_id, run_id)
    assert instance["try_number"] == 2
    # Also on Airflow 3.0, which runs the resumed method again: it starts from the beginning.
    assert airflow.xcom(dag_id, run_id, "export")["adopted"] is True
    (job,) = [job for job in platform.exports if job.file == file]
    assert job.state == "COMPLETED"
    assert platform.object_bytes("demo/results", "lost-worker.txt") == b"kept"
    assert airflow.xcom(dag_id, run_id, "export", key="has_store") is (AIRFLOW >= (3, 3))
    if AIRFLOW < (3, 3):
        print("not offered: a record across retries, which is new in Airflow 3.3; a retry checks the Platform instead")


def test_a_sensor_may_start_from_its_trigger(airflow, platform, runs):
    dag_id = "matrix_start_from_trigger"
    run_id, file = runs[dag_id]
    assert airflow.wait(dag_id, run_id) == {"start": "success", "wait": "success"}
    (job,) = [job for job in platform.exports if job.file == file]
    assert airflow.xcom(dag_id, run_id, "wait")["export_id"] == job.id
    if AIRFLOW < (3, 3):
        print("not offered: start_from_trigger, which needs Airflow 3.3; the sensor defers from a worker")


def test_a_completed_export_triggers_another_dag(airflow, runs):
    run_id, _ = runs["sevenbridges_asset_producer"]
    assert airflow.wait("sevenbridges_asset_producer", run_id) == {"export": "success"}
    started = []
    for _ in airflow._until(60):
        started = airflow.get("/dags/sevenbridges_asset_consumer/dagRuns")["dag_runs"]
        if started:
            break
    (run,) = started
    assert run["run_type"] in ("dataset_triggered", "asset_triggered")
    if AIRFLOW >= (3, 3):
        # In earlier releases Airflow opens s3:// only with the amazon provider.
        run_id = run["dag_run_id"]
        assert airflow.wait("sevenbridges_asset_consumer", run_id) == {"read_objects": "success"}
        read = airflow.xcom("sevenbridges_asset_consumer", run_id, "read_objects")
        assert read == {"s3://demo-results/exports/announced/sample.vcf": "##announced"}


def test_the_exports_of_one_task_trigger_one_run(airflow, platform, runs):
    """Since 3.4 each asset event starts a run of its own, so that the task emits one event for all."""
    if AIRFLOW < (3, 4):
        return
    run_id, files = runs["matrix_many_events"]
    assert airflow.wait("matrix_many_events", run_id) == {"export": "success"}
    assert {job.state for job in platform.exports if job.file in files} == {"COMPLETED"}
    consumed = []
    for _ in airflow._until(60):
        consumed = airflow.get("/dags/matrix_events_consumer/dagRuns")["dag_runs"]
        if consumed and {run["state"] for run in consumed} == {"success"}:
            break
    # The run has ended, so that further ones would have been created.
    assert len(consumed) == 1


def test_a_reschedule_uses_no_retry(airflow):
    if AIRFLOW < (3, 4):
        print("not offered: a reschedule without using a retry, which needs Airflow 3.4; the policy retries")
        return
    # Not with the others: the first task on a new API server may meet a time-out, and this one has no retries.
    run_id = airflow.trigger("matrix_reschedule")
    assert airflow.wait("matrix_reschedule", run_id) == {"submit": "success"}
    assert airflow.xcom("matrix_reschedule", run_id, "submit") == 3
    [instance] = airflow.task_instances("matrix_reschedule", run_id)
    assert (instance["try_number"], instance["max_tries"]) == (1, 0)
