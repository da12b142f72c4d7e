"""A task without retries meets maintenance; its retry policy runs it again where Airflow can reschedule."""

from __future__ import annotations

from datetime import datetime

try:
    from airflow.sdk import DAG, RetryAction, task
except ImportError:
    RetryAction = None

if hasattr(RetryAction, "RESCHEDULE"):
    from airflow_sb_provider.exceptions import SevenBridgesMaintenanceError
    from airflow_sb_provider.retry_policy import SevenBridgesRetryPolicy

    with DAG("matrix_reschedule", start_date=datetime(2026, 1, 1), schedule=None):

        @task(retries=0, retry_policy=SevenBridgesRetryPolicy(delay=1))
        def submit(task_state_store=None):
            runs = task_state_store.get("runs", 0) + 1
            task_state_store.set("runs", runs)
            if runs < 3:
                raise SevenBridgesMaintenanceError(503, 0, "Maintenance.")
            return runs

        submit()
