"""The Compose file and the Helm values are valid, as far as it can be checked without Docker and Kubernetes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from airflow import __version__ as airflow_version
from airflow.cli.cli_parser import get_parser
from airflow.configuration import retrieve_configuration_description

from tests.docs.checks import check_variable

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "cluster"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
SERVICES = COMPOSE["services"]
SETTINGS = retrieve_configuration_description()
OURS = [name for name, service in SERVICES.items() if "build" in service]
# Variables of the images' entry points.
FOREIGN = {"DUMB_INIT_SETSID", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}
SECRETS = {
    "FERNET_KEY": "secret",
    "JWT_SECRET": "secret",
    "API_SECRET_KEY": "secret",
    "POSTGRES_PASSWORD": "secret",
    "SEVENBRIDGES_CONNECTION": '{"conn_type": "sevenbridges", "host": "bdc.example.org", "password": "YOUR_TOKEN"}',
}


def filled(text):
    """Return a value as Compose resolves it, with an .env that has all secrets."""
    return re.sub(r"\$\{(\w+):\?in \.env\}", lambda match: SECRETS[match[1]], text)


@pytest.mark.parametrize("service", SERVICES)
def test_every_variable_exists_in_airflow(service):
    for name, value in SERVICES[service].get("environment", {}).items():
        assert isinstance(value, str), name
        if name.startswith("AIRFLOW_CONN_"):
            check_variable(name, filled(value))
        elif name not in FOREIGN:
            _, section, option = name.lower().split("__")
            assert option in SETTINGS[section]["options"], name
            assert filled(value)


@pytest.mark.parametrize("service", OURS)
def test_every_command_exists_in_airflow(service):
    get_parser().parse_args(shlex.split(SERVICES[service]["command"]))


def test_every_component_runs_and_waits_for_the_database():
    commands = {SERVICES[name]["command"] for name in OURS}
    assert commands == {
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "celery worker",
        "db migrate",
    }
    for name in OURS:
        assert SERVICES[name]["depends_on"].keys() <= SERVICES.keys()
    named = {volume.split(":")[0] for each in SERVICES.values() for volume in each.get("volumes", ())}
    assert {name for name in named if not name.startswith(".")} == COMPOSE["volumes"].keys()


def test_the_image_has_the_airflow_version_of_the_development_environment():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert lines[0] == f"FROM apache/airflow:{airflow_version}"
    assert lines[1].endswith('pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" airflow-sb-provider')
    assert {SERVICES[name]["image"].rpartition(":")[2] for name in OURS} == {airflow_version}
    assert VALUES["airflowVersion"] == VALUES["images"]["airflow"]["tag"] == airflow_version


def test_every_setting_of_the_chart_exists_in_airflow():
    for section, options in VALUES["config"].items():
        assert options.keys() <= SETTINGS[section]["options"].keys()


def test_both_are_sized_the_same_for_ten_thousand_waits():
    environment = SERVICES["triggerer"]["environment"]
    replicas = SERVICES["triggerer"]["deploy"]["replicas"]
    capacity = int(environment["AIRFLOW__TRIGGERER__CAPACITY"])
    assert (VALUES["triggerer"]["replicas"], VALUES["config"]["triggerer"]["capacity"]) == (replicas, capacity)
    assert (replicas - 1) * capacity >= 10_000
    slots = SERVICES["worker"]["deploy"]["replicas"] * int(environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    assert slots == int(environment["AIRFLOW__CORE__PARALLELISM"]) == VALUES["config"]["core"]["parallelism"]
    assert slots == VALUES["workers"]["celery"]["replicas"] * VALUES["config"]["celery"]["worker_concurrency"]
