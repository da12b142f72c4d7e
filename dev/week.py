"""`make week`: seven nights of seven DAGs (tests/week/dags) on a real Airflow and the local Platform.

Each night, new files arrive, the DAG `nightly` runs alone so that its requests can be counted, then all others. The
nights: many new files; quiet; imported aliases and public files; a job that fails with 9101; a worker killed after its
submission was accepted; a new file with the name of an exported one; quiet. Prints a table of what each night did, and
fails if a file was not exported exactly once, or if a quiet night cost too many requests.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from airflow_sb_provider.emulator import Emulator, Knobs
from airflow_sb_provider.emulator.errors import ApiError
from dev.airflow_stack import AirflowStack, StackError
from dev.cluster import postgres
from dev.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator.platform import ExportJob, File
    from airflow_sb_provider.emulator.records import RequestRecord

ROOT = Path(__file__).resolve().parent.parent
DAGS, BUILD = ROOT / "tests" / "week" / "dags", ROOT / "build" / "week"
FIRST_NIGHT = datetime(2026, 1, 5, tzinfo=UTC)
NIGHTS = ("new files", "quiet", "aliases, public files", "a job fails", "worker killed", "same name", "quiet")
QUIET, FAILING, KILLED, SAME_NAME = (1, 6), 3, 4, 5
# How many files arrive on each night. Each DAG has its own project.
NEW = {
    "nightly": (240, 0, 3, 2, 4, 1, 0),
    "listing": (2, 0, 1, 0, 1, 1, 0),
    "outputs": (2, 0, 1, 2, 0, 1, 0),
    "parameters": (1, 0, 1, 1, 0, 1, 0),
    "hook": (2, 0, 1, 0, 1, 0, 0),
    "defaults": (2, 0, 1, 0, 1, 1, 0),
    "sensor": (2, 0, 1, 0, 1, 0, 0),
}
OTHERS = tuple(NEW)[1:]
SUFFIXES = {"listing": ".vcf", "defaults": ".bam"}
FOLDERS = (None, "run 1", "run 2")
# Other people choose the names of files: this one must neither be rendered nor become HTML.
FOREIGN_NAME = "{{ 7 * 7 }} <b>bold<b>.vcf"
KMS_KEY = "arn:aws:kms:us-east-1:111122223333:key/week"
STATES = ("success", "skipped", "success", "failed", "success", "failed", "skipped")
TIMEOUT = 900.0
HEADER = (
    "night", "what", "nightly", "tries", "now", "before", "skipped", "failed", "requests", "3 + files/100", "mails",
    *OTHERS, "consumer",
)  # fmt: skip


class Week:
    """The running Platform, Airflow and mailbox, and what has happened so far."""

    def __init__(self, platform: Emulator, airflow: AirflowStack, mailbox: Mailbox) -> None:
        self.platform, self.airflow, self.mailbox = platform, airflow, mailbox
        self.begin = time.monotonic()
        self.night = 0
        self.files: dict[str, bytes] = {}
        """The content of each file that can be exported, by id."""
        self.new: dict[str, list[File]] = {}
        """The files of this night, by DAG."""
        self.conf: dict[str, dict[str, Any]] = {}
        self.wanted: dict[str, bool] = {}
        """By the id of each file of the DAG `parameters`, whether it is copied."""
        self.failing = self.stuck = ""
        self.kill_next = False
        self.killed: list[int] = []
        self.rows: list[tuple[Any, ...]] = []
        self.problems: list[str] = []
        platform.on("accepted", self._accepted)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"[{time.monotonic() - self.begin:5.0f} s] {text}", flush=True)

    def check(self, condition: object, problem: str) -> None:
        """Note a problem unless the condition is true."""
        if not condition:
            self.problems.append(f"after night {self.night + 1}: {problem}")

    def until(self, condition: Callable[[], object], description: str) -> None:
        """Wait until the condition is true."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            self.airflow.check_alive()
            if time.monotonic() > deadline:
                raise StackError(f"not within {TIMEOUT:.0f} s: {description}")
            time.sleep(0.5)

    def _accepted(self, record: RequestRecord) -> bool | None:
        """Let the job of one file fail or stay RUNNING, or kill the process that submitted."""
        for job in (self.platform.platform.exports[export_id] for export_id in record.exports):
            if job.file == self.failing and len(self.jobs(job.file)) == 1:
                job.fail_with = ApiError(9101)
            if job.file == self.stuck:
                job.held = "RUNNING"
        if not (self.kill_next and record.exports and record.peer):
            return None
        self.kill_next = False
        workers = {process.pid for process in self.airflow.members("scheduler")}
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == record.peer[1] and connection.pid in workers:
                os.kill(connection.pid, signal.SIGKILL)
                self.killed.append(connection.pid)
        return False

    def jobs(self, file_id: str) -> list[ExportJob]:
        """Return the accepted jobs of a file."""
        return [job for job in self.platform.exports if job.file == file_id]

    def requests(self) -> int:
        """Return the number of requests to the API so far."""
        return sum(record.path.startswith("/v2/") for record in self.platform.requests)

    # The files of a night

    def add(self, dag_id: str, name: str, folder: str | None = None, **details: Any) -> File:
        """Add a file that was created on the day before the night; `details` as in `Emulator.add_file`."""
        data = f"{dag_id}/{folder}/{name}, night {self.night + 1}".encode()
        file = self.platform.add_file(name, data, f"demo/{dag_id}", folder, **details)
        file.created_on = file.modified_on = FIRST_NIGHT + timedelta(days=self.night, hours=-12)
        if not (details.get("alias") or details.get("public")):
            self.files[file.id] = data
        return file

    def add_files(self) -> None:
        """Add the files of this night, and set the parameters of the runs."""
        self.new = {dag_id: [] for dag_id in NEW}
        analysis = f"analysis-{self.night + 1}"
        for dag_id, counts in NEW.items():
            for number in range(counts[self.night]):
                name = f"night {self.night + 1}, {number}{SUFFIXES.get(dag_id, '.txt')}"
                folder, details = None, {"task": analysis} if dag_id == "outputs" else {}
                if dag_id == "nightly":
                    folder = FOLDERS[number % len(FOLDERS)]
                    if number == 0 and self.night == FAILING:
                        name = FOREIGN_NAME
                    elif number == 0 and self.night == SAME_NAME:
                        name = "night 1, 0.txt"
                self.new[dag_id].append(self.add(dag_id, name, folder, **details))
        if self.night == 2:
            for number in range(3):
                self.add("nightly", f"imported {number}.txt", alias=("demo/archive", f"imported/{number}.txt"))
                self.add("nightly", f"public {number}.txt", public=True)
        if self.night == FAILING:
            self.failing = self.new["nightly"][0].id
        if self.night == KILLED:
            self.kill_next, self.stuck = True, self.new["sensor"][0].id
        if self.night == SAME_NAME:
            [job] = self.jobs(self.stuck)
            self.platform.release(job.id)
        if self.new["outputs"]:
            self.conf["outputs"] = {"task": analysis}
        for file in self.new["parameters"]:
            # Alternately a move and a copy. A quiet night repeats the last one.
            self.wanted[file.id] = self.night in (2, SAME_NAME)
            location = f"parameters/{file.id}"
            self.conf["parameters"] = {
                "file": file.id, "location": location, "copy_only": self.wanted[file.id], "kms_key": KMS_KEY
            }  # fmt: skip
        for dag_id in ("hook", "sensor"):
            self.conf[dag_id] = {"files": [file.id for file in self.new[dag_id]]}

    # The runs of a night

    def play(self) -> None:
        """Run all DAGs for one night."""
        date = (FIRST_NIGHT + timedelta(days=self.night)).isoformat()
        self.say(f"Night {self.night + 1}, {date[:10]}: {NIGHTS[self.night]}")
        self.add_files()
        before = self.requests()
        run_id = self.airflow.trigger("nightly", logical_date=date)
        nightly = self.nightly(run_id, before, STATES[self.night])
        runs = {dag_id: self.airflow.trigger(dag_id, self.conf.get(dag_id), date) for dag_id in OTHERS}
        cells = [self.other(dag_id, run_id) for dag_id, run_id in runs.items()]
        self.rows.append((self.night + 1, NIGHTS[self.night], *nightly, *cells, self.consumer()))
        if self.night == SAME_NAME:
            self.say("The file gets a new name, and the failed task is cleared")
            self.new["nightly"][0].name = "renamed.txt"
            before = self.requests()
            body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True, "reset_dag_runs": True}
            response = self.airflow.api("POST", "/dags/nightly/clearTaskInstances", json=body)
            self.check(response.ok, f"the task was not cleared: {response.text[:200]}")
            cleared = self.nightly(run_id, before, "success")
            self.rows.append((self.night + 1, "renamed, cleared", *cleared, *[""] * (len(OTHERS) + 1)))

    def nightly(self, run_id: str, requests_before: int, expected: str) -> tuple[Any, ...]:
        """Wait for the run of the DAG `nightly`; return its part of the table's row."""
        mails = len(self.mailbox.mails)
        self.airflow.wait("nightly", run_id, TIMEOUT)
        [task] = self.airflow.task_instances("nightly", run_id)
        self.check(task["state"] == expected, f"the task nightly is {task['state']}, not {expected}")
        if task["state"] == "failed":
            # Airflow calls the notifier after it has set the state.
            self.until(lambda: len(self.mailbox.mails) > mails, "the mail of a failed run")
        requests = self.requests() - requests_before
        files = sum(file.project == "demo/nightly" for file in self.platform.platform.files.values())
        most = 3 + ceil(files / 100)
        self.check(self.night not in QUIET or requests <= most, f"{requests} requests instead of at most {most}")
        summary = self.airflow.xcom("nightly", run_id, "export", "summary")
        counts = [summary[name] for name in ("exported_now", "exported_before", "skipped", "failed")]
        mails = len(self.mailbox.mails) - mails
        self.say(f"  nightly: {task['state']}, {summary['exported_now']} exported, {requests} requests, {mails} mails")
        return task["state"], task["try_number"], *counts, requests, most, mails

    def other(self, dag_id: str, run_id: str) -> str:
        """Wait for the run of another DAG; return its cell: its state, jobs and skipped tasks."""
        states = self.airflow.wait(dag_id, run_id, TIMEOUT)
        state = self.airflow.run_state(dag_id, run_id)
        skipped = sorted(task for task, task_state in states.items() if task_state == "skipped")
        expected = []
        if dag_id == "sensor" and self.night == KILLED:
            expected = ["use", "wait"]
        elif dag_id == "sensor" and not self.new[dag_id]:
            expected = ["start", "use", "wait"]
        self.check(state == "success", f"the run of {dag_id} is {state}: {states}")
        self.check(skipped == expected, f"the skipped tasks of {dag_id} are {skipped}, not {expected}")
        jobs = sum(len(self.jobs(file.id)) for file in self.new[dag_id])
        self.say(f"  {dag_id}: {state}, {jobs} jobs")
        return f"{state}, {jobs}" + (f" ({', '.join(skipped)} skipped)" if skipped else "")

    def consumer(self) -> str:
        """Wait until the DAG `consumer` has read the new outputs; return its cell."""
        files = [file_id for file_id in self.files if self.platform.platform.files[file_id].project == "demo/outputs"]

        def runs() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.airflow.get("/dags/consumer/dagRuns")["dag_runs"]
            return found

        def read() -> list[str]:
            ended = [run["dag_run_id"] for run in runs() if run["state"] == "success"]
            return [uri for run_id in ended for uri in self.airflow.xcom("consumer", run_id, "read")]

        self.until(lambda: len(set(read())) >= len(files), "the consumer's run")
        self.check(len(read()) == len(set(read())) == len(files), f"the consumer read {read()}")
        return f"runs: {len(runs())}, files: {len(read())}"

    def check_exports(self) -> None:
        """Check that every file was exported exactly once, with its bytes."""
        for file in self.platform.platform.files.values():
            jobs = self.jobs(file.id)
            expected = [*["FAILED"] * (file.id == self.failing), *["COMPLETED"] * (file.id in self.files)]
            states = [job.state for job in jobs]
            self.check(states == expected, f"{file.project}: {file.name!r} has the jobs {states}, not {expected}")
            if states[-1:] == ["COMPLETED"]:
                data = self.platform.object_bytes(jobs[-1].volume, jobs[-1].location)
                self.check(data == self.files[file.id], f"the object of {file.name!r} has other bytes")
            if file.id in self.wanted:
                used = [(job.copy_only, job.properties.get("sse_aws_kms_key_id")) for job in jobs]
                self.check(used == [(self.wanted[file.id], KMS_KEY)], f"{file.name!r}: copied and key are {used}")
        self.check(len(self.killed) == 1, f"killed processes: {self.killed}")
        bodies = [mail.get_body(("html",)) for mail in self.mailbox.mails]
        texts = [body.get_content() if body else "" for body in bodies]
        self.check(len(texts) == 2, f"{len(texts)} mails")
        texts = texts or [""]
        self.check("{{ 7 * 7 }} &lt;b&gt;bold" in texts[0] and "9101" in texts[0], f"the first mail is {texts[0]}")
        self.check(all(self.platform.token not in text for text in texts), "the token is in a mail")


