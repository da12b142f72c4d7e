"""Each example DAG that this Airflow can run, with `airflow dags test` on the local Platform."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.matrix.conftest import AIRFLOW, ROOT
from tests.matrix.offered import dag_ids, examples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HERE, LACKS = examples(AIRFLOW)
DAG_IDS = [dag_id for path in HERE for dag_id in dag_ids(path)]
# The number of exports of each DAG.
EXPORTS = {
    "sevenbridges_asset_consumer": 0,
    "sevenbridges_asset_producer": 1,
    "sevenbridges_asset_watcher": 0,
    "sevenbridges_bulk_export": 4,
    "sevenbridges_dry_run": 0,
    "sevenbridges_export": 1,
    "sevenbridges_export_two_steps": 1,
    "sevenbridges_mapped_exports": 1,
    "sevenbridges_mapped_two_steps": 1,
    "sevenbridges_nightly_export": 4,
    "sevenbridges_run_app": 2,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, environment):
    """Run `airflow dags test` for all of them in one process, and return the results."""
    for lack in LACKS:
        print(f"not offered: the example {lack}")
    path = tmp_path_factory.mktemp("results") / "results.json"
    for command in (
        ["airflow", "db", "migrate"],
        # Airflow 2 fails a task whose dataset alias is not in its database, into which the scheduler writes it.
        *([["airflow", "dags", "reserialize"]] if AIRFLOW < (3,) else []),
        ["tests.matrix.dags_test", str(path), *DAG_IDS],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, check=True)
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", DAG_IDS)
def test_an_example_succeeds(results, name):
    run = results["runs"][name]
    assert (run["error"], run["states"]) == (None, ["success"])
    assert set(run["tasks"].values()) == {"success"}


def test_each_export_is_made_once(results, platform):
    assert {job.state for job in platform.exports} == {"COMPLETED"}
    made = [(job.file, job.location) for job in platform.exports]
    assert len(made) == len(set(made)) == sum(EXPORTS[dag_id] for dag_id in DAG_IDS)


def test_no_deprecation_warning_is_ours(results):
    assert results["deprecations"] == []


def test_airflows_own_dry_run_renders_and_sends_nothing(results, environment, platform):
    if AIRFLOW >= (3,):
        print("not offered: `airflow tasks test --dry-run`, which Airflow 3 has no more")
        return
    before = len(platform.requests)
    which = ["--treat-dag-id-as-regex", "|".join(f"^{dag_id}$" for dag_id in DAG_IDS)]
    backfill = ["dags", "backfill", *which, "--dry-run", "--start-date", "2026-01-01", "--end-date", "2026-01-02"]
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *backfill],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    assert sorted(re.findall(r"^Dry run of DAG (\S+)", done.stdout, re.MULTILINE)) == sorted(DAG_IDS)
    assert len(platform.requests) == before
