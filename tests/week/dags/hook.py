"""Submit exports and wait for them with the hook, in `@task`s."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import Param, dag, get_current_context, task

from airflow_sb_provider.hooks.sevenbridges import SevenBridgesHook


@dag(start_date=datetime(2026, 1, 1), schedule=None, params={"files": Param([], type="array")})
def hook():
    @task(retries=0)  # A retry would submit the exports again.
    def submit():
        files = get_current_context()["params"]["files"]
        hook = SevenBridgesHook()
        exports = [{"file": file, "volume": "demo/results", "location": f"by-hook/{file}"} for file in files]
        jobs = hook.raise_for_errors(hook.start_exports(exports, copy_only=True))
        return [job.id for job in jobs]

    @task(retries=3)
    def wait(export_ids):
        jobs = SevenBridgesHook().wait_for_exports(export_ids, timeout=600)
        return [job.location for job in jobs]

    wait(submit())


hook()
