"""The DAGs that the kill scenarios run: one export or many in a task, an app, and sixty exports."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from airflow_sb_provider.operators.export import SevenBridgesBulkExportOperator, SevenBridgesExportOperator
from airflow_sb_provider.operators.task import SevenBridgesTaskOperator

PARAMS = {
    "file": Param("", type="string"),
    "location": Param("", type="string"),
    "overwrite": Param(False, type="boolean"),
    "copy_only": Param(False, type="boolean"),
}
RETRIES = {"retries": 3, "retry_delay": timedelta(seconds=1)}


class PausingOperator(SevenBridgesExportOperator):
    """Stands still between its first try's record and the request, with its supervisor, as on a suspended machine."""

    def execute(self, context):
        self._pauses = context["ti"].try_number == 1
        return super().execute(context)

    def _policy(self):
        policy = super()._policy()
        post = policy.post

        def pause_and_post(*arguments):
            if self._pauses:
                os.kill(os.getppid(), signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)
            return post(*arguments)

        policy.post = pause_and_post
        return policy


for deferrable in (True, False):
    with DAG(
        dag_id="deferred" if deferrable else "waiting",
        schedule=None,
        start_date=datetime(2026, 1, 1),
        params=PARAMS,
        default_args=RETRIES,
    ) as dag:
        SevenBridgesExportOperator(
            task_id="export",
            file="{{ params.file }}",
            volume="demo/results",
            location="{{ params.location }}",
            overwrite="{{ params.overwrite }}",
            copy_only="{{ params.copy_only }}",
            deferrable=deferrable,
            poll_interval=1,
        )
    globals()[dag.dag_id] = dag

with DAG(
    dag_id="pausing", schedule=None, start_date=datetime(2026, 1, 1), params=PARAMS, default_args=RETRIES
) as pausing:
    PausingOperator(
        task_id="export",
        file="{{ params.file }}",
        volume="demo/results",
        location="{{ params.location }}",
        deferrable=False,
        poll_interval=1,
    )

for deferrable in (True, False):
    with DAG(
        dag_id="app_deferred" if deferrable else "app_waiting",
        schedule=None,
        start_date=datetime(2026, 1, 1),
        params={"file": Param("", type="string")},
        default_args=RETRIES,
    ) as dag:
        SevenBridgesTaskOperator(
            task_id="run_app",
            app="demo/genomics/word-count",
            project="demo/genomics",
            inputs={"files": ["{{ params.file }}"]},
            deferrable=deferrable,
            poll_interval=1,
        )
    globals()[dag.dag_id] = dag

BULK_PARAMS = {
    "project": Param("", type="string"),
    "folder": Param("", type="string"),
    "max_files": Param(1000, type="integer"),
}

for deferrable in (True, False):
    for name, max_active, on_error in (
        ("bulk", 1000, "fail_at_end"),
        ("waves", 100, "fail_at_end"),
        ("fast", 1000, "fail_fast"),
    ):
        with DAG(
            dag_id=f"{name}_deferred" if deferrable else f"{name}_waiting",
            schedule=None,
            start_date=datetime(2026, 1, 1),
            params=BULK_PARAMS,
            default_args=RETRIES,
        ) as dag:
            SevenBridgesBulkExportOperator(
                task_id="export",
                project="{{ params.project }}",
                volume="demo/results",
                location_pattern="{{ params.folder }}/{name}",
                max_files="{{ params.max_files }}",
                max_active=max_active,
                on_error=on_error,
                deferrable=deferrable,
                poll_interval=1,
            )
        globals()[dag.dag_id] = dag

with DAG(
    dag_id="many",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    params={"files": Param([], type="array")},
    default_args=RETRIES,
    render_template_as_native_obj=True,
) as many:
    SevenBridgesExportOperator.partial(
        task_id="export", volume="demo/results", deferrable=True, poll_interval=1
    ).expand_kwargs([{"file": f"{number:024x}", "location": f"many/{number}"} for number in range(1, 61)])
