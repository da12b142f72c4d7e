"""The DAGs of `make week` can be parsed, and its checks fail; `make week` runs the DAGs."""

from __future__ import annotations

import runpy

import pytest

from airflow_sb_provider.emulator import Emulator
from dev.mailbox import Mailbox
from dev.week import DAGS, NEW, NIGHTS, Week


@pytest.mark.parametrize("dag_id", NEW)
def test_the_dag_can_be_parsed_and_has_files_for_each_night(dag_id, monkeypatch, tmp_path):
    monkeypatch.setenv("WEEK_MANIFESTS", str(tmp_path))
    assert dag_id in runpy.run_path(str(DAGS / f"{dag_id}.py"))
    assert len(NEW[dag_id]) == len(NIGHTS)


@pytest.mark.parametrize("times", [0, 2])
def test_a_file_that_is_not_exported_exactly_once_is_a_problem(times):
    with Emulator() as platform, Mailbox() as mailbox:
        week = Week(platform, None, mailbox)
        files = [week.add("hook", "a.txt"), week.add("hook", "b.txt")]
        for file, count in zip(files, (times, 1), strict=True):
            for number in range(count):
                body = {
                    "source": {"file": file.id},
                    "destination": {"volume": "demo/results", "location": f"{file.id}/{number}"},
                }
                platform.platform.submit(platform.platform.users[platform.token], body, copy_only=True).enter(
                    "COMPLETED"
                )
                platform.put_object("demo/results", f"{file.id}/{number}", week.files[file.id])
        week.check_exports()
    assert [problem for problem in week.problems if "a.txt" in problem]
    assert not [problem for problem in week.problems if "b.txt" in problem]
