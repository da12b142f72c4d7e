from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import fsspec
import pytest

from airflow_sb_provider.emulator import Emulator, Knobs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def metadata_database():
    """Create the database of the tests' AIRFLOW_HOME."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def quick(monkeypatch):
    """Poll immediately after the submission."""
    monkeypatch.setattr("airflow_sb_provider.jobs.poll_schedule.FIRST_POLL", 0.1)


@pytest.fixture
def platform(monkeypatch):
    with Emulator(knobs=Knobs(pending_seconds=0.05, running_seconds=0.05)) as emulator:
        use(monkeypatch, emulator)
        for name, value in emulator.s3_environment().items():
            monkeypatch.setenv(name, value)
        # A process caches its S3 clients, and every test has its own endpoint.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield emulator


def use(monkeypatch, emulator):
    monkeypatch.setenv("AIRFLOW_CONN_SEVENBRIDGES_DEFAULT", emulator.connection_json())


def example(name):
    """Return the DAG of a file in example_dags/; its id is the file's name."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "example_dags" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)()


@pytest.fixture
def run(metadata_database, quick, platform):
    """Run a DAG in this process, including deferrals, and return its run."""

    def run_dag(dag, **options):
        serialize(dag)
        return dag.test(**options)

    return run_dag


def serialize(dag):
    """Write a DAG to Airflow's database, as `dag.test()` requires from 3.3 on; uses Airflow's internals."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dagbundle import DagBundleModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.session import create_session

    with create_session() as session:
        session.merge(DagBundleModel(name="testing"))
        session.commit()
        serialized = [LazyDeserializedDAG.from_dag(dag)]
        update_dag_parsing_results_in_db("testing", None, serialized, {}, None, set(), session)


def xcom(dag_run, task_id, key="return_value"):
    return dag_run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)


def airflow_home():
    return Path(os.environ["AIRFLOW_HOME"])
