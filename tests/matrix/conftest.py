from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import no_proxy_for_loopback

ROOT = Path(__file__).parents[2]
# A beta of 3.4 has the features of 3.4.
AIRFLOW = Version(version("apache-airflow")).release


@pytest.fixture(scope="module")
def platform():
    with Emulator(knobs=Knobs(pending_seconds=0.2, running_seconds=0.2)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def dags_folder(tmp_path_factory):
    """Return a folder with the examples that this Airflow can run and the DAGs of these tests."""
    from tests.matrix.offered import examples

    folder = tmp_path_factory.mktemp("dags")
    here, _ = examples(AIRFLOW)
    for path in [*here, *(ROOT / "tests" / "matrix" / "dags").glob("*.py")]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory, dags_folder, platform):
    """Return the environment of an Airflow with a database and the DAGs."""
    home = tmp_path_factory.mktemp("airflow")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        **no_proxy_for_loopback(os.environ),
        **platform.s3_environment(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_SEVENBRIDGES_DEFAULT": platform.connection_json(),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
