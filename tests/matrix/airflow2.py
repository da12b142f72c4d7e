"""A real Airflow 2 of separate processes, with the interface of the stack of Airflow 3."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import requests

from dev.airflow_stack import AirflowStack, StackError

COMPONENTS = {
    "webserver": ("webserver",),
    # The scheduler parses the DAGs, too.
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
# Every user is an administrator, as in the stack of Airflow 3.
WEBSERVER_CONFIG = "AUTH_ROLE_PUBLIC = 'Admin'\nWTF_CSRF_ENABLED = True\n"


class Airflow2Stack(AirflowStack):
    """An Airflow with webserver, scheduler and triggerer, on loopback, with its older REST API."""

    def __init__(self, home, dags_folder, connections=None, extra_env=None):
        super().__init__(home, dags_folder, connections, extra_env)
        self.env |= {
            "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
            # SQLite allows no other executor.
            "AIRFLOW__CORE__EXECUTOR": "SequentialExecutor",
            "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__WEBSERVER__SECRET_KEY": self.env["AIRFLOW__API__SECRET_KEY"],
            "AIRFLOW__WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
            "AIRFLOW__WEBSERVER__WEB_SERVER_PORT": str(self.port),
            "AIRFLOW__WEBSERVER__WORKERS": "1",
            # Its executor starts tasks with the `airflow` command.
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), self.env["PATH"]]),
        }

    def __enter__(self):
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            (self.home / "webserver_config.py").write_text(WEBSERVER_CONFIG)
            self.migrate()
            for name in COMPONENTS:
                self.start(name)
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def start(self, name):
        self.processes[name] = self._spawn(name, COMPONENTS[name])

    def api(self, method, path, **kwargs):
        return self._session.request(method, f"{self.url}/api/v1{path}", timeout=30, **kwargs)

    def wait_healthy(self, timeout=120.0):
        health = {}
        for _ in self._until(timeout):
            with suppress(requests.RequestException, ValueError):
                health = self.api("GET", "/health").json()
            if all(
                health.get(part, {}).get("status") == "healthy" for part in ("metadatabase", "scheduler", "triggerer")
            ):
                return
        raise StackError(f"Airflow is not healthy after {timeout:.0f} s: {health}")

    def trigger(self, dag_id, conf=None):
        self.wait_for_dag(dag_id)
        answer = self.api("POST", f"/dags/{dag_id}/dagRuns", json={"conf": dict(conf or {})})
        if not answer.ok:
            raise StackError(f"{dag_id} was not triggered: {answer.status_code} {answer.text[:1000]}")
        return answer.json()["dag_run_id"]

    def xcom(self, dag_id, run_id, task_id, key="return_value", map_index=-1):
        """Airflow 2 returns a value as Python's repr."""
        import ast

        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        value = self.get(path, map_index=map_index)["value"]
        with suppress(ValueError, SyntaxError):
            return ast.literal_eval(value)
        return value
