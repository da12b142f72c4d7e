"""The scenarios of `make faults`: processes of a real Airflow are killed, and the result is checked."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import psutil
import requests
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator import Emulator
    from dev.airflow_stack import AirflowStack

SUBMIT = "/v2/storage/exports"
CREATE = "/v2/bulk/storage/exports/create"
BULK_GET = "/v2/bulk/storage/exports/get"
FILES_GET = "/v2/bulk/files/get"
VOLUME = "demo/results"
CONTENT = b"only copy" * 100
FOREIGN = b"foreign.." * 100
OTHER_OBJECT = b"the only copy of another file"
FINAL = ("success", "failed")


@dataclass
class Stage:
    """A run of a task on a real Airflow that exports one file or many, and the means to disturb it.

    ``conf`` are the parameters of the DAG run; ``files`` are the ids of the files.
    """

    stack: AirflowStack
    emulator: Emulator
    dag_id: str
    conf: dict[str, Any]
    files: set[str]
    run_id: str = ""
    task_id: str = "export"
    killed: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.run_id = self.stack.trigger(self.dag_id, self.conf)

    @property
    def defers(self) -> bool:
        return self.dag_id.endswith("deferred")

    @property
    def task(self) -> dict[str, Any]:
        return self.stack.task_instances(self.dag_id, self.run_id)[0]

    @property
    def jobs(self) -> list[Any]:
        """The accepted jobs of its files, without those that a fault makes fail."""
        return [job for job in self.emulator.exports if job.file in self.files and not job.fail_with]

    @property
    def locations(self) -> list[str]:
        if "location" in self.conf:
            return [self.conf["location"]]
        names = sorted(self.emulator.platform.files[file].name for file in self.files)
        return [f"{self.conf['folder']}/{name}" for name in names]

    def put_other_object(self) -> None:
        """Put another object at the destination of its file."""
        self.emulator.put_object(VOLUME, self.conf["location"], OTHER_OBJECT)

    def export_directly(self, file: str, location: str, **query: Any) -> None:
        """Export a file as another client."""
        response = requests.post(
            f"{self.emulator.url}/storage/exports",
            json={"source": {"file": file}, "destination": {"volume": VOLUME, "location": location}, **query},
            params={"copy_only": "true"},
            headers={"X-SBG-Auth-Token": self.emulator.token},
            timeout=30,
        )
        assert response.ok, response.text

    def replace_records(self, value: str) -> None:
        """Replace the task's record in Airflow's database."""
        with create_engine(self.stack.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).begin() as database:
            statement = text("UPDATE task_state_store SET value = :value WHERE run_id = :run_id")
            assert database.execute(statement, {"value": value, "run_id": self.run_id}).rowcount

    def stopped(self) -> list[psutil.Process]:
        """Return the stopped processes of its workers."""
        return [each for each in self.stack.members("scheduler") if each.status() == psutil.STATUS_STOPPED]

    @property
    def posts(self) -> int:
        return sum(self.submits(record) for record in self.emulator.requests)

    def submits(self, record: Any) -> bool:
        """Whether a request submits exports of this stage's files."""
        if record.method != "POST" or record.path not in (SUBMIT, CREATE):
            return False
        items = record.json["items"] if record.path == CREATE else [record.json]
        return not self.files.isdisjoint(item["source"]["file"] for item in items)

    def until(self, condition: Callable[[], Any], description: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not within {seconds} s: {description}; the task is {self.task['state']}\n{self.logs()}"
                )
            time.sleep(0.2)

    def until_state(self, *states: str) -> None:
        self.until(lambda: self.task["state"] in states, f"task {' or '.join(states)}", seconds=240)

    def until_second_try(self, *states: str) -> None:
        def began() -> bool:
            task = self.task
            return (task["try_number"] or 0) >= 2 and (not states or task["state"] in states)

        self.until(began, "the second try")

    def logs(self) -> str:
        tries = range(1, (self.task["try_number"] or 1) + 1)
        return "\n".join(self.stack.task_log(self.dag_id, self.run_id, self.task_id, number) for number in tries)

    def clear(self) -> None:
        body = {
            "dry_run": False,
            "task_ids": [self.task_id],
            "dag_run_id": self.run_id,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        response = self.stack.api("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=body)
        assert response.ok, response.text

    def mark_failed(self) -> None:
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{self.task_id}"
        response = self.stack.api("PATCH", path, json={"new_state": "failed"})
        assert response.ok, response.text

    def kill_caller(
        self,
        event: str,
        path: str | None = None,
        *,
        after: int = 0,
        signal_number: int = signal.SIGKILL,
        parent: bool = False,
        delay: float = 0,
    ) -> None:
        """Send a signal to the process that sends the next submission, or the next request to a path.

        :param event: when: "request" or "accepted"; see `Emulator.on`.
        :param path: the path, which may have ``*``; by default the submission of this stage's files.
        :param after: how many such requests to skip first.
        :param signal_number: the signal, by default SIGKILL.
        :param parent: whether to send it to the parent process, too.
        :param delay: seconds until the signal, so that the request gets its response.
        """
        left = {"before": after, "done": False}

        def act(record: Any) -> bool | None:
            fits = record.method == "POST" and fnmatchcase(record.path, path) if path else self.submits(record)
            if left["done"] or not fits:
                return None
            if left["before"]:
                left["before"] -= 1
                return None
            left["done"] = True
            caller = process_at(record.peer)
            self.killed.append(" ".join(caller.cmdline())[:60] or caller.name())
            supervisor = caller.parent() if parent else None
            if delay:
                threading.Timer(delay, caller.send_signal, [signal_number]).start()
                return None
            os.kill(caller.pid, signal_number)
            if supervisor:
                os.kill(supervisor.pid, signal_number)
            return False if signal_number == signal.SIGKILL else None

        self.emulator.on(event, act)


def process_at(peer: tuple[str, int]) -> psutil.Process:
    """Return the process on this machine that uses a loopback port."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == peer[1] and connection.pid and connection.pid != os.getpid():
            return psutil.Process(connection.pid)
    raise AssertionError(f"no process uses {peer}")


@dataclass(frozen=True)
class Scenario:
    """A scenario and its expected result.

    ``submissions`` is the number of accepted jobs for each file, ``words`` a pattern in the log, ``many`` the number of
    files of a bulk task, ``posts`` the maximum of submissions, ``content`` the object there if the task fails.
    """

    name: str
    play: Callable[[Stage], None]
    submissions: int = 1
    end: str = "success"
    options: dict[str, Any] = field(default_factory=dict)
    dags: tuple[str, ...] = ("deferred", "waiting")
    quick: bool = False
    words: str = ""
    many: int = 250
    posts: int | None = None
    content: bytes | None = None


def at_the_submission(stage: Stage) -> None:
    stage.kill_caller("request")
    stage.start()


def after_acceptance(stage: Stage) -> None:
    stage.kill_caller("accepted")
    stage.start()


def worker_and_supervisor(stage: Stage) -> None:
    stage.kill_caller("accepted", parent=True)
    stage.start()


def at_a_poll(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()
    if stage.defers:
        stage.until(lambda: stage.killed, "the triggerer's runner is killed")
        replace(stage, "triggerer")


def sigterm_while_waiting(stage: Stage) -> None:
    stage.kill_caller("request", BULK_GET, signal_number=signal.SIGTERM)
    stage.start()


def response_lost(stage: Stage) -> None:
    stage.emulator.trouble("lose_reply")
    stage.start()


def at_the_second_hundred(stage: Stage) -> None:
    stage.kill_caller("request", after=1)
    stage.start()


def after_acceptance_of_the_second_hundred(stage: Stage) -> None:
    stage.kill_caller("accepted", after=1)
    stage.start()


def between_two_hundreds(stage: Stage) -> None:
    stage.kill_caller("accepted", delay=0.03)
    stage.start()


def in_a_later_wave(stage: Stage) -> None:
    stage.kill_caller("accepted", after=2)
    stage.start()


def reply_of_a_hundred_lost(stage: Stage) -> None:
    stage.emulator.trouble("lose_reply", path=CREATE, after=1)
    stage.start()


def reply_one_item_short(stage: Stage) -> None:
    stage.emulator.trouble("short_bulk", path=CREATE, after=1)
    stage.start()


def a_hundred_accepted_late(stage: Stage) -> None:
    stage.emulator.trouble("late_accept", path=CREATE, after=1, seconds=2)
    stage.start()


def accepted_late(stage: Stage) -> None:
    stage.emulator.trouble("late_accept", seconds=2)
    stage.start()


def never_arrived(stage: Stage) -> None:
    stage.emulator.trouble("drop")
    stage.start()


def replace(stage: Stage, component: str) -> None:
    stage.stack.kill(component)
    stage.stack.start(component)


def triggerer_replaced(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.start()
    stage.until_state("deferred")
    replace(stage, "triggerer")


def scheduler_replaced(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.start()
    stage.until(lambda: stage.jobs, "accepted")
    replace(stage, "scheduler")


def cleared_while_it_waits(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.start()
    stage.until_state("deferred" if stage.defers else "running")
    stage.until(lambda: stage.jobs, "accepted")
    stage.clear()
    stage.until(lambda: (stage.task["try_number"] or 0) >= 2, "the second try")


def cleared_after_success(stage: Stage) -> None:
    stage.start()
    stage.until_state(*FINAL)
    stage.clear()
    stage.until(lambda: (stage.task["try_number"] or 0) >= 2, "the second try")


def marked_failed_then_cleared(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 6
    stage.start()
    stage.until(lambda: stage.jobs, "accepted")
    stage.until_state("deferred", "running")
    stage.mark_failed()
    stage.until_state("failed")
    stage.clear()
    stage.until(lambda: (stage.task["try_number"] or 0) >= 2, "the second try")


def run_twice_at_once(stage: Stage) -> None:
    stage.emulator.knobs.refuse_in_job = True
    stage.start()
    stage.stack.trigger(stage.dag_id, stage.conf)


def gateway_down_while_waiting(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 4
    stage.emulator.trouble("html", path=BULK_GET, status=503, times=2)
    stage.emulator.trouble("cut_json", path=BULK_GET, times=2)
    stage.start()


def gateway_in_the_way(stage: Stage) -> None:
    stage.emulator.trouble("html", status=502, times=0)
    stage.start()


def object_is_locked(stage: Stage) -> None:
    stage.put_other_object()
    stage.emulator.knobs.overwrite_denied = True
    stage.start()


def at_the_post_clock_ahead(stage: Stage) -> None:
    stage.emulator.knobs.date_skew_seconds = 600
    at_the_submission(stage)


def at_the_post_clock_behind(stage: Stage) -> None:
    stage.emulator.knobs.date_skew_seconds = -600
    at_the_submission(stage)


def reply_lost_clock_behind(stage: Stage) -> None:
    stage.emulator.knobs.date_skew_seconds = -600
    response_lost(stage)


def maintenance_but_accepted(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 6
    stage.emulator.trouble("error", code=0, done=True)
    stage.start()


def paused_until_the_retry_begins(stage: Stage) -> None:
    stage.start()
    stage.until(lambda: len(stage.stopped()) >= 2, "worker and supervisor are paused")
    stage.until_second_try("running")
    assert not stage.posts
    resume(stage)


def paused_until_the_retry_has_ended(stage: Stage) -> None:
    stage.start()
    stage.until(lambda: len(stage.stopped()) >= 2, "worker and supervisor are paused")
    stopped_at = time.monotonic()
    stage.until_state(*FINAL)
    # Wait longer than Airflow's time-out for heartbeats and the time in which the request may be sent.
    stage.until(lambda: time.monotonic() > stopped_at + 35, "35 seconds have passed")
    resume(stage)


def paused_at_the_check_until_the_retry_begins(stage: Stage) -> None:
    stage.put_other_object()
    stage.kill_caller("request", FILES_GET, signal_number=signal.SIGSTOP, parent=True)
    stage.start()
    stage.until(lambda: stage.killed, "it is paused")
    stage.until_second_try("running")
    resume(stage)


def resume(stage: Stage) -> None:
    """Resume the paused processes, and wait until their task process ends."""
    processes = stage.stopped()
    pids = {each.pid for each in processes}
    tasks = [each for each in processes if each.ppid() in pids]
    for process in processes:
        process.send_signal(signal.SIGCONT)
    stage.until(lambda: not any(each.is_running() for each in tasks), "the task's process ends")


def after_acceptance_lists_lag(stage: Stage) -> None:
    stage.emulator.knobs.update(list_lag_seconds=5, running_seconds=12)
    after_acceptance(stage)


def reply_lost_lists_lag(stage: Stage) -> None:
    stage.emulator.knobs.update(list_lag_seconds=5, running_seconds=12)
    response_lost(stage)


def after_acceptance_stale_states(stage: Stage) -> None:
    stage.emulator.knobs.update(stale_states=True, running_seconds=12)
    after_acceptance(stage)


def triggerer_replaced_reads_lag(stage: Stage) -> None:
    stage.emulator.knobs.update(alias_lag_seconds=5, object_lag_seconds=5)
    triggerer_replaced(stage)


def after_acceptance_files_lag(stage: Stage) -> None:
    stage.emulator.knobs.update(alias_lag_seconds=8, object_lag_seconds=4)
    after_acceptance(stage)


def at_a_poll_jobs_lag(stage: Stage) -> None:
    stage.emulator.knobs.update(job_lag_seconds=6, running_seconds=10)
    stage.kill_caller("request", BULK_GET)
    stage.start()
    if stage.defers:
        stage.until(lambda: stage.killed, "the triggerer's runner is killed")
        replace(stage, "triggerer")


def at_the_post_record_spoiled(stage: Stage) -> None:
    stage.emulator.trouble("late_accept", seconds=4)
    at_the_submission_that_still_arrives(stage)
    stage.until(lambda: stage.killed, "it is killed")
    stage.replace_records('"s3://bucket/state/7"')


def at_the_post_over_an_object_record_spoiled(stage: Stage) -> None:
    stage.put_other_object()
    at_the_post_record_spoiled(stage)


def at_the_submission_that_still_arrives(stage: Stage) -> None:
    """The worker is killed while its request is on the way."""

    def act(record: Any) -> None:
        if stage.submits(record) and not stage.killed:
            caller = process_at(record.peer)
            stage.killed.append(caller.name())
            os.kill(caller.pid, signal.SIGKILL)

    stage.emulator.on("request", act)
    stage.start()


def copy_replaced_after_a_kill(stage: Stage) -> None:
    stage.emulator.knobs.update(pending_seconds=0, running_seconds=0)
    stage.kill_caller("request", BULK_GET)
    stage.start()
    stage.until(lambda: stage.killed, "it is killed")
    other = stage.emulator.add_file("other.txt", OTHER_OBJECT)
    stage.export_directly(other.id, stage.conf["location"], overwrite=True)


def source_deleted_after_a_kill(stage: Stage) -> None:
    stage.emulator.knobs.update(pending_seconds=0, running_seconds=0)
    after_acceptance(stage)
    stage.until(lambda: stage.jobs and stage.jobs[0].finished_on, "the copy is made")
    for file in stage.files:
        # A read of a deleted file fails like that of a forbidden one.
        stage.emulator.platform.files[file].forbidden = True


def foreign_object_of_the_same_size(stage: Stage) -> None:
    at_the_submission(stage)
    stage.until(lambda: stage.killed, "it is killed")
    stage.emulator.put_object(VOLUME, stage.conf["location"], FOREIGN)


def other_object_after_the_check(stage: Stage) -> None:
    stage.kill_caller("request")
    stage.start()
    stage.until(lambda: stage.killed, "it is killed")
    stage.put_other_object()


def copied_over_its_own_move(stage: Stage) -> None:
    stage.emulator.knobs.overwrite_deletes_first = True
    stage.start()
    stage.until_state("success")
    stage.conf |= {"overwrite": True, "copy_only": True}
    stage.start()


def copied_over_its_own_move_in_flight(stage: Stage) -> None:
    """The worker is killed while it waits for an adopted job, which is a move."""
    stage.emulator.knobs.update(overwrite_deletes_first=True, running_seconds=20)
    stage.start()
    stage.until(lambda: stage.jobs, "the move is accepted")
    stage.conf |= {"overwrite": True, "copy_only": True}
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()
    if stage.defers:
        stage.until(lambda: stage.killed, "the triggerer's runner is killed")
        replace(stage, "triggerer")


def checks_fail_after_a_lost_response(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 5
    stage.emulator.trouble("lose_reply")
    stage.emulator.trouble("error", method="GET", path=SUBMIT, code=90001, times=0)
    stage.start()


def selection_grows_while_in_flight(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 60
    stage.conf["max_files"] = 5
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()
    stage.until(lambda: stage.killed, "it is killed")
    for number in range(5):
        stage.emulator.add_file(f"new{number}.txt", OTHER_OBJECT, stage.conf["project"])


def volume_inactive_while_in_flight(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 60
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()
    stage.until(lambda: stage.killed, "it is killed")
    stage.emulator.platform.volumes[VOLUME].active = False


def file_leaves_the_selection(stage: Stage) -> None:
    """One file is moved to another project while all are in flight."""
    stage.emulator.knobs.running_seconds = 15
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()
    stage.until(lambda: stage.killed, "it is killed")
    file = stage.emulator.platform.files[min(stage.files)]
    stage.emulator.platform.add_project("demo/elsewhere")
    file.project, file.parent = "demo/elsewhere", stage.emulator.platform.projects["demo/elsewhere"].root_folder


def first_failure_while_others_are_in_flight(stage: Stage) -> None:
    stage.emulator.trouble("job_fails", code=9100)
    stage.emulator.trouble("job_stuck", times=len(stage.files) - 1, after=1, state="RUNNING")
    stage.start()
    stage.until_second_try()
    for job in stage.jobs:
        stage.emulator.release(job.id)


def rejected_but_accepted(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.emulator.trouble("error", code=9011, done=True)
    stage.start()


def rejected_but_accepted_then_killed(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 12
    stage.emulator.trouble("error", code=9011, done=True)
    stage.kill_caller("request", FILES_GET)
    stage.start()


def brief_answer_then_killed(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.emulator.trouble("brief_bulk")
    stage.kill_caller("request", BULK_GET, after=1)
    stage.start()


def brief_answer_whose_jobs_cannot_be_fetched(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.emulator.trouble("brief_bulk")
    stage.emulator.trouble("html", path=BULK_GET, status=404, times=1)
    stage.start()


def shared_poll(stage: Stage, how: str) -> None:
    """The triggerer polls this export together with one of another run, whose id makes the response unreadable."""
    emulator, running = stage.emulator, stage.emulator.knobs.running_seconds
    emulator.knobs.running_seconds = 15
    other = emulator.add_file("spoiled.txt", OTHER_OBJECT)
    stage.stack.trigger(stage.dag_id, {"file": other.id, "location": f"spoiled/{other.id}"})
    stage.until(lambda: any(job.file == other.id for job in emulator.exports), "the other is accepted")
    [job] = [job for job in emulator.exports if job.file == other.id]
    emulator.trouble("spoiled_bulk", path=BULK_GET, ids=job.id, how=how, times=0)
    emulator.knobs.running_seconds = running + 4
    stage.start()


def shared_poll_refused(stage: Stage) -> None:
    shared_poll(stage, "refused")


def shared_poll_without_a_state(stage: Stage) -> None:
    shared_poll(stage, "stateless")


COPY = {"copy_only": True}
COPY_OVER = {"overwrite": True, "copy_only": True}
OVERWRITE = {"overwrite": True}
BULK = ("bulk_deferred", "bulk_waiting")
WAVES = ("waves_deferred", "waves_waiting")
FAST = ("fast_deferred", "fast_waiting")

SCENARIOS = [
    Scenario("killed on receiving the POST", at_the_submission, quick=True, words="ended before the response came"),
    Scenario("killed after acceptance, before the reply", after_acceptance, quick=True, words="waiting for it|is made"),
    Scenario("worker and its supervisor killed after acceptance", worker_and_supervisor, dags=("deferred",)),
    Scenario("killed at the second poll", at_a_poll),
    Scenario(
        "SIGTERM to the task while it waits",
        sigterm_while_waiting,
        dags=("waiting",),
        words="the Platform cannot cancel",
    ),
    Scenario("reply lost", response_lost, words="before submitting again"),
    Scenario("reply lost, accepted late", accepted_late, words="checking once more"),
    Scenario("request lost on the way", never_arrived, words="checking once more"),
    Scenario("triggerer killed and replaced", triggerer_replaced, dags=("deferred",)),
    Scenario("scheduler killed and replaced", scheduler_replaced),
    Scenario("cleared while it waits", cleared_while_it_waits, words="started by an earlier try|waiting for it"),
    Scenario("cleared after success", cleared_after_success, words="adopting it|the move is made"),
    Scenario("marked failed, then cleared", marked_failed_then_cleared, words="adopting it|waiting for it"),
    Scenario("Platform in trouble while it waits", gateway_down_while_waiting, words="Polling failed; still waiting"),
    Scenario(
        "move, overwrite: killed on receiving the POST", at_the_submission, 0, "failed", OVERWRITE, words="in doubt"
    ),
    Scenario("move, overwrite: killed after acceptance", after_acceptance, options=OVERWRITE),
    Scenario("copy: killed on receiving the POST", at_the_submission, options=COPY),
    Scenario("copy: killed after acceptance", after_acceptance, options=COPY),
    Scenario("copy: reply lost", response_lost, options=COPY),
    Scenario("bulk: killed on receiving the second hundred", at_the_second_hundred, dags=BULK),
    Scenario("bulk: killed after its acceptance", after_acceptance_of_the_second_hundred, dags=BULK, quick=True),
    Scenario("bulk: killed between two hundreds", between_two_hundreds, dags=BULK),
    Scenario("bulk: killed in a later wave", in_a_later_wave, dags=WAVES),
    # Before those of many files: a copy is found in at most 5,000 jobs of the history.
    Scenario("copy: killed, source deleted", source_deleted_after_a_kill, options=COPY, posts=1),
    Scenario("bulk: reply of a hundred lost", reply_of_a_hundred_lost, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: reply one item short", reply_one_item_short, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: a hundred accepted late", a_hundred_accepted_late, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: triggerer killed and replaced", triggerer_replaced, dags=("bulk_deferred", "waves_deferred")),
    Scenario("bulk: cleared after success", cleared_after_success, dags=BULK),
    Scenario("bulk: cleared while it waits", cleared_while_it_waits, dags=BULK),
    # Endless failures
    Scenario("gateway in the way for ever", gateway_in_the_way, 0, "failed", dags=("deferred",), posts=16),
    Scenario(
        "overwrite: object locked", object_is_locked, 1, "failed", OVERWRITE, words="object lock", content=OTHER_OBJECT
    ),
    # Clocks and pauses
    Scenario("killed at the POST, clock ahead", at_the_post_clock_ahead),
    Scenario("killed at the POST, clock behind", at_the_post_clock_behind),
    Scenario("maintenance, but accepted", maintenance_but_accepted, posts=1),
    Scenario(
        "paused before the POST", paused_until_the_retry_begins, dags=("pausing",), words="waiting for it|is made"
    ),
    Scenario("paused before the POST for long", paused_until_the_retry_has_ended, dags=("pausing",), posts=1),
    Scenario(
        "move, overwrite: paused at the check",
        paused_at_the_check_until_the_retry_begins,
        options=OVERWRITE,
        dags=("waiting",),
        posts=1,
    ),
    # Wrong lists
    Scenario("killed after acceptance, lists lag", after_acceptance_lists_lag, words="waiting for it", posts=1),
    Scenario("reply lost, lists lag", reply_lost_lists_lag, words="checking once more", posts=1),
    Scenario("killed after acceptance, stale states", after_acceptance_stale_states, words="waiting for it", posts=1),
    # Late reads
    Scenario("triggerer replaced, reads lag", triggerer_replaced_reads_lag, dags=("deferred",), posts=1),
    Scenario("killed after acceptance, files lag", after_acceptance_files_lag, posts=1),
    Scenario("killed at a poll, jobs lag", at_a_poll_jobs_lag, posts=1),
    # The record
    Scenario("killed at the POST, record spoiled", at_the_post_record_spoiled, words="cannot be read", posts=1),
    Scenario(
        "move, overwrite: killed at the POST, record spoiled",
        at_the_post_over_an_object_record_spoiled,
        options=OVERWRITE,
        words="cannot be read",
        posts=1,
    ),
    # The right object
    Scenario(
        "copy: killed, then replaced",
        copy_replaced_after_a_kill,
        1,
        "failed",
        COPY,
        dags=("waiting",),
        words="another export to the same place has ended since",
        content=OTHER_OBJECT,
    ),
    Scenario(
        "killed at the POST, foreign object",
        foreign_object_of_the_same_size,
        0,
        "failed",
        words="already holds an object",
        content=FOREIGN,
    ),
    # Other clients
    Scenario(
        "copy, overwrite: rival after the check",
        other_object_after_the_check,
        0,
        "failed",
        COPY_OVER,
        words="has appeared there since",
        content=OTHER_OBJECT,
    ),
    Scenario(
        "move, overwrite: rival after the check",
        other_object_after_the_check,
        0,
        "failed",
        OVERWRITE,
        words="in doubt",
        content=OTHER_OBJECT,
    ),
    # Messages
    Scenario("reply lost, checks refused", checks_fail_after_a_lost_response, 1, "failed", words="perhaps accepted"),
    Scenario(
        "bulk: selection grows while in flight",
        selection_grows_while_in_flight,
        1,
        "failed",
        dags=("bulk_waiting",),
        many=3,
        words="As an earlier try recorded: Still in flight at the Platform: exports",
    ),
    Scenario(
        "bulk: volume inactive while in flight",
        volume_inactive_while_in_flight,
        1,
        "failed",
        dags=("bulk_waiting",),
        many=3,
        words="As an earlier try recorded: Still in flight",
    ),
    # Copies
    Scenario("copy, overwrite: reply lost, clock behind", reply_lost_clock_behind, options=COPY_OVER, posts=1),
    # An unreadable job in a shared poll
    Scenario("another's id has polls refused", shared_poll_refused, dags=("deferred",), posts=1),
    Scenario("another's id has no state", shared_poll_without_a_state, dags=("deferred",), posts=1),
    # Copy with overwrite onto its own move
    Scenario(
        "copied over its own move", copied_over_its_own_move, 1, "failed", words="alias", posts=1, content=CONTENT
    ),
    Scenario("copied over its own move in flight", copied_over_its_own_move_in_flight, posts=1),
    # The end of a batch
    Scenario(
        "bulk: first failure, others in flight",
        first_failure_while_others_are_in_flight,
        dags=FAST,
        many=5,
        words=r"Still in flight at the Platform: exports",
    ),
    Scenario(
        "bulk: a file leaves the selection",
        file_leaves_the_selection,
        dags=("bulk_waiting",),
        many=5,
        words="An earlier try submitted jobs that this try does not request",
    ),
    Scenario("rejected, but accepted", rejected_but_accepted, posts=1),
    Scenario("rejected, but accepted, then killed", rejected_but_accepted_then_killed, posts=1),
    # Others
    Scenario("bulk: brief answer, then killed", brief_answer_then_killed, dags=("bulk_waiting",), many=5, posts=1),
    Scenario(
        "bulk: brief answer, jobs not fetched", brief_answer_whose_jobs_cannot_be_fetched, dags=BULK, many=5, posts=1
    ),
]
