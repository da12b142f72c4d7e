"""The DAGs of `make week` can be parsed; `make week` runs them."""

from __future__ import annotations

import runpy

import pytest

from dev.week import DAGS, NEW, NIGHTS


@pytest.mark.parametrize("dag_id", NEW)
def test_the_dag_can_be_parsed_and_has_files_for_each_night(dag_id, monkeypatch, tmp_path):
    monkeypatch.setenv("WEEK_MANIFESTS", str(tmp_path))
    assert dag_id in runpy.run_path(str(DAGS / f"{dag_id}.py"))
    assert len(NEW[dag_id]) == len(NIGHTS)
