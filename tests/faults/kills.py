"""Real processes, really killed: scenarios, and what each must end as."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_sb_provider.emulator import Emulator
    from dev.airflow_stack import AirflowStack

SUBMIT = "/v2/storage/exports"
CREATE = "/v2/bulk/storage/exports/create"
BULK_GET = "/v2/bulk/storage/exports/get"
FINAL = ("success", "failed")


@dataclass
class Stage:
    """One run of a task on a real Airflow, which exports a file or many, and what may be done to it.

    ``conf`` are the run's parameters; ``files`` are the ids of what it exports.
    """

    stack: AirflowStack
    emulator: Emulator
    dag_id: str
    conf: dict[str, Any]
    files: set[str]
    run_id: str = ""
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
        return [job for job in self.emulator.exports if job.file in self.files]

    @property
    def posts(self) -> int:
        return sum(self.asks(record) for record in self.emulator.requests)

    def asks(self, record: Any) -> bool:
        """Whether a request asks for exports of this stage's files."""
        if record.method != "POST" or record.path not in (SUBMIT, CREATE):
            return False
        items = record.json["items"] if record.path == CREATE else [record.json]
        return not self.files.isdisjoint(item["source"]["file"] for item in items)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}; the task is {self.task['state']}\n{self.logs()}")
            time.sleep(0.2)

    def until_state(self, *states: str) -> None:
        self.until(lambda: self.task["state"] in states, f"task {' or '.join(states)}")

    def logs(self) -> str:
        tries = range(1, (self.task["try_number"] or 1) + 1)
        return "\n".join(self.stack.task_log(self.dag_id, self.run_id, "export", number) for number in tries)

    def clear(self) -> None:
        body = {
            "validate_only": False,
            "task_ids": ["export"],
            "dag_run_id": self.run_id,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        answer = self.stack.api("POST", f"/dags/{self.dag_id}/clearTaskInstances", json=body)
        assert answer.ok, answer.text

    def mark_failed(self) -> None:
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/export"
        answer = self.stack.api("PATCH", path, json={"new_state": "failed"})
        assert answer.ok, answer.text

    def strike_caller(
        self,
        event: str,
        path: str | None = None,
        *,
        after: int = 0,
        sign: int = signal.SIGKILL,
        parent: bool = False,
        delay: float = 0,
    ) -> None:
        """Kill the process that sends the next request to a path, or that asks for exports, as the Platform sees it.

        :param after: how many such requests come before.
        :param delay: seconds until the blow, so that the request is answered.
        """
        left = {"before": after, "done": False}

        def strike(record: Any) -> bool | None:
            fits = (record.method, record.path) == ("POST", path) if path else self.asks(record)
            if left["done"] or not fits:
                return None
            if left["before"]:
                left["before"] -= 1
                return None
            left["done"] = True
            caller = process_at(record.peer)
            self.killed.append(" ".join(caller.cmdline())[:60] or caller.name())
            above = caller.parent() if parent else None
            if delay:
                threading.Timer(delay, caller.send_signal, [sign]).start()
                return None
            os.kill(caller.pid, sign)
            if above:
                os.kill(above.pid, sign)
            return False if sign == signal.SIGKILL else None

        self.emulator.on(event, strike)


def process_at(peer: tuple[str, int]) -> psutil.Process:
    """Return the process on this machine that holds a loopback port."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == peer[1] and connection.pid and connection.pid != os.getpid():
            return psutil.Process(connection.pid)
    raise AssertionError(f"nobody holds {peer}")


@dataclass(frozen=True)
class Scenario:
    """``submissions`` is how many jobs the Platform must have accepted for each file; ``words`` must be in the log."""

    name: str
    play: Callable[[Stage], None]
    submissions: int = 1
    end: str = "success"
    options: dict[str, Any] = field(default_factory=dict)
    dags: tuple[str, ...] = ("deferred", "waiting")
    quick: bool = False
    words: str = ""


def at_the_post(stage: Stage) -> None:
    stage.strike_caller("request")
    stage.start()


def after_acceptance(stage: Stage) -> None:
    stage.strike_caller("accepted")
    stage.start()


def worker_and_supervisor(stage: Stage) -> None:
    stage.strike_caller("accepted", parent=True)
    stage.start()


def at_a_poll(stage: Stage) -> None:
    stage.emulator.knobs.running_seconds = 8
    stage.strike_caller("request", BULK_GET, after=1)
    stage.start()
    if stage.defers:
        stage.until(lambda: stage.killed, "the triggerer's runner is killed")
        replace(stage, "triggerer")


def sigterm_while_waiting(stage: Stage) -> None:
    stage.strike_caller("request", BULK_GET, sign=signal.SIGTERM)
    stage.start()


def reply_lost(stage: Stage) -> None:
    stage.emulator.trouble("lose_reply")
    stage.start()


def at_the_second_hundred(stage: Stage) -> None:
    stage.strike_caller("request", after=1)
    stage.start()


def after_acceptance_of_the_second_hundred(stage: Stage) -> None:
    stage.strike_caller("accepted", after=1)
    stage.start()


def between_two_hundreds(stage: Stage) -> None:
    stage.strike_caller("accepted", delay=0.03)
    stage.start()


def in_a_later_wave(stage: Stage) -> None:
    stage.strike_caller("accepted", after=2)
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


COPY = {"copy_only": True}
OVERWRITE = {"overwrite": True}
BULK = ("bulk_deferred", "bulk_waiting")
WAVES = ("waves_deferred", "waves_waiting")

SCENARIOS = [
    Scenario("killed on receiving the POST", at_the_post, quick=True, words="ended before the response came"),
    Scenario("killed after acceptance, before the reply", after_acceptance, quick=True, words="waiting for it|is made"),
    Scenario("worker and its supervisor killed after acceptance", worker_and_supervisor, dags=("deferred",)),
    Scenario("killed at the second poll", at_a_poll),
    Scenario(
        "SIGTERM to the task while it waits", sigterm_while_waiting, dags=("waiting",), words="goes on at the Platform"
    ),
    Scenario("reply lost", reply_lost, words="Checking for it before anything else"),
    Scenario("reply lost, accepted late", accepted_late, words="checking once more"),
    Scenario("request lost on the way", never_arrived, words="checking once more"),
    Scenario("triggerer killed and replaced", triggerer_replaced, dags=("deferred",)),
    Scenario("scheduler killed and replaced", scheduler_replaced),
    Scenario("cleared while it waits", cleared_while_it_waits, words="started by an earlier try|waiting for it"),
    Scenario("cleared after success", cleared_after_success, words="adopting it|the move is made"),
    Scenario("marked failed, then cleared", marked_failed_then_cleared, words="adopting it|waiting for it"),
    Scenario("Platform in trouble while it waits", gateway_down_while_waiting, words="in spite of trouble"),
    Scenario("move, overwrite: killed on receiving the POST", at_the_post, 0, "failed", OVERWRITE, words="in doubt"),
    Scenario("move, overwrite: killed after acceptance", after_acceptance, options=OVERWRITE),
    Scenario("copy: killed on receiving the POST", at_the_post, options=COPY),
    Scenario("copy: killed after acceptance", after_acceptance, options=COPY),
    Scenario("copy: reply lost", reply_lost, options=COPY),
    Scenario("bulk: killed on receiving the second hundred", at_the_second_hundred, dags=BULK),
    Scenario("bulk: killed after its acceptance", after_acceptance_of_the_second_hundred, dags=BULK, quick=True),
    Scenario("bulk: killed between two hundreds", between_two_hundreds, dags=BULK),
    Scenario("bulk: killed in a later wave", in_a_later_wave, dags=WAVES),
    Scenario("bulk: reply of a hundred lost", reply_of_a_hundred_lost, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: reply one item short", reply_one_item_short, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: a hundred accepted late", a_hundred_accepted_late, dags=BULK, words=r"exports: 100\)"),
    Scenario("bulk: triggerer killed and replaced", triggerer_replaced, dags=("bulk_deferred", "waves_deferred")),
    Scenario("bulk: cleared after success", cleared_after_success, dags=BULK),
    Scenario("bulk: cleared while it waits", cleared_while_it_waits, dags=BULK),
]
