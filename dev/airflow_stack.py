"""A real Airflow of separate processes on loopback, for the demo and for tests."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import psutil
import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    OnChange = Callable[[str, str], None]
    Say = Callable[[str], None]

COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
# The names in /monitor/health.
HEALTH = ("metadatabase", "scheduler", "dag_processor", "triggerer")
FINISHED = frozenset({"success", "failed"})
# In seconds. They only end a run that hangs: a loaded machine may need minutes for what usually takes seconds.
PATIENCE, RESPONSE_PATIENCE = 600.0, 120.0


class StackError(RuntimeError):
    """Airflow did not start or did not do as expected; the message ends with its last log lines."""


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def no_proxy_for_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the current NO_PROXY settings with loopback added."""
    present = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    value = ",".join(filter(None, [present, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}


def _sigint_back_to_default() -> None:
    # A shell's `&` makes a process ignore SIGINT, and its children inherit this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class AirflowStack:
    """An Airflow with api-server, scheduler, dag-processor and triggerer, each in its own process.

    Args:
        home: an empty folder for AIRFLOW_HOME; each process writes its output to ``home/logs/<name>.out``.
        dags_folder: the folder of the DAGs.
        connections: Airflow connections by id, each as a URI or as JSON.
        extra_env: environment variables that override the stack's own.
        sql_alchemy_conn: the metadata database; by default SQLite in ``home``.
        components: the arguments of ``airflow`` for each process, by its name.
        say: called with one line for each phase of the start.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        connections: Mapping[str, str] | None = None,
        extra_env: Mapping[str, str] | None = None,
        sql_alchemy_conn: str | None = None,
        components: Mapping[str, tuple[str, ...]] = COMPONENTS,
        say: Say = lambda text: None,
    ) -> None:
        self._say = say
        self.home = home
        self.components = components
        self.logs = home / "logs"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            **no_proxy_for_loopback(os.environ),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": sql_alchemy_conn or f"sqlite:///{home}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
            "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # On a loaded machine the API server may take longer than the 5 s after which a worker fails its task.
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "PYTHONUNBUFFERED": "1",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(extra_env or {}),
        }
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        """Start all components and wait until they are healthy."""
        try:
            self._say("Creating Airflow's database")
            self.migrate()
            for name in self.components:
                self._say(f"Starting {name}")
                self.start(name)
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def migrate(self) -> None:
        """Create the metadata database's tables."""
        self.home.mkdir(parents=True, exist_ok=True)
        process = self._spawn("db-migrate", ("db", "migrate"))
        try:
            status = process.wait(timeout=PATIENCE)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status:
            raise StackError(f"airflow db migrate failed:\n{self.tail('db-migrate')}")

    def start(self, name: str) -> None:
        """Start a component, whose previous process must have ended."""
        previous = self.processes.get(name)
        if previous and previous.poll() is None:
            raise StackError(f"{name} is still running")
        self.processes[name] = self._spawn(name, self.components[name])

    def kill(self, name: str) -> None:
        """Kill a component and all of its child processes, as a crash of its machine would."""
        self._signal_all(self.members(name), signal.SIGKILL)
        self.processes[name].wait(timeout=30)

    def members(self, name: str) -> list[psutil.Process]:
        """Return the live processes of a component: itself, its workers, their tasks."""
        return list(_session_members(self.processes[name].pid))

    def stop(self, patience: float = 20.0) -> None:
        """Stop every process of this stack: with SIGINT, then SIGTERM, then SIGKILL."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        if self._survives(patience):
            for signal_number in (signal.SIGTERM, signal.SIGKILL):
                self._signal_all(self._all_members(), signal_number)
                if not self._survives(5.0):
                    break
        self._session.close()

    def _all_members(self) -> list[psutil.Process]:
        return [member for name in self.processes for member in self.members(name)]

    def _survives(self, seconds: float) -> bool:
        """Wait until every process has ended; return whether some are still alive after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            # poll() also reaps zombies, which are not members.
            running = [process for process in self.processes.values() if process.poll() is None]
            if not running and not self._all_members():
                return False
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.1)

    def _spawn(self, name: str, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.out").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_sigint_back_to_default,
            )

    @staticmethod
    def _signal_all(processes: list[psutil.Process], signal_number: signal.Signals) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)

    def check_alive(self) -> None:
        """Raise StackError if a component has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise StackError(f"{name} ended with status {process.returncode}. Its last output:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 30) -> str:
        """Return the last lines of a component's output."""
        path = self.logs / f"{name}.out"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def api(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send a request to /api/v2 and return the response, whatever its status."""
        return self._session.request(method, f"{self.url}/api/v2{path}", timeout=RESPONSE_PATIENCE, **kwargs)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET request, which must succeed."""
        response = self.api("GET", path, params=params)
        if not response.ok:
            raise StackError(f"GET {path} failed with {response.status_code}: {response.text[:500]}")
        return response.json()

    def wait_healthy(self, timeout: float = PATIENCE) -> None:
        """Wait until the api-server reports that its database and the other components are healthy."""
        health: dict[str, dict[str, Any]] = {}
        said = ""
        for _ in self._until(timeout):
            with suppress(requests.RequestException, ValueError):
                health = self.api("GET", "/monitor/health").json()
            waiting = [part for part in HEALTH if health.get(part, {}).get("status") != "healthy"]
            # Without an answer, the API server is the one that is not ready.
            text = f"Waiting for {', '.join(waiting) if health else 'api-server'}"
            if waiting and text != said:
                self._say(said := text)
            if all(health.get(part, {}).get("status") == "healthy" for part in HEALTH):
                return
        raise StackError(f"Airflow is not healthy after {timeout:.0f} s: {health}")

    def wait_for_dag(self, dag_id: str, timeout: float = PATIENCE) -> None:
        """Wait until a DAG has been parsed; raise StackError immediately if a DAG file has an import error."""
        for _ in self._until(timeout):
            if self.api("GET", f"/dags/{dag_id}").ok:
                return
            if import_errors := self.get("/importErrors")["import_errors"]:
                raise StackError("\n".join(f"{item['filename']}:\n{item['stack_trace']}" for item in import_errors))
        raise StackError(f"DAG {dag_id!r} was not parsed within {timeout:.0f} s:\n{self.tail('dag-processor')}")

    def wait_for_any_dag(self, timeout: float = 60.0) -> tuple[list[str], list[dict[str, Any]]]:
        """Wait until the files in the DAGs folder are parsed; return the ids of DAGs and the import errors, if any."""
        dags: list[str] = []
        errors: list[dict[str, Any]] = []
        for _ in self._until(timeout):
            known = dags, errors
            dags = [dag["dag_id"] for dag in self.get("/dags", limit=100)["dags"]]
            errors = self.get("/importErrors", limit=100)["import_errors"]
            # The files are parsed one after the other.
            if (dags or errors) and (dags, errors) == known:
                break
        return dags, errors

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, logical_date: str | None = None) -> str:
        """Trigger a DAG, with the logical date if there is one (ISO 8601), and return the id of the run."""
        self.wait_for_dag(dag_id)
        body = {"logical_date": logical_date, "conf": dict(conf or {})}
        response = self.api("POST", f"/dags/{dag_id}/dagRuns", json=body)
        if not response.ok:
            raise StackError(f"DAG {dag_id!r} was not triggered: {response.status_code} {response.text[:1000]}")
        run_id: str = response.json()["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a DAG run."""
        state: str = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a DAG run, from the API."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        instances: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(instances))
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return instances

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task of a DAG run; mapped tasks are named ``task[0]``, ``task[1]``, ..."""
        return {
            item["task_id"] + (f"[{item['map_index']}]" if item["map_index"] >= 0 else ""): item["state"] or "none"
            for item in self.task_instances(dag_id, run_id)
        }

    def wait(
        self, dag_id: str, run_id: str, timeout: float = PATIENCE, on_change: OnChange | None = None
    ) -> dict[str, str]:
        """Wait until a DAG run has finished, and return the state of each task.

        ``on_change`` is called with a task and its new state after each change.
        """
        known: dict[str, str] = {}
        for _ in self._until(timeout):
            finished = self.run_state(dag_id, run_id) in FINISHED
            now = self.states(dag_id, run_id)
            for task, state in now.items():
                if on_change and known.get(task) != state:
                    on_change(task, state)
            known = now
            if finished:
                return now
        raise StackError(f"{dag_id} {run_id} did not finish within {timeout:.0f} s: {known}")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return the XCom that a task pushed with this key."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index, stringify=False)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task, one event per line."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.get(path, map_index=map_index, full_content=True)["content"]
        return "\n".join(_log_line(event) for event in content)

    def _until(self, timeout: float) -> Iterator[None]:
        """Yield twice a second until ``timeout``, and check that all components are alive."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check_alive()
            yield
            time.sleep(0.5)


def _session_members(leader: int) -> Iterator[psutil.Process]:
    """Yield the live processes of a session; tasks have their own process groups, but share the session."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _log_line(event: str | dict[str, Any]) -> str:
    if isinstance(event, str):
        return event
    head = f"{event.get('timestamp') or ''} {(event.get('level') or '').upper():7} {event.get('event', '')}"
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in event.get("error_detail") or ()]
    return "\n  ".join([head.strip(), *errors])