def main() -> int:
    """Play the week. Returns the exit status."""
    # A shell's `&` makes a process ignore SIGINT. SIGTERM must also stop what was started.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    shutil.rmtree(BUILD, ignore_errors=True)
    manifests = BUILD / "manifests"
    manifests.mkdir(parents=True)
    week: Week | None = None
    try:
        with ExitStack() as stack:
            platform = stack.enter_context(Emulator(seeded=False, knobs=Knobs(pending_seconds=0.5, running_seconds=1)))
            platform.add_volume("demo/results", "demo-results", prefix="exports")
            platform.add_volume("demo/archive", "demo-archive")
            mailbox = stack.enter_context(Mailbox())
            threading.Thread(target=mailbox.serve_forever, daemon=True).start()
            stack.callback(mailbox.shutdown)
            address = stack.enter_context(postgres())
            environment = {
                **platform.s3_environment(),
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                # On a busy machine the API server needs longer than Airflow's default of five seconds.
                "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": address.replace("postgresql:", "postgresql+asyncpg:"),
                "WEEK_MANIFESTS": str(manifests),
            }
            connections = {
                "sevenbridges_default": platform.connection_json(),
                "smtp_default": mailbox.connection_json(),
            }
            sql = address.replace("postgresql:", "postgresql+psycopg2:")
            say = partial(print, flush=True)
            airflow = stack.enter_context(
                AirflowStack(BUILD / "airflow", DAGS, connections, environment, sql_alchemy_conn=sql, say=say)
            )
            week = Week(platform, airflow, mailbox)
            for week.night in range(len(NIGHTS)):
                week.play()
            week.check_exports()
    except StackError as error:
        print(f"FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        print("Interrupted. All processes are stopped.")
        return 130
    finally:
        if week is not None:
            for row in (HEADER, ("---",) * len(HEADER), *week.rows):
                print("|", " | ".join(map(str, row)), "|")
            print("\n".join(f"FAILED: {problem}" for problem in week.problems))
    return 1 if week.problems else 0


if __name__ == "__main__":
    sys.exit(main())
