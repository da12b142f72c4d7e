"""The first try is killed after the Platform has accepted its export; the second must adopt it."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_sb_provider.operators.export import SevenBridgesExportOperator

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG


class LostAtFirst(SevenBridgesExportOperator):
    def execute(self, context):
        context["ti"].xcom_push(key="has_store", value=context.get("task_state_store") is not None)
        return super().execute(context)

    def resume(self, context, event=None):
        if context["ti"].try_number == 1:
            raise RuntimeError("the worker is lost")
        return super().resume(context, event)


with DAG("matrix_lost_worker", start_date=datetime(2026, 1, 1), schedule=None):
    # A move, which cannot be repeated.
    LostAtFirst(
        task_id="export",
        file="{{ dag_run.conf['file'] }}",
        volume="demo/results",
        location="lost-worker.txt",
        deferrable=True,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
