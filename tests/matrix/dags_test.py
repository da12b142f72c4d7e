"""`python -m tests.matrix.dags_test RESULTS DAG_ID...`: runs `airflow dags test` for each DAG in one process."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path

from tests.matrix.deprecations import Deprecations


def main(results, *dag_ids):
    provider = Path(importlib.util.find_spec("airflow_sb_provider").origin).parent
    seen = Deprecations(provider, os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).watch()
    from airflow_sb_provider.jobs import poll_schedule as schedule

    # Exports take less than a second here; an earlier first poll would cost a whole interval.
    schedule.FIRST_POLL = 1.0
    runs = {dag_id: _run(dag_id) for dag_id in dag_ids}
    Path(results).write_text(json.dumps({"runs": runs, "deprecations": seen.ours}))


def _run(dag_id):
    from airflow.__main__ import main as airflow

    sys.argv = ["airflow", "dags", "test", dag_id]
    print(f"$ {' '.join(sys.argv)}", flush=True)
    error = None
    try:
        airflow()
    except SystemExit as end:
        error = str(end.code) if end.code else None
    except Exception:
        error = traceback.format_exc()
    return {"error": error, **_states(dag_id)}


def _states(dag_id):
    from airflow.models import DagRun, TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        runs = session.query(DagRun).filter(DagRun.dag_id == dag_id).all()
        instances = session.query(TaskInstance).filter(TaskInstance.dag_id == dag_id).all()
        return {
            "states": [str(run.state) for run in runs],
            "tasks": {f"{ti.task_id}[{ti.map_index}]": str(ti.state) for ti in instances},
        }


if __name__ == "__main__":
    main(*sys.argv[1:])
