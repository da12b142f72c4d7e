"""A real Airflow made of separate processes, on loopback only, for the demo and for tests."""

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

COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
# What /monitor/health calls them.
HEALTH = ("metadatabase", "scheduler", "dag_processor", "triggerer")
FINISHED = frozenset({"success", "failed"})


class StackError(RuntimeError):
    """Airflow did not do what was asked of it; the message ends with what its logs say."""


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def no_proxy_for_loopback(environ: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY settings that add loopback to the ones in force."""
    present = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    value = ",".join(filter(None, [present, "127.0.0.1", "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}


def _sigint_back_to_default() -> None:
    # A shell's `&` leaves SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class AirflowStack:
    """An Airflow with api-server, scheduler, dag-processor and triggerer, each a process of its own.

    Args:
        home: an empty folder for AIRFLOW_HOME; outputs go to ``home/logs/<name>.out``.
        dags_folder: where the DAGs are.
        connections: Airflow connections by id, each as a URI or as JSON.
        extra_env: environment variables that win over the stack's own.
        sql_alchemy_conn: the metadata database; SQLite in ``home`` unless given.
        components: the arguments of ``airflow`` for each process, by its name.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        connections: Mapping[str, str] | None = None,
        extra_env: Mapping[str, str] | None = None,
        sql_alchemy_conn: str | None = None,
        components: Mapping[str, tuple[str, ...]] = COMPONENTS,
    ) -> None:
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
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "PYTHONUNBUFFERED": "1",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(extra_env or {}),
        }
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        """Start everything and wait until it is healthy."""
        try:
            self.migrate()
            for name in self.components:
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
            status = process.wait(timeout=180)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status:
            raise StackError(f"airflow db migrate failed:\n{self.tail('db-migrate')}")

    def start(self, name: str) -> None:
        """Start one component, whose earlier process must have ended."""
        before = self.processes.get(name)
        if before and before.poll() is None:
            raise StackError(f"{name} still runs")
        self.processes[name] = self._spawn(name, self.components[name])

    def kill(self, name: str) -> None:
        """End a component and all that it started at once, as a crash of its machine would."""
        self._signal_all(self.members(name), signal.SIGKILL)
        self.processes[name].wait(timeout=30)

    def members(self, name: str) -> list[psutil.Process]:
        """Return the live processes of a component: itself, its workers, their tasks."""
        return list(_session_members(self.processes[name].pid))

    def stop(self, patience: float = 20.0) -> None:
        """End every process that this stack started: ask, insist, then kill."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        if self._outlast(patience):
            for sign in (signal.SIGTERM, signal.SIGKILL):
                self._signal_all(self._all_members(), sign)
                if not self._outlast(5.0):
                    break
        self._session.close()

    def _all_members(self) -> list[psutil.Process]:
        return [member for name in self.processes for member in self.members(name)]

    def _outlast(self, seconds: float) -> bool:
        """Wait for every process to end; returns whether some live on after that long."""
        deadline = time.monotonic() + seconds
        while True:
            # Zombies of our own children are no members, but are to be reaped.
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
    def _signal_all(processes: list[psutil.Process], sign: signal.Signals) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)

    def check_alive(self) -> None:
        """Raise where a component has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise StackError(f"{name} ended with status {process.returncode}; its last lines:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 30) -> str:
        """Return the last lines of a component's output."""
        path = self.logs / f"{name}.out"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def api(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Send one request to /api/v2 and return its answer, whatever its status."""
        return self._session.request(method, f"{self.url}/api/v2{path}", timeout=30, **kwargs)

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET that must succeed."""
        answer = self.api("GET", path, params=params)
        if not answer.ok:
            raise StackError(f"GET {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()

    def wait_healthy(self, timeout: float = 120.0) -> None:
        """Wait until the api-server answers and sees its database and the other components."""
        health: dict[str, dict[str, Any]] = {}
        for _ in self._until(timeout):
            with suppress(requests.RequestException, ValueError):
                health = self.api("GET", "/monitor/health").json()
            if all(health.get(part, {}).get("status") == "healthy" for part in HEALTH):
                return
        raise StackError(f"Airflow is not healthy after {timeout:.0f} s: {health}")

    def wait_for_dag(self, dag_id: str, timeout: float = 60.0) -> None:
        """Wait until a DAG has been parsed; a DAG file that cannot be imported is told at once."""
        for _ in self._until(timeout):
            if self.api("GET", f"/dags/{dag_id}").ok:
                return
            if broken := self.get("/importErrors")["import_errors"]:
                raise StackError("\n".join(f"{one['filename']}:\n{one['stack_trace']}" for one in broken))
        raise StackError(f"no DAG {dag_id!r} after {timeout:.0f} s:\n{self.tail('dag-processor')}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run of a DAG and return the run's id."""
        self.wait_for_dag(dag_id)
        answer = self.api("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf or {})})
        if not answer.ok:
            raise StackError(f"{dag_id} was not triggered: {answer.status_code} {answer.text[:1000]}")
        run_id: str = answer.json()["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        state: str = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as the API shows them."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        instances: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(instances))
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return instances

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task of a run; mapped ones are called ``task[0]``, ``task[1]``, ..."""
        return {
            one["task_id"] + (f"[{one['map_index']}]" if one["map_index"] >= 0 else ""): one["state"] or "none"
            for one in self.task_instances(dag_id, run_id)
        }

    def wait(
        self, dag_id: str, run_id: str, timeout: float = 120.0, on_change: OnChange | None = None
    ) -> dict[str, str]:
        """Wait until a run has finished, and return the state of each of its tasks.

        ``on_change`` is called with a task and its new state, each time that one is seen to change.
        """
        seen: dict[str, str] = {}
        for _ in self._until(timeout):
            finished = self.run_state(dag_id, run_id) in FINISHED
            now = self.states(dag_id, run_id)
            for task, state in now.items():
                if on_change and seen.get(task) != state:
                    on_change(task, state)
            seen = now
            if finished:
                return now
        raise StackError(f"{dag_id} {run_id} did not finish in {timeout:.0f} s: {seen}")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task pushed under a key."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index, stringify=False)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task, an event a line."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self.get(path, map_index=map_index, full_content=True)["content"]
        return "\n".join(_log_line(event) for event in content)

    def _until(self, timeout: float) -> Iterator[None]:
        """Yield twice a second until ``timeout``, as long as all components live."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check_alive()
            yield
            time.sleep(0.5)


def _session_members(leader: int) -> Iterator[psutil.Process]:
    """Yield the live processes of a session: tasks have process groups of their own, but no session."""
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
