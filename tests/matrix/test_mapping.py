"""Mapped tasks, templates and XComs, which differ between Airflows, with `airflow dags test`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.matrix.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAMES = (
    "{{ conn.sevenbridges_default.password }}.vcf",
    "{{ 7*191 }}.vcf",
    "{% raw %}.vcf",
    "{# c #}.vcf",
)
DAG_IDS = ("matrix_hook_results", "matrix_mapped_names", "matrix_mapped_waits")


@pytest.fixture(scope="module")
def files(platform):
    return {name: platform.add_file(name, b"x", "demo/hostile").id for name in NAMES}


@pytest.fixture(scope="module")
def waited(platform):
    return [platform.add_file(f"{number}.txt", b"x", "demo/waits").id for number in range(3)]


@pytest.fixture(scope="module")
def results(tmp_path_factory, environment, files, waited):
    path = tmp_path_factory.mktemp("results") / "results.json"
    for command in (["airflow", "db", "migrate"], ["tests.matrix.dags_test", str(path), *DAG_IDS]):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=True)
    return json.loads(path.read_text())["runs"]


@pytest.mark.parametrize("dag_id", DAG_IDS)
def test_it_succeeds(results, dag_id):
    run = results[dag_id]
    assert (run["error"], run["states"]) == (None, ["success"])
    assert set(run["tasks"].values()) == {"success"}


@pytest.mark.parametrize("way", ["kwargs", "map", "lists", "ids"])
def test_no_name_is_rendered(results, platform, files, way):
    made = {job.location: job.file for job in platform.exports if job.location.startswith(f"{way}/")}
    assert made == {f"{way}/{name}": file for name, file in files.items()}


def test_templates_of_the_author_are_rendered(results, platform, files):
    made = [job.location for job in platform.exports if job.location.startswith("matrix_mapped_names/")]
    assert sorted(made) == sorted(f"matrix_mapped_names/{file}" for file in files.values())


def test_a_bulk_export_used_the_xcoms_of_mapped_tasks(results, platform, waited):
    assert sorted(job.file for job in platform.exports if job.volume == "demo/archive") == sorted(waited)
